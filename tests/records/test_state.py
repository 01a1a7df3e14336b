"""How far a cell is, told from its folder alone, whatever is missing, torn or left behind."""

import json
import subprocess
import sys

import pytest

from poolbench.records import files, ownership
from poolbench.records.state import DAMAGED, DONE, FAILED, INTERRUPTED, NEW, RUNNING, cell_state, record_state

NAME = "max-convnet-shapes-s0-0123456789"
CONFIG = {
    "seed": 0,
    "pool": {"_target_": "poolbench.pooling.MaxPool2d"},
    "data": {"_target_": "poolbench.data.Shapes"},
    "trainer": {"epochs": 2},
    "names": {"pool": "max"},
    "run_id": NAME,
}
STATUS = {"schema_version": 1, "run_id": NAME, "state": "running", "epoch": 1, "epochs": 2, "error": None}
ROWS = [
    {"epoch": 1, "train_loss": 2.5, "validation_loss": None},
    {"epoch": 2, "train_loss": 1.5, "validation_loss": None},
]
RESULT = {"schema_version": 1, "run_id": NAME, "test_accuracy": 0.5, "epochs": 2}


@pytest.fixture
def unfinished(tmp_path):
    """The record of a cell after its first epoch."""
    folder = tmp_path / NAME
    files.write_yaml(folder / "config.yaml", CONFIG)
    files.write_json(folder / "status.json", STATUS)
    files.write_json(folder / "environment.json", {"poolbench": "0"})
    files.write_metrics(folder / "metrics.csv", ROWS[:1])
    (folder / "checkpoint.pt").write_bytes(b"weights")
    return folder


@pytest.fixture
def done(unfinished):
    files.write_metrics(unfinished / "metrics.csv", ROWS)
    files.write_json(unfinished / "result.json", RESULT)
    files.write_json(unfinished / "status.json", {**STATUS, "state": "done", "epoch": 2})
    return unfinished


@pytest.fixture
def dead_claim():
    """What a process that has ended had written into its claim."""
    code = "import sys, pathlib, poolbench.records.ownership as o; o.Ownership(pathlib.Path(sys.argv[1])).acquire()"

    def make(folder):
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
        assert (folder / "claim.0").exists()

    return make


def test_a_cell_without_a_folder_or_with_an_empty_one_is_new(tmp_path, dead_claim):
    assert cell_state(tmp_path / NAME) == NEW
    (tmp_path / NAME).mkdir()
    assert cell_state(tmp_path / NAME) == NEW
    dead_claim(tmp_path / NAME)
    assert cell_state(tmp_path / NAME) == NEW


def test_a_config_without_its_last_line_is_damaged(done):
    path = done / "config.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert record_state(done) == DAMAGED


def test_without_a_result_a_cell_was_interrupted(unfinished):
    assert cell_state(unfinished) == INTERRUPTED
    for name in ("checkpoint.pt", "metrics.csv", "environment.json", "status.json"):
        (unfinished / name).unlink()
        assert cell_state(unfinished) == INTERRUPTED


def test_a_failed_cell_says_so(unfinished):
    files.write_json(unfinished / "status.json", {**STATUS, "state": "failed", "error": "no luck"})
    assert cell_state(unfinished) == FAILED


def test_a_cell_with_a_result_is_done_whatever_its_status_says(done):
    assert cell_state(done) == DONE
    (done / "status.json").unlink()
    (done / "checkpoint.pt").unlink()
    assert cell_state(done) == DONE


def test_a_cell_is_running_while_a_live_process_has_it(unfinished, dead_claim):
    dead_claim(unfinished)
    assert cell_state(unfinished) == INTERRUPTED
    claim = ownership.Ownership(unfinished)
    assert claim.acquire()
    assert cell_state(unfinished) == RUNNING
    assert record_state(unfinished) == INTERRUPTED
    claim.release()
    assert cell_state(unfinished) == INTERRUPTED


def test_done_is_done_even_while_its_owner_lives(done):
    claim = ownership.Ownership(done)
    claim.acquire()
    assert cell_state(done) == DONE


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "metrics.csv", "result.json"])
@pytest.mark.parametrize("how", ["torn", "garbage", "binary"])
def test_a_broken_file_of_a_finished_record_damages_it(done, name, how):
    whole = (done / name).read_bytes()
    broken = {"torn": whole[: len(whole) * 2 // 3], "garbage": b"{]\n1\n", "binary": b"\x80\xff\x00"}[how]
    (done / name).write_bytes(broken)
    assert cell_state(done) == DAMAGED


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "metrics.csv"])
def test_a_missing_file_of_a_finished_record_damages_it(done, name):
    (done / name).unlink()
    assert cell_state(done) == DAMAGED


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_torn_file_of_an_unfinished_record_damages_it(unfinished, name):
    whole = (unfinished / name).read_bytes()
    (unfinished / name).write_bytes(whole[: len(whole) // 2])
    assert cell_state(unfinished) == DAMAGED


@pytest.mark.parametrize("text", ['{"state": "fai', "", "[]", '{"state": "failed", "run_id": "another"}'])
def test_nothing_hangs_on_a_status_that_is_torn(done, text):
    (done / "status.json").write_text(text)
    assert cell_state(done) == DONE
    (done / "result.json").unlink()
    assert cell_state(done) == INTERRUPTED


def test_the_last_row_of_a_killed_training_may_be_torn(unfinished):
    text = (unfinished / "metrics.csv").read_text()
    (unfinished / "metrics.csv").write_text(text + "2,1.")
    assert cell_state(unfinished) == INTERRUPTED


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("result.json", {"run_id": "another"}),
        ("result.json", {"test_accuracy": None}),
        ("result.json", {"epochs": 3}),
        ("result.json", {"schema_version": None}),
    ],
)
def test_files_that_contradict_each_other_damage_a_record(done, name, change):
    files.write_json(done / name, {**json.loads((done / name).read_text()), **change})
    assert cell_state(done) == DAMAGED


def test_a_record_in_a_folder_of_another_name_is_damaged(done):
    assert cell_state(done.rename(done.with_name("lp-convnet-shapes-s0-0123456789"))) == DAMAGED
