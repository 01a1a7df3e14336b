"""What strangers send, or a broken disk leaves, ends in a sentence: it hangs nothing, fills no memory, leaks nothing.

Each test has a limit of time; a reader that waited, or that read without an end, would reach it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from poolbench import foreign
from poolbench.claims.claim import ClaimError
from poolbench.claims.reading import read_claims
from poolbench.cli.main import main
from poolbench.config_files import ConfigError
from poolbench.data.base import DataError
from poolbench.data.image_folder import ImageFolder
from poolbench.records.collect import collect, write_archive, write_csv
from poolbench.records.overview import folder_rows
from poolbench.records.read import read_records
from poolbench.report import write_report
from poolbench.sweep.plan import make_plan
from poolbench.sweep.tuned import read_entries
from poolbench.training import checkpoint
from tests.report.synthetic import make_config, make_runs, write_cell
from tests.test_untrusted import _sketched, read_everything  # noqa: F401 - figures take a second each to draw
from tests.width import ALL

SECONDS = 60  # of a test; ours take one, on whatever is beside them
SECRET = "do-not-tell-anybody"
MEMBERS = ["config.yaml", "status.json", "result.json", "environment.json", "metrics.csv"]
FILES = [*MEMBERS, "log.txt", "error.txt", "checkpoint.pt", "claim.0", "outcomes.json"]


@pytest.fixture(autouse=True)
def limited():
    def late(*_):
        raise TimeoutError(f"it took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path, folder):
    os.mkfifo(path)


def zero(path, folder):
    path.symlink_to("/dev/zero")


def terminal(path, folder):
    path.symlink_to("/dev/tty")


def made_up(path, folder):
    path.symlink_to("/proc/self/environ")


def plug(path, folder):
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a name may have 100 letters
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def private(path, folder):
    secret = folder / "private" / path.name
    secret.parent.mkdir(exist_ok=True)
    secret.write_text(json.dumps({"secret": SECRET}) if path.suffix == ".json" else f"secret: {SECRET}\n")
    path.symlink_to(secret)


def sparse(path, folder):
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)


KINDS = [pipe, zero, terminal, made_up, plug, private, sparse]
every_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


@every_kind
def test_what_is_no_file_of_a_record_hangs_and_tells_nothing(tmp_path, monkeypatch, capsys, make):
    monkeypatch.setenv("POOLBENCH_SECRET", SECRET)
    runs = make_runs(tmp_path / "runs", ["average"], 1)
    for number, name in enumerate(FILES):
        path = write_cell(runs, make_config("max", number)) / name
        if name == "log.txt" and make is sparse:
            continue  # a log may be as long as it is: it is passed on as it comes
        path.unlink(missing_ok=True)
        make(path, tmp_path)
    text = read_everything(tmp_path, capsys, closely=1 + len(FILES))
    assert "average" in text
    for file in [*(tmp_path / "report").glob("*.*"), *(tmp_path / "archive").iterdir()]:
        text += file.read_bytes().decode("utf-8", "replace")
    assert SECRET not in text


@every_kind
def test_an_archive_that_is_no_file_or_has_no_end_is_one_problem(tmp_path, make):
    runs = make_runs(tmp_path / "runs", ["average"], 1)
    make(runs / "records.jsonl", tmp_path)
    records, problems = read_records(runs)
    assert len(records) == 1
    assert len(problems) <= 1  # a pipe beside records is no archive


def test_archives_are_read_line_by_line_and_lines_have_a_bound(tmp_path):
    runs = make_runs(tmp_path / "runs", ["average"], 2)
    write_archive(read_records(runs)[0], tmp_path / "good.jsonl")
    lines = (tmp_path / "good.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_bytes(lines[0] + b" " * 5_000_000 + lines[1])
    records, (problem,) = read_records(tmp_path / "records.jsonl")
    assert len(records) == 1
    assert str(problem).endswith("line 2 has over 4,000,000 bytes; from there on nothing is read")


HUGE = """
import resource, sys
from poolbench.records.read import read_records
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
records, problems = read_records(sys.argv[1:])
print(len(records), *problems, sep="\\n")
"""


def test_no_size_fills_the_memory(tmp_path):
    runs = make_runs(tmp_path / "runs", ["average"], 1)
    for number, name in enumerate(MEMBERS):
        path = write_cell(runs, make_config("max", number)) / name
        path.unlink()
        sparse(path, tmp_path)
    sparse(tmp_path / "records.jsonl", tmp_path)
    places = [str(runs), str(tmp_path / "records.jsonl")]
    done = subprocess.run([sys.executable, "-c", HUGE, *places], capture_output=True, text=True, timeout=SECONDS)
    first, *problems = done.stdout.splitlines()
    assert (first, len(problems)) == ("2", 5), done.stderr  # a status is no reason
    assert all("3,000,000,000 bytes" in line for line in problems[:4])


# ---- values ----

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**4299, -(10**400), 2**63, 1e29, 1e30, 60**300]))
WORDS = st.one_of(
    st.text(max_size=30), st.sampled_from(["${oc.env:HOME}", "nan", "2024-01-01", "\x1b[2J", "../../x", "max"])
)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
PARTS = ["config", "environment", "result", "status", "metrics"]


def paths_of(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from paths_of(part, (*path, key))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The line of a record in an archive, of a tuned cell with probes."""
    folder = tmp_path_factory.mktemp("good")
    mark = {
        "name": "default",
        "search": "0123abcd",
        "parameters": {"optimizer.lr": "log(0.01,1.0)"},
        "set": {"optimizer.lr": 0.1},
        "trials": 9,
        "rungs": [[9, 1], [3, 3]],
        "sampler": "random",
        "seeds": [1000],
        "validation": 0.1,
        "accuracy": 0.8,
        "recipes": ["0123abcd45"],
    }
    write_cell(folder / "runs", make_config("max", tuned=mark), test_accuracy_rotate_5=0.5, agreement_rotate=0.9)
    write_archive(read_records(folder / "runs")[0], folder / "one.jsonl")
    return json.loads((folder / "one.jsonl").read_text())


