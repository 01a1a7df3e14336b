"""What somebody else wrote is data: no reader runs anything of it, breaks on it, or lets it reach out of its folder."""

import contextlib
import csv
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from poolbench import report as reports
from poolbench.cli.main import main
from poolbench.records.collect import collect, write_archive, write_csv
from poolbench.records.read import RecordError, read_record, read_records
from poolbench.report import plots, write_report
from poolbench.training import checkpoint
from tests.report.synthetic import make_config, make_runs, write_cell

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
BAD_NAMES = {
    "upwards": "../../../x",
    "absolute": "/tmp/poolbench_escaped",
    "windows": "..\\..\\x",
    "nul": "max\0x",
    "long": "x" * 5000,
    "newlines": "max\n# heading\r\nnext",
    "dots": "..",
    "empty": "",
    "terminal": f"max{ESCAPE}",
    "bidi": "max\u202egnp.exe",
    "surrogate": "max\ud800",
    "mathtext": r"$\frac{$",
    "dollars": "$x^$",
    "formula": '=HYPERLINK("http://x","y")',
    "underscore": "_hidden",
}


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that anybody could import; the file that importing or calling anything of it leaves behind."""
    sprung = tmp_path / "sprung"
    (tmp_path / "trap_of_untrusted.py").write_text(
        f"open({str(sprung)!r}, 'w').close()\ndef spring(*a, **k):\n    open({str(sprung)!r}, 'w').close()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("POOLBENCH_SECRET", "do-not-tell")
    yield sprung
    assert not sprung.exists()
    assert "trap_of_untrusted" not in sys.modules


@pytest.fixture(autouse=True)
def _sketched(request, monkeypatch):
    """Figures take a second each to draw: here it is their names that count, but for the tests marked as drawing."""
    if request.node.get_closest_marker("usefixtures") is not None:
        return

    def sketch(figure, stem, suffixes=plots.SUFFIXES):
        paths = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        for path in paths:
            path.write_bytes(b"")
        return paths

    for room, name in ((plots, "accuracy_figure"), (reports, "curves_figure"), (plots, "cost_figure")):
        monkeypatch.setattr(room, name, lambda *data: "figure")
    monkeypatch.setattr(plots, "save", sketch)


@pytest.fixture
def drawn():
    """For tests whose figures are drawn in earnest."""


def outside(folder: Path) -> set[str]:
    """All that lies in ``folder`` but in its runs, report and archive."""
    own = {folder / name for name in ("runs", "report", "archive")}
    return {str(path) for path in folder.rglob("*") if not own & {path, *path.parents}}


def rewrite(path: Path, option: str, value) -> None:
    """Set the dotted ``option`` of a file of a record, as somebody would who made the record up; JSON is YAML too."""
    content = yaml.safe_load(path.read_text())
    *parts, last = option.split(".")
    part = content
    for key in parts:
        part = part[key]
    part[last] = value
    path.write_text(json.dumps(content))


def read_everything(folder: Path, capsys, closely: int = 2) -> str:
    """Every command that reads records, on ``folder``/runs, and so many of them one by one; returns all that they
    printed, and what they wrote as text.

    Each may refuse, in a message; none may crash, nor write elsewhere than it was told.
    """
    runs, before = folder / "runs", outside(folder)
    commands = [["status", str(runs)], ["status", str(runs), "--json"], ["report", str(runs)]]
    commands[-1] += ["--output", str(folder / "report")]
    commands.append(["collect", str(runs), "--output", str(folder / "archive")])
    records = sorted(path for path in runs.iterdir() if path.is_dir())
    for record in records[:closely]:
        commands += [["show", str(record)], ["logs", str(record)], ["diff", str(record), str(records[-1])]]
        commands += [["prune", str(record)]]
    said = ""
    for command in commands:
        code = main(command)
        assert code in (0, 1, 2), command
        streams = capsys.readouterr()
        assert "a defect of ours" not in streams.err, (command, streams.err)
        assert "Traceback" not in streams.out + streams.err
        assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", streams.out + streams.err) is None, command
        if command[0] == "status" and command[-1] == "--json":
            json.loads(streams.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        said += streams.out + streams.err
    assert outside(folder) == before
    return said


# ---- code ----


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def torch_file(path: Path, value) -> None:
    torch.save(value, path)


def legacy_file(path: Path, value) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, value) -> None:
    path.write_bytes(pickle.dumps(value))


def zip_with_pickle(path: Path, value) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value))
        archive.writestr("archive/version", "3")


@pytest.mark.parametrize("write", [torch_file, legacy_file, bare_pickle, zip_with_pickle])
def test_a_checkpoint_runs_nothing(tmp_path, write):
    path, sprung = tmp_path / "checkpoint.pt", tmp_path / "sprung"
    write(path, {"run_id": "x", "model": Malicious(str(sprung))})
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read"):
        checkpoint.read(path, "x")
    assert not sprung.exists()
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)  # a check of the check: without care it does run
    assert sprung.exists()


def test_no_file_is_unpickled_with_trust(repo_root):
    pickles = r"^\s*(import|from) (pickle|dill|cloudpickle|joblib|marshal|shelve)\b"
    for path in (repo_root / "poolbench").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text, path
        # The contract copies a pool so, and a net is handed to a child process through a pipe: neither is a file.
        of_ours = path.parent.name == "testing" or path.name == "net_speed.py"
        assert of_ours or re.search(pickles, text, re.MULTILINE) is None, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        assert re.search(r"yaml\.(unsafe_load|full_load|UnsafeLoader|FullLoader|Loader\b)", text) is None, path


@pytest.mark.parametrize("part", ["pool", "head", "model", "data", "optimizer", "schedule", "trainer"])
def test_a_target_is_never_imported_by_reading(tmp_path, trap, capsys, part):
    make_runs(tmp_path / "runs", ["average"], 1)
    config = make_config("max")
    config[part] = {**config[part], "_target_": "trap_of_untrusted.spring", "inner": [{"_target_": "os.system"}]}
    write_cell(tmp_path / "runs", config)
    text = read_everything(tmp_path, capsys)
    assert "2 done" in text


@pytest.mark.parametrize(
    "value",
    ["${oc.env:POOLBENCH_SECRET}", "${oc.decode:'1'}", "${hydra:runtime.cwd}", "${seed}", "{{ 7 * 7 }}", "%(seed)s"],
)
def test_interpolations_are_text(tmp_path, trap, capsys, value):
    make_runs(tmp_path / "runs", ["average"], 1)
    write_cell(tmp_path / "runs", make_config(value, pool__kernel_size=value, runs_dir=value, data__root=value))
    text = read_everything(tmp_path, capsys)
    for path in [*(tmp_path / "report").glob("*.*"), *(tmp_path / "archive").iterdir()]:
        text += path.read_bytes().decode("utf-8", "replace")
    assert "do-not-tell" not in text
    assert value in text


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [{sprung}]",
        "!!python/object/new:trap_of_untrusted.spring []",
        "!!python/name:trap_of_untrusted.spring",
        "!!python/module:trap_of_untrusted",
        "!!python/tuple [1]",
    ],
)
def test_yaml_tags_make_a_record_unreadable_and_nothing_else(tmp_path, trap, capsys, tag):
    make_runs(tmp_path / "runs", ["average"], 1)
    folder = write_cell(tmp_path / "runs", make_config("max"))
    with open(folder / "config.yaml", "a") as file:
        file.write(f"extra: {tag.format(sprung=trap)}\n")
    with pytest.raises(RecordError, match=r"config\.yaml cannot be parsed"):
        read_record(folder)
    text = read_everything(tmp_path, capsys)
    assert "1 damaged, 1 done" in text


def test_a_folder_of_records_brings_no_modules_along(tmp_path):
    """Looking at records in their folder imports none of the .py files that lie there."""
    make_runs(tmp_path / "runs", ["max"], 1)
    for name in ("yaml", "pandas", "rich", "numpy", "omegaconf", "hydra", "torch"):
        (tmp_path / f"{name}.py").write_text("open('sprung', 'w').close()\n")
    for command in (["status"], ["show", "max"], ["prune"], ["diff", "max", "max"], ["logs", "max"]):
        done = subprocess.run(
            [sys.executable, "-m", "poolbench", *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()


# ---- values ----

WRONG = [None, True, -1, 1.5, 10**400, float("nan"), float("inf"), 1e308, "text", [], [[1]], {}, {"a": {"b": 1}}]
FIELDS = [
    *(("config.yaml", name) for name in ("seed", "pool", "head", "model", "data", "optimizer", "trainer", "names")),
    *(("config.yaml", name) for name in ("run_id", "runs_dir", "report_dir", "data_fingerprint", "probe")),
    *(("config.yaml", f"names.{name}") for name in ("pool", "model")),
    *(("config.yaml", f"trainer.{name}") for name in ("epochs", "batch_size", "precision")),
    *(("config.yaml", f"data.{name}") for name in ("validation", "root")),
    *(("result.json", name) for name in ("run_id", "test_accuracy", "test_loss", "train_accuracy")),
    *(("result.json", name) for name in ("validation_accuracy", "parameters", "forward_flops", "train_flops")),
    *(("result.json", name) for name in ("epochs", "train_seconds", "cell_seconds", "images_per_second")),
    *(("result.json", name) for name in ("peak_memory_bytes", "resumed", "mixed_environment", "finished", "probe")),
    *(("result.json", name) for name in ("group", "seed", "pool", "state", "setting", "")),
    *(("result.json", name) for name in ("test_accuracy_rotate_5", "agreement_rotate")),
    *(("environment.json", name) for name in ("fingerprint", "cpu", "threads", "dirty", "commit", "torch", "device")),
    *(("status.json", name) for name in ("state", "epoch", "epochs", "share_done", "train_accuracy")),
    *(("status.json", name) for name in ("seconds_left", "error", "images_per_second", "host", "started")),
    *(("status.json", name) for name in ("updated", "pid", "run_id")),
]


@pytest.mark.parametrize("fields", [FIELDS[start : start + 8] for start in range(0, len(FIELDS), 8)], ids=str)
def test_a_field_of_any_kind_breaks_no_table(tmp_path, fields):
    """The record is read or it is a problem; the others are tabulated either way, and theirs is not touched."""
    runs = make_runs(tmp_path / "runs", ["average"], 2)
    wrong = [(file, field, value) for file, field in fields for value in WRONG]
    for number, (file, field, value) in enumerate(wrong):
        folder = write_cell(runs, make_config("max", 10 + number, pool__odd=number))
        rewrite(folder / file, field, value)
    records, problems = read_records(runs)
    assert len(records) + len(problems) == 2 + len(wrong)
    table = collect(records)
    write_csv(table, tmp_path / "cells.csv")
    write_archive(records, tmp_path / "records.jsonl")
    again, more = read_records(tmp_path / "records.jsonl")
    assert (len(again), more) == (len(records), [])
    own = table[table["pool"] == "average"]
    assert sorted(own["seed"]) == [0, 1]
    assert own["test_accuracy"].between(0.7, 0.9).all()
    assert main(["status", str(runs)]) == 0


@pytest.mark.parametrize("value", [-0.1, 1.5, 82, "0.8", True], ids=repr)
def test_an_accuracy_that_cannot_be_is_a_problem(tmp_path, value):
    write_cell(tmp_path, make_config("max"), test_accuracy=value)
    records, problems = read_records(tmp_path)
    assert records == []
    assert "test_accuracy" in str(problems[0])


def test_a_curve_of_any_kind_breaks_no_report(tmp_path, capsys):
    runs = make_runs(tmp_path / "runs", ["average"], 2)
    lines = []
    for number, value in enumerate([*WRONG, "nan"]):
        folder = write_cell(tmp_path / "others", make_config("max", 10 + number))
        (record,), _ = read_records(folder)
        write_archive([record], tmp_path / "one.jsonl")
        content = json.loads((tmp_path / "one.jsonl").read_text())
        content["metrics"][3] |= {"train_accuracy": value, "run_id": "other", "pool": value, "seed": value}
        lines.append(json.dumps(content))
    (runs / "records.jsonl").write_text("\n".join(lines))
    read_everything(tmp_path, capsys)
    shutil.rmtree(tmp_path / "others")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(8 * [f'*{a}'])}]\n" for a, b in itertools.pairwise("abcdefghi")
)
ODD = {
    "billion laughs": LAUGHS,
    "holds itself": "a: &a [*a]\n",
    "deep": "a: " + "[" * 900 + "]" * 900 + "\n",
    "deep maps": "a: " + "{b: " * 60 + "1" + "}" * 60 + "\n",
    "binary": "a: !!binary aGVsbG8=\n",
    "set": "a: !!set {x}\n",
    "list as key": "? [1, 2]\n: x\n",
    "number as key": "1.5: x\n",
    "huge": "a: " + "9" * 5000 + "\n",
}


@pytest.mark.parametrize("yaml_text", ODD.values(), ids=ODD)
def test_configs_that_are_no_plain_data_of_a_sensible_size_are_problems(tmp_path, yaml_text, capsys):
    make_runs(tmp_path / "runs", ["average"], 1)
    folder = write_cell(tmp_path / "runs", make_config("max"))
    with open(folder / "config.yaml", "a") as file:
        file.write(yaml_text)
    text = read_everything(tmp_path, capsys)
    assert "1 damaged, 1 done" in text


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "result.json", "metrics.csv", "environment.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "bytes"])
def test_files_that_are_none_do_not_hang_or_break_a_reader(tmp_path, name, kind, capsys):
    make_runs(tmp_path / "runs", ["average"], 1)
    path = write_cell(tmp_path / "runs", make_config("max")) / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.write_bytes(bytes(range(256)) * 300)
    text = read_everything(tmp_path, capsys)
    assert "average" in text


@pytest.mark.parametrize("claim", [b"", b"[]", b"null", b'{"pid": "../../x"}', b'{"host": 3, "pid": [1]}', b"\xff"])
def test_claims_of_any_kind_break_no_reader(tmp_path, claim, capsys):
    make_runs(tmp_path / "runs", ["average"], 1)
    folder = write_cell(tmp_path / "runs", make_config("max"), state="running")
    (folder / "claim.0").write_bytes(claim)
    (folder / "claim.99999999999999999999").write_bytes(claim)
    read_everything(tmp_path, capsys)


# ---- names ----


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_never_become_paths_nor_commands_of_a_terminal(tmp_path, name, capsys):
    """A record with such names is tabulated under a harmless one, or left out; everything stays in its folder."""
    inner = tmp_path / "a" / "b" / "c"  # so that ../../x would be seen
    make_runs(inner / "runs", ["average", "max"], 2)
    for seed in range(2):
        folder = write_cell(inner / "runs", make_config("lp", seed, head__odd=1, run_id=f"odd-s{seed}"))
        (folder / "error.txt").write_text(f"{name}\n", encoding="utf-8", errors="replace")
        for part in ("pool", "head"):
            rewrite(folder / "config.yaml", f"names.{part}", name)
    # In an archive it may be anything that JSON can say.
    write_archive(read_records(inner / "runs")[0][:1], inner / "runs/records.jsonl")
    line = json.loads((inner / "runs/records.jsonl").read_text())
    line["run_id"] = line["config"]["run_id"] = line["result"]["run_id"] = line["status"]["run_id"] = "archived"
    line["config"]["names"] |= {"pool": name, "head": name}
    line["config"]["head"]["odd"] = name
    (inner / "runs/records.jsonl").write_text(json.dumps(line))
    before = {path for path in tmp_path.rglob("*") if inner not in {path, *path.parents}}
    read_everything(inner, capsys)
    assert {path for path in tmp_path.rglob("*") if inner not in {path, *path.parents}} == before
    assert not Path("/tmp/poolbench_escaped").exists()
    figures = sorted(path.name for path in (inner / "report").iterdir())
    assert sum(figure.startswith("accuracy") for figure in figures) >= 2
    assert all(len(figure) < 200 and re.fullmatch(r"[A-Za-z0-9_.=+-]+", figure) for figure in figures)


@pytest.mark.usefixtures("drawn")
def test_names_of_any_kind_can_be_drawn(tmp_path):
    runs = make_runs(tmp_path / "runs", ["max"], 2)
    for number, name in enumerate(BAD_NAMES.values()):
        folder = write_cell(runs, make_config("lp", number % 2, pool__p=number, run_id=f"odd{number}"))
        rewrite(folder / "config.yaml", "names.pool", name)
    report = write_report(runs, tmp_path / "report")
    assert {path.name for path in report.drawn} == {
        f"{name}{suffix}" for name in ("accuracy", "curves", "cost") for suffix in plots.SUFFIXES
    }
    assert len(report.summary) >= len(BAD_NAMES) - 2  # the longest and the surrogate are no names


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_run_id_never_becomes_a_path(tmp_path, name, capsys):
    inner = tmp_path / "a" / "b" / "c"
    make_runs(inner / "runs", ["average"], 2)
    folder = write_cell(inner / "runs", make_config("max", run_id="plain"))
    for file in ("config.yaml", "result.json", "status.json"):
        rewrite(folder / file, "run_id", name)
    before = {path for path in tmp_path.rglob("*") if inner not in {path, *path.parents}}
    text = read_everything(inner, capsys)
    assert {path for path in tmp_path.rglob("*") if inner not in {path, *path.parents}} == before
    assert "1 damaged, 2 done" in text
    assert main(["prune", str(inner / "runs"), "--yes", "--damaged", "--logs"]) == 0
    assert (folder / "result.json").exists()


def test_a_rerun_goes_where_it_is_told_whatever_the_record_says(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = {"runs_dir": "/tmp/poolbench_escaped", "report_dir": "../..", "seed": "../../x"}
    for key, value in hostile.items():
        config = make_config("max", run_id="plain", **{key: value} if key != "seed" else {})
        config[key] = value
        write_cell(tmp_path / "runs", {**config, "seed": 0})
        (tmp_path / "runs/plain/config.yaml").write_text(yaml.safe_dump(config))
        assert main(["rerun", "plain"]) == 2
        assert not (tmp_path / "reruns").exists()
    assert not Path("/tmp/poolbench_escaped").exists()
    capsys.readouterr()


@pytest.mark.parametrize("place", ["pool", "head", "model", "data", "optimizer", "schedule"])
def test_a_rerun_imports_nothing_that_is_not_trusted(tmp_path, trap, capsys, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    for change in (
        {"_target_": "trap_of_untrusted.spring"},
        {"_target_": "os.system", "command": f"touch {trap}"},
        {"_target_": "torch.hub.load", "repo_or_dir": "somebody/something"},
        {"inner": {"deeper": [{"_target_": "trap_of_untrusted.spring"}]}},
    ):
        config = make_config("max", run_id="plain")
        config["pool"]["_target_"] = "poolbench.pooling.MaxPool2d"
        config[place] = {**config[place], **change}
        write_cell(tmp_path / "runs", config)
        assert main(["rerun", "plain"]) == 2
        error = capsys.readouterr().err
        assert f"{place}." in error
        assert "--trust" in error
    assert not (tmp_path / "reruns").exists()


@pytest.mark.usefixtures("drawn")
def test_text_of_a_record_is_text_in_every_file_of_the_report(tmp_path):
    name = "<script>alert(1)</script>![x](http://x/y)[z]: a|b\\| ~^^5cinput{x} \\input{x} $x$ &lt;b&gt; <http://x>"
    make_runs(tmp_path / "runs", ["max"], 2)
    for seed in range(2):
        write_cell(tmp_path / "runs", make_config("lp", seed, names__pool=name, run_id=f"odd-s{seed}"))
    write_report(tmp_path / "runs", tmp_path / "report", formats=("csv", "md", "html", "latex"))
    markdown = (tmp_path / "report/summary.md").read_text()
    assert not re.search(r"<[A-Za-z/!?]", markdown)
    tables, figures = markdown.split("\n## Figures\n")
    assert "](" not in re.sub(r"\\\]", "", tables)
    assert all(re.fullmatch(r"!\[[^\[\]]*\]\([a-z_]+\.png\)", line) for line in figures.splitlines() if line)
    assert "&lt;b" not in markdown.replace("&lt;b&gt;", "", markdown.count("&amp;lt;b"))
    (row,) = [line for line in markdown.splitlines() if line.startswith("| &lt;script")]
    header = next(line for line in markdown.splitlines() if line.startswith("| pool"))
    cells = re.sub(r"\\.", "", row).count("|")  # what is escaped is no border
    assert cells == header.count("|")
    latex = (tmp_path / "report/summary.tex").read_text()
    (row,) = [line for line in latex.splitlines() if "script" in line]
    assert "\\input" not in row
    plain = re.sub(r"\\text[a-z]+\{\}|~\$\\pm\$~|\{[][*'`]\}", "", row)  # commands and braces of ours
    assert re.search(r"(?<!\\)[#%^~{}_]", plain) is None
    svg = (tmp_path / "report/accuracy.svg").read_text()
    assert "<script" not in svg


def test_cells_of_a_spreadsheet_are_no_formulas(tmp_path):
    for seed, name in enumerate(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "plain"]):
        write_cell(tmp_path / "runs", make_config("lp", seed, names__pool=name, run_id=f"x{seed}"), **{"=odd": name})
    records, _ = read_records(tmp_path / "runs")
    write_csv(collect(records), tmp_path / "cells.csv")
    with open(tmp_path / "cells.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 8
    for row in rows:
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or float(cell) < 0


def test_a_memory_of_figures_removes_nothing_elsewhere(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"")
    make_runs(tmp_path / "runs", ["max"], 1)
    (tmp_path / "report").mkdir()
    empty = "e3b0c44298fc1c14"  # begins SHA-256 of nothing
    for file in ("../precious", str(precious)):
        figures = {"gone": {"drawn_from": "", "files": {file: empty}}}
        (tmp_path / "report/report.json").write_text(json.dumps({"schema_version": 1, "figures": figures}))
        write_report(tmp_path / "runs", tmp_path / "report")
        assert precious.exists()
