"""`poolbench rerun`: the same cell comes out the same, and says so where it does not; `diff` and `prune` beside it."""

import json
import shutil

import pytest
import yaml

import poolbench
from poolbench.cli.main import main
from poolbench.records.collect import write_archive
from poolbench.records.identity import identity
from poolbench.records.read import read_records
from poolbench.sweep.rerun import MAY_CHANGE
from tests.commands import run_poolbench
from tests.report.synthetic import make_config, write_cell

SMALL = ["data.train_samples=60", "data.test_samples=20", "model=convnet_small", "trainer.epochs=2"]
SMALL += ["trainer.batch_size=20", "trainer.threads=1", "pool=custom", "pool._target_=torch.nn.AvgPool2d"]
MINE = "from torch import nn\n\nclass Mine(nn.AvgPool2d):\n    pass\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a small cell was trained."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_poolbench(folder, "run", *SMALL, "+pool.kernel_size=2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """A copy of it to work in, the name of the cell and its folder."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (record,) = (tmp_path / "runs").iterdir()
    return tmp_path, record.name, record


def test_a_rerun_is_the_same_to_the_last_bit_and_one_that_is_not_is_told(work):
    folder, name, record = work
    before = {path.name: path.read_bytes() for path in record.iterdir()}
    done = run_poolbench(folder, "rerun", "AvgPool2d")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same cell, same result to the last bit" in done.stdout
    again = folder / "reruns" / name
    assert (again / "result.json").exists()
    assert {path.name: path.read_bytes() for path in record.iterdir()} == before
    # It is there already: it is compared again, and this time with a record that says something else.
    result = json.loads(before["result.json"])
    (record / "result.json").write_text(json.dumps(result | {"test_loss": result["test_loss"] + 1e-15}))
    stamp = (again / "result.json").stat().st_mtime_ns
    done = run_poolbench(folder, "rerun", name)
    assert done.returncode == 1
    assert "trained there before" in done.stdout
    assert "not the same result" in done.stdout
    assert "test_loss" in done.stdout
    assert (again / "result.json").stat().st_mtime_ns == stamp


def test_a_line_of_an_archive_of_an_older_version_is_trained_where_it_is_told(work):
    folder, name, record = work
    write_archive(read_records(record)[0], folder / "published/records.jsonl")
    line = json.loads((folder / "published/records.jsonl").read_text())
    for option in ("weight_averaging", "alternate_flip", "sizes", "skip_easy", "frozen_statistics", "flip_averaging"):
        del line["config"]["trainer"][option]  # they came later
    (folder / "published/records.jsonl").write_text(json.dumps(line))
    done = run_poolbench(folder, "rerun", f"published:{name}", "--into", "elsewhere", "trainer.device=cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (folder / "elsewhere").iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trainer.epochs=3"], "trainer.epochs cannot be changed"),
        (["pool=max"], "pool cannot be changed"),
        (["seed=1"], "seed cannot be changed"),
        (["names.pool=x"], "names.pool cannot"),
        (["run_id=x"], "run_id cannot"),
        (["data.root=data"], "no such option"),  # shapes are made, they lie nowhere
        (["trainer.threads=0"], "trainer.threads must be"),
        (["trainer.threads=1,2"], "one value"),
        (["trainer.threads=1", "trainer.threads=2"], "given twice"),
        (["trainer.device=tpu"], "trainer.device must be"),
        (["runs_dir=x", "--into", "y"], "which say the same"),
        (["--into", "runs"], "is the record itself"),
        (["--trust", "my pkg"], "names packages"),
    ],
)
def test_what_would_be_another_cell_is_refused_before_any_work(work, arguments, words, capsys):
    folder, name, _ = work
    assert main(["rerun", name, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"runs"}


def test_what_may_be_changed_is_no_part_of_a_cell():
    config = make_config("max", data__download=True, data__mirrors=[], trainer__keep_memory=True)
    for option in MAY_CHANGE:
        group, _, name = option.rpartition(".")
        changed = {**config, group: {**config[group], name: "other"}} if group else {**config, name: "other"}
        assert changed != config
        assert identity(changed) == identity(config), option


def test_a_record_that_is_not_what_it_says_is_refused(work, capsys):
    _, name, record = work
    text = (record / "config.yaml").read_text()
    for change, words in (
        ({"seed": 5}, "somebody changed it"),
        ({"data_fingerprint": "other"}, "is not the record's"),
        ({"extra": 1}, "unknown option 'extra'"),
        ({"head": None}, "has no head"),
        ({"optimizer": {"lr": 1}}, "has no optimizer"),
        ({"schedule": []}, "has no schedule"),
    ):
        (record / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | change))
        assert main(["rerun", name]) == 2
        assert words in capsys.readouterr().err
    (record / "config.yaml").write_text(text)
    (record / "result.json").unlink()
    assert main(["rerun", name]) == 2
    assert "no result to compare with" in capsys.readouterr().err