@settings(max_examples=600 if ALL else 60)
@given(data=st.data())
def test_a_record_of_any_values_is_a_record_or_one_problem(good, tmp_path_factory, data):
    line = json.loads(json.dumps(good))
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(PARTS))
        path = data.draw(st.sampled_from([path for path in paths_of(line[part])]))
        value, inside = data.draw(PLAIN), line
        for key in (part, *path)[:-1]:
            inside = inside[key]
        inside[(part, *path)[-1]] = value
    folder = tmp_path_factory.mktemp("fuzzed")
    other = json.loads(json.dumps(good))
    other["run_id"] = other["config"]["run_id"] = other["result"]["run_id"] = other["status"]["run_id"] = "other"
    (folder / "records.jsonl").write_text("\n".join(json.dumps(each) for each in (line, other)))
    try:
        records, problems = read_records(folder)
        assert len(records) + len(problems) == 2
        table = collect(records)
        write_csv(table, folder / "cells.csv")
        write_archive(records, folder / "again.jsonl")
        write_report(records, folder / "report")
    finally:
        shutil.rmtree(folder)


TAGS = ["!!timestamp foo", "!!bool foo", '!!int ""', '!!float ""', "!!int 1:2:3", "!!float 1:2.5", "!!null [1]"]
TAGS += [
    "!!map 3",
    "!!seq {a: 1}",
    "!!str [1]",
    "!!set 5",
    "!!omap 7",
    "!!pairs x",
    "!!binary é",
    "!!merge x",
    "!!value x",
]
ODD_YAML = {
    **{tag: f"a: {tag}\n" for tag in TAGS},
    "digits": "a: " + "9" * 200_000 + "\n",
    "hexadecimal": "a: 0x" + "f" * 200_000 + "\n",
    "many values": "a: [" + "1," * 110_000 + "1]\n",
    "many keys": "".join(f"k{n}: 1\n" for n in range(24_000)),
    "deep": "a: " + "[" * 110_000 + "]" * 110_000 + "\n",
    "deep blocks": "".join(f"{' ' * n}a:\n" for n in range(650)) + "\n",
    "laughs": "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]\n" for n in range(200)),
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}]}}\n" for n in range(60)),
    "anchors": "a: [" + ",".join(f"&a{n} 1" for n in range(25_000)) + "]\n",
}


