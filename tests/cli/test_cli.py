"""The commands as a user gives them, on a small set of shapes."""

import json
import shutil
import socket

import numpy as np
import pytest
import torch

import poolbench
from poolbench.cli.main import COMMANDS, main
from poolbench.records import processes
from tests.commands import run_poolbench

SMALL = [
    "data=shapes",
    "data.train_samples=300",
    "data.test_samples=100",
    "model=convnet_small",
    "trainer.epochs=2",
    "trainer.batch_size=50",
    "trainer.threads=1",
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which a small sweep was run by the real command, and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    done = run_poolbench(folder, "sweep", "pool=max,average", "seeds=2", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert poolbench.__version__ in capsys.readouterr().out
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_a_sweep_shows_progress_a_table_and_its_files(swept):
    folder, text = swept
    assert "[4/4]" in text  # epochs of cells as quick as these pass between two looks
    for words in ("max", "average", "test acc", "diff", "parameters", "MFLOPs", "95 %", "report/grid-pool-"):
        assert words in text, words
    (report,) = (folder / "report").glob("grid-pool-*")
    names = {path.name for path in report.iterdir()}
    wanted = {"cells.csv", "summary.csv", "summary.md"} | {
        f"{name}.{kind}" for name in ("accuracy", "curves", "cost") for kind in ("png", "svg")
    }
    assert wanted <= names


def test_nothing_is_trained_twice(swept):
    folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*")}
    again = run_poolbench(folder, "sweep", "pool=max,average", "seeds=2", *SMALL)
    assert again.returncode == 0
    assert "4 cells, 4 done before" in again.stdout
    assert "test acc" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*")}


def test_what_a_worker_left_that_was_killed_after_its_last_word_is_tidied(swept):
    folder, _ = swept
    cell = sorted((folder / "runs").glob("*-s0-*"))[0]
    dead = {"host": socket.gethostname(), "boot": processes.boot_id(), "pid": 2**22 + 1, "start": 1.0}
    (cell / "claim.0").write_text(json.dumps(dead))
    (cell / ".status.json.1-abcdef.tmp").write_text("{")
    result = (cell / "result.json").read_bytes()
    assert run_poolbench(folder, "sweep", "pool=max,average", "seeds=2", *SMALL).returncode == 0
    assert not list(cell.glob("claim.*"))
    assert not list(cell.glob(".*"))
    assert (cell / "result.json").read_bytes() == result


def test_adding_a_seed_trains_only_the_new_cells(swept, monkeypatch, capsys):
    folder, _ = swept
    monkeypatch.chdir(folder)
    assert main(["plan", "pool=max,average", "seeds=3", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "6 cells: 4 done, 2 new" in text


def test_a_record_holds_what_it_should(swept):
    folder, _ = swept
    records = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    assert len(records) == 4
    for record in records:
        files = {path.name for path in record.iterdir()}
        assert files == {
            "config.yaml",
            "status.json",
            "metrics.csv",
            "result.json",
            "environment.json",
            "checkpoint.pt",
            "outcomes.json",
            "log_probabilities.npy",
            "log.txt",
        }
        result = json.loads((record / "result.json").read_text())
        assert result["run_id"] == record.name
        assert 0 <= result["test_accuracy"] <= 1
        assert result["train_flops"] == 3 * result["forward_flops"] * result["images_seen"]
        assert result["images_seen"] == 2 * 300
        assert len((record / "metrics.csv").read_text().splitlines()) == 3


def test_status_plain_and_json(swept, capsys):
    folder, _ = swept
    assert main(["status", str(folder / "runs")]) == 0
    assert "4 cells: 4 done" in capsys.readouterr().out
    assert main(["status", str(folder / "runs"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["done"] * 4


def test_report_and_collect_from_folders_and_archives(swept, tmp_path, capsys):
    folder, _ = swept
    assert main(["collect", str(folder / "runs"), "--output", str(tmp_path / "archive")]) == 0
    assert main(["report", str(folder / "runs"), "--output", str(tmp_path / "a")]) == 0
    assert main(["report", str(tmp_path / "archive/records.jsonl"), "--output", str(tmp_path / "b")]) == 0
    assert "average" in capsys.readouterr().out
    assert (tmp_path / "a/summary.csv").read_bytes() == (tmp_path / "b/summary.csv").read_bytes()
    assert (tmp_path / "a/accuracy.svg").read_bytes() == (tmp_path / "b/accuracy.svg").read_bytes()


def test_show_finds_a_record_by_its_hash(swept, capsys):
    folder, _ = swept
    name = next(path.name for path in (folder / "runs").iterdir() if path.name.startswith("max"))
    assert main(["show", name.rpartition("-")[2], "--runs-dir", str(folder / "runs")]) == 0
    text = capsys.readouterr().out
    assert name in text
    assert "test_accuracy" in text
    assert "kernel_size: 2" in text


def test_load_gives_the_trained_model_back(swept):
    folder, _ = swept
    record = next(path for path in (folder / "runs").iterdir() if path.name.startswith("average"))
    trained = poolbench.load(record)
    from poolbench.assembly import component

    block = dict(trained.config["data"])
    images = component("data", block)().load(trained.config["seed"])
    with torch.no_grad():
        logits = trained.model(trained.transform(images.test_images))
    accuracy = (logits.argmax(1) == images.test_labels).double().mean().item()
    assert accuracy == pytest.approx(json.loads((record / "result.json").read_text())["test_accuracy"], abs=1e-9)
    one = trained.transform(np.asarray(images.test_images[0]))
    assert one.shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="uint8"):
        trained.transform(np.zeros((2, 3, 32, 32)))


@pytest.mark.parametrize("name", ["result.json", "config.yaml", "environment.json"])
def test_a_record_truncated_by_hand_is_set_aside_and_trained_again(swept, tmp_path, name):
    folder, _ = swept
    record = next(path for path in sorted((folder / "runs").iterdir()) if path.name.startswith("max"))
    shutil.copytree(record, tmp_path / "runs" / record.name)
    torn = tmp_path / "runs" / record.name / name
    torn.write_bytes(torn.read_bytes()[: len(torn.read_bytes()) // 2])
    seed = record.name.split("-s")[-1][0]
    done = run_poolbench(tmp_path, "run", "pool=max", f"seed={seed}", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "set aside" in done.stdout
    assert (tmp_path / "runs" / f"{record.name}.damaged-1" / name).exists()
    again = json.loads((tmp_path / "runs" / record.name / "result.json").read_text())
    assert again["test_loss"] == json.loads((record / "result.json").read_text())["test_loss"]


def test_a_custom_pool_beside_the_work(tmp_path):
    (tmp_path / "mypools.py").write_text(
        "import torch.nn.functional as F\nfrom torch import nn\n\n"
        "class Median(nn.Module):\n"
        "    def __init__(self, channels, size=2):\n        super().__init__()\n        self.size = size\n"
        "    def forward(self, x):\n        return F.avg_pool2d(x, self.size)\n"
    )
    arguments = ["pool=custom", "pool._target_=mypools.Median", "+pool.size=2", *SMALL, "trainer.epochs=1"]
    done = run_poolbench(tmp_path, "run", *arguments[:-1], "trainer.epochs=1")
    assert done.returncode == 2  # trainer.epochs is in SMALL already: given twice
    assert "given twice" in done.stderr
    done = run_poolbench(
        tmp_path, "sweep", *arguments[:3], *(o for o in SMALL if "epochs" not in o), "trainer.epochs=1"
    )
    assert done.returncode == 0, done.stderr
    assert "Median" in done.stdout