def test_code_beside_the_work_is_run_when_it_is_trusted_and_only_then(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    arguments = [option for option in SMALL if not option.startswith("pool._target_")]
    done = run_poolbench(tmp_path, "run", *arguments, "pool._target_=mine.Mine", "+pool.kernel_size=2")
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.py").write_text(f"open('sprung', 'w').close()\n{MINE}")
    done = run_poolbench(tmp_path, "rerun", "Mine")
    assert done.returncode == 2
    assert "mine.Mine" in done.stderr
    assert "--trust" in done.stderr
    assert not (tmp_path / "sprung").exists()
    done = run_poolbench(tmp_path, "rerun", "Mine", "--trust", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "sprung").exists()


def test_nothing_is_downloaded_from_where_a_record_says(tmp_path, monkeypatch, capsys):
    """Not even from our own mirrors, unless the user says so."""
    from poolbench.data import cifar, published

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(published, "_send", lambda url, *more, **options: pytest.fail(f"it went to {url}"))
    assert main(["run", "--cfg", "job", "data=cifar10", "data.root=there"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    config["data"] |= {"mirrors": ["http://127.0.0.1:9/evil"], "download": True}
    write_cell(tmp_path / "runs", config)
    assert main(["rerun", config["run_id"]]) == 2
    assert "data.download is false" in capsys.readouterr().err
    asked = []

    def fetch(url, *more, **options):
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr(published, "_send", fetch)
    assert main(["rerun", config["run_id"], "data.download=true"]) == 2
    assert asked == list(cifar.CIFAR10_MIRRORS)
    assert not (tmp_path / "reruns" / config["run_id"]).exists()
    capsys.readouterr()
    for root in ("../there", str(tmp_path / "there"), "~/there", "C:\\there", "\\\\host\\there"):
        config["data"]["root"] = root
        write_cell(tmp_path / "runs", config)
        assert main(["rerun", config["run_id"], "data.download=true"]) == 2
        assert "say yourself where" in capsys.readouterr().err


def test_diff_says_what_differs_for_people_and_scripts(work, capsys):
    folder, name, record = work
    assert main(["diff", name, name]) == 0
    assert capsys.readouterr().out.endswith("Nothing differs.\n")
    other = write_cell(folder / "others", make_config("max", test_accuracy=1.0, run_id="other"))
    assert main(["diff", name, str(other)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.partition("\n\n")[2].splitlines())) <= 80  # above are names and paths, as long as they are
    accuracy = json.loads((record / "result.json").read_text())["test_accuracy"]
    points = 100 * (json.loads((other / "result.json").read_text())["test_accuracy"] - accuracy)
    assert f"b is {points:+.2f} points from a" in text
    assert "pool._target_" in text
    assert main(["diff", f"others:{other.name}", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["test_accuracy_points"] == pytest.approx(-points)
    assert found["config"]["trainer.epochs"] == {"a": 8, "b": 2}
    assert not found["same_cell"]


def test_prune_frees_a_checkpoint_and_load_then_says_so(work, capsys):
    _, name, record = work
    assert poolbench.load(record).classes
    size = (record / "checkpoint.pt").stat().st_size
    assert main(["prune"]) == 0
    text = capsys.readouterr().out
    assert f"would remove: runs/{name}/checkpoint.pt" in text
    assert f"{size / 1e3:.1f} kB" in text
    assert "--yes" in text
    assert (record / "checkpoint.pt").exists()
    assert main(["prune", "runs", "--yes"]) == 0
    assert "1 removed" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="pruned"):
        poolbench.load(record)
    assert main(["status"]) == 0
    assert "1 done" in capsys.readouterr().out
    assert main(["prune"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