@pytest.mark.parametrize("text", ODD_YAML.values(), ids=ODD_YAML)
def test_odd_yaml_is_a_problem_of_its_file_wherever_it_stands(tmp_path, monkeypatch, capsys, text):
    began = time.process_time()
    runs = make_runs(tmp_path / "runs", ["average"], 1)
    folder = write_cell(runs, make_config("max"))
    with open(folder / "config.yaml", "a") as file:
        file.write(text)
    records, problems = read_records(runs)
    assert len(records) + len(problems) == 2
    monkeypatch.chdir(tmp_path)
    places = {"experiments/x/experiment.yaml": ["plan", "sweep=x"], "experiments/x/claim.yaml": ["reproduce", "x"]}
    places |= {"tuned/default.yaml": ["plan", "optimizer=tuned", "data=shapes"]}
    for place, command in places.items():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(text)
        assert main(command) in (1, 2)
        streams = capsys.readouterr()
        assert "a defect of ours" not in streams.err
        assert len(streams.err) < 2000
        Path(place).unlink()
    assert time.process_time() - began < SECONDS / 2


def test_times_of_day_and_dates_are_text_and_no_numbers_to_the_base_60():
    assert foreign.parsed_yaml("[12:30, 1:2:3, 2024-01-01, 1:30.5]") == ["12:30", "1:2:3", "2024-01-01", "1:30.5"]
    same = "[1, -2, 0x1f, 017, 1_000, 1.5, .5, 1.0e-3, .inf, -.inf, true, no, ~, null, text, 0b11]"
    assert foreign.parsed_yaml(same) == yaml.safe_load(same)


def test_bounds_of_plain_data_are_told():
    for value, words in (
        ({str(n): 1 for n in range(1001)}, "1,001 keys"),
        ([[]] * 100_001, "100,000 values"),
        (10**40, "more than 38 digits"),
    ):
        with pytest.raises(foreign.Unreadable, match=words):
            foreign.parsed_json(json.dumps({"a": value}))
    assert foreign.parsed_json(json.dumps({"seed": 2**63 - 1})) == {"seed": 2**63 - 1}


def test_a_curve_that_lacks_columns_is_shown(tmp_path, capsys):
    folder = write_cell(tmp_path, make_config("max"))
    lines = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.csv").write_text("\n".join(line.split(",")[0] for line in lines) + "\n")
    assert main(["show", str(folder)]) == 0
    assert "\n    1              -           -" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", ["seed", "names", "trainer", "data", "names.pool", "pool._target_", "runs_dir", "a.b"]
)
def test_a_mark_that_names_what_no_search_varies_is_none(tmp_path, good, option):
    line = json.loads(json.dumps(good))
    line["config"]["tuned"] |= {"parameters": {option: "log(1,2)"}, "set": {option: 1}}
    (tmp_path / "records.jsonl").write_text(json.dumps(line))
    report = write_report(tmp_path, tmp_path / "report")
    assert len(report.cells) == 1
    assert "tuned" not in report.cells["setting"][0]


def test_a_folder_of_somebody_else_is_one_problem():
    """Run by nobody, whom modes hold; the administrator they do not."""
    if not hasattr(os, "fork") or os.getuid() != 0:
        pytest.skip("only the administrator can become somebody else")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        runs = make_runs(Path(place) / "runs", ["average"], 1)
        closed = write_cell(runs, make_config("max"))
        closed.chmod(0o700)
        child = os.fork()
        if child == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                records, problems = read_records(runs)
                good = len(records) == 1 and [str(one) for one in problems] == [f"{closed}: Permission denied"]
                states = {row["state"] for row in folder_rows(runs)}
                os._exit(0 if good and states == {"done", "unreadable"} else 1)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


# ---- other files ----


@every_kind
@pytest.mark.parametrize("place", ["experiment.yaml", "claim.yaml"])
def test_an_experiment_that_is_no_file_is_refused(tmp_path, monkeypatch, capsys, make, place):
    folder = tmp_path / "experiments" / "x"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("sweep: [{product: {pool: [max], data: [shapes]}}]\n")
    (folder / "claim.yaml").write_text("[]\n")
    (folder / place).unlink()
    make(folder / place, tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in (["plan", "sweep=x"], ["reproduce", "x"], ["reproduce", "x", "--plan"]):
        code = main(command)
        streams = capsys.readouterr()
        assert code in (1, 2) or (place == "claim.yaml" and command[0] == "plan"), command
        assert "a defect of ours" not in streams.err
        assert SECRET not in streams.out + streams.err or make is private  # whose own text an error may quote


@every_kind
def test_a_memory_of_figures_and_a_tuned_file_that_are_none_are_passed_over_or_refused(tmp_path, monkeypatch, make):
    runs = make_runs(tmp_path / "runs", ["average"], 1)
    (tmp_path / "report").mkdir()
    make(tmp_path / "report" / "report.json", tmp_path)
    assert len(write_report(runs, tmp_path / "report").cells) == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").mkdir()
    make(tmp_path / "tuned" / "default.yaml", tmp_path)
    with pytest.raises((ConfigError, OSError)):
        read_entries("default")


@every_kind
def test_an_image_that_is_no_file_is_named(tmp_path, make):
    from PIL import Image

    root = tmp_path / "images"
    for split in ("train", "test"):
        (root / split / "red").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / split / "red" / "a.png")
    make(root / "train" / "red" / "b.png", tmp_path)
    with pytest.raises(DataError, match=r"b\.png cannot be read as an image"):
        ImageFolder(root=str(root)).check()


def test_a_checkpoint_that_unpacks_to_more_is_not_unpacked(tmp_path):
    import zipfile

    path = tmp_path / "checkpoint.pt"
    torch.save({"run_id": "x"}, path)
    assert checkpoint.read(path, "x") == {"run_id": "x"}
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("archive/data/0", bytes(300_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="unpacks to more than its size"):
        checkpoint.read(path, "x")
    torch.save({"run_id": "x", "more": bytearray(8)}, path)
    with pytest.raises(ValueError, match="asks for empty memory"):
        checkpoint.read(path, "x")


def test_claims_are_bounded_as_all_else(tmp_path):
    (tmp_path / "claim.yaml").write_text("a" * 2_000_000)
    with pytest.raises(ClaimError, match="2,000,000 bytes long"):
        read_claims(tmp_path / "claim.yaml")


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["seeds=1000000000"], "1,000,000,000 cells"),
        (["seed=range(0,1000000000)"], "1,000,000,000 values"),
        (["pool=max,lp", "seeds=60000"], "120,000 cells"),
        (["optimizer.lr=range(0,1,0.000001)"], "1,000,000 values"),
    ],
)
def test_a_sweep_beyond_all_measure_is_refused_with_its_number_of_cells(words, count):
    with pytest.raises(ConfigError, match=f"has {count}, and 100,000 are the most"):
        make_plan(["data=shapes", *words])


# ---- what a cell writes ----


def test_nothing_is_written_through_a_link(tmp_path):
    from poolbench.records import files

    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "cell"
    folder.mkdir()
    for name in ("log.txt", "error.txt", "status.json"):
        (folder / name).symlink_to(precious)
    with pytest.raises(OSError, match=r"log\.txt"), files.logged(folder):
        pass
    files.write_text(folder / "error.txt", "it broke")
    assert precious.read_text() == "mine"
    assert not (folder / "error.txt").is_symlink()


# ---- images ----


def images_at(root: Path, count=2):
    from PIL import Image

    for split in ("train", "test"):
        (root / split / "red").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(root / split / "red" / f"{number}.png")
    return root


def test_each_image_counts_once_however_links_lead_to_it(tmp_path):
    root = images_at(tmp_path / "images")
    red = root / "train" / "red"
    (red / "self").symlink_to(red, target_is_directory=True)
    (red / "again.png").symlink_to("0.png")
    (red / "deep").mkdir()
    for name in ("a", "b"):
        (red / "deep" / name).symlink_to(red / "deep", target_is_directory=True)
    assert ImageFolder(root=str(root)).info().train_samples == 2


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", b"\x00" * 100])
def test_no_program_is_run_for_an_image_and_only_named_kinds_are_read(tmp_path, content):
    root = images_at(tmp_path / "images")
    (root / "train" / "red" / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png cannot be read as an image: it is empty or none of BMP, GIF, JPEG"):
        ImageFolder(root=str(root)).check()


def test_an_image_of_more_than_100_megapixels_is_refused_before_it_is_decoded(tmp_path):
    from PIL import Image

    root = images_at(tmp_path / "images")
    Image.new("1", (20_000, 5_001)).save(root / "train" / "red" / "large.png")
    with pytest.raises(DataError, match=r"large\.png cannot be read as an image: it has 100 megapixels, and 100 are"):
        ImageFolder(root=str(root)).load(0)
