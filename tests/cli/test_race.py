"""``poolbench race`` as a user gives it: planned, killed, gone on with, ended, asked again."""

import csv
import json
import os
import signal
import time

import pytest

from poolbench.cli.main import main
from poolbench.probing import read_test_later
from poolbench.records.read import read_record
from poolbench.report.race import race_figure
from tests.commands import run_poolbench, start_poolbench
from tests.sweep.tiny import TINY

# A window of 20 pixels does not fit into a map of 16, which is found when the nets are built.
RACE = ["pool=max,average", "pool.kernel_size=2,20", *TINY, "race.looks=[2]", "race.name=tiny", "sweep.workers=1"]
LOST = "pool=max pool.kernel_size=20"


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*.json") if path.name != "status.json"}


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A folder in which a race was planned, killed in its middle and given again; what that printed."""
    folder = tmp_path_factory.mktemp("raced")
    planned = run_poolbench(folder, "race", *RACE, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert list(folder.iterdir()) == []
    process = start_poolbench(folder, "race", *RACE)
    deadline = time.monotonic() + 300
    while not list(folder.glob("runs/*/result.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.finish()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    done = run_poolbench(folder, "race", *RACE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, planned.stdout, before, done.stdout


def test_the_plan_shows_arms_looks_and_the_most_cells(raced):
    _, planned, _, _ = raced
    assert "4 arms: pool=max pool.kernel_size=2, " in planned
    assert "1 epoch: looks after 2 blocks" in planned
    assert "no more than 0.5 points behind" in planned
    assert "at the most 8 cells, when no arm falls; 0 done before" in planned


def test_killed_and_given_again_it_ends_and_trains_nothing_twice(raced):
    folder, _, before, said = raced
    assert before
    after = times(folder)
    assert {path: after[path] for path in before} == before
    assert len(list(folder.glob("runs/*/result.json"))) == 4
    assert "2 left: " in said
    assert f"{LOST} fell: " in said


def test_an_arm_that_cannot_be_built_falls_with_its_reason(raced):
    folder, _, _, _ = raced
    with open(folder / "report/race-tiny/race.csv", newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert len(rows) == 4
    assert rows[LOST]["failed"]
    assert rows[LOST]["left"] == "False"
    assert {row["cells"] for row in rows.values()} == {"0", "2"}
    text = (folder / "report/race-tiny/race.md").read_text()
    for words in ("2 of 4 arms left after 2 blocks", "4 cells of the full budget trained, of the 8", "halve", "95 %"):
        assert words in text, words
    for name in ("race.png", "race.svg", "race.json"):
        assert (folder / "report/race-tiny" / name).stat().st_size


def test_the_test_set_is_read_once_to_the_last_bit_and_kept_beside_the_result(raced, monkeypatch, capsys):
    folder, _, _, _ = raced
    monkeypatch.chdir(folder)
    records = [read_record(path.parent) for path in sorted(folder.glob("runs/*/result.json"))]
    for record in records:
        assert record.result["test_accuracy"] is None
        assert record.numbers["test_accuracy"] is None  # no table takes it for a cell that read its test set
        (member,) = record.probes
        assert member["probe"] == {"test": True}
    before = times(folder)
    assert main(["race", *RACE]) == 0
    assert "to train" not in capsys.readouterr().out.replace("0 cells to train", "")
    assert times(folder) == before
    # The same cell that reads its test set at the end of its training.
    words = ["pool=max", *TINY, "data.validation=0.1", "trainer.threads=1", "runs_dir=at_once"]
    assert main(["run", *words]) == 0
    (at_once,) = [read_record(path.parent) for path in folder.glob("at_once/*/result.json")]
    (own,) = [r for r in records if r.config["seed"] == 0 and r.config["names"]["pool"].startswith("max")]
    for name in ("test_accuracy", "test_loss"):
        assert own.probes[0]["numbers"][name] == pytest.approx(at_once.result[name], abs=1e-6)
    with pytest.raises(ValueError, match="read its test set at the end of its training"):
        read_test_later(at_once)


def test_only_those_that_are_left_are_read(raced, tmp_path, monkeypatch):
    """In a copy one arm is far ahead by its records, so that the other falls."""
    folder, _, _, _ = raced
    monkeypatch.chdir(tmp_path)
    for path in folder.glob("runs/*/*"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "result.json":
            content = json.loads(path.read_text())
            ahead = path.parent.name.startswith("max")
            content["validation_accuracy"] = (0.9 if ahead else 0.1) + 0.001 * ("-s1-" in path.parent.name)
            content["validation_samples"] = 100_000
            copy.write_text(json.dumps(content))
        elif not path.name.startswith("probe-"):
            copy.write_bytes(path.read_bytes())
    assert main(["race", *RACE]) == 0
    read = {path.parent.name for path in tmp_path.glob("runs/*/probe-*.json")}
    assert len(read) == 2
    assert all(name.startswith("max") for name in read)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["race.looks=[5,3]"], "race.looks must be a list of growing whole numbers from 2 to 1,000, as [3, 5, 8], got"),
        (["race.looks=[1,3]"], "race.looks must be"),
        (["race.looks=3,5"], "race.looks takes one value; a list is written race.looks=[2,8]"),
        (["race.difference=0"], "race.difference must be a number between 0 and 100 (points of accuracy), got 0"),
        (["race.epochs=[8]"], "race.epochs must be a list of two or more"),
        (["race.epochs=[1,2]"], "trainer.epochs and race.epochs=[1, 2] are both given"),
        (["race.cheap_difference=2"], "give race.epochs=[2,8] too"),
        (["race.lookz=[3]"], "a race has no option race.lookz. Did you mean 'race.looks'?"),
        (["hours=0"], "hours must be a number above 0, got 0"),
        (["hours=2", "hours=3"], "hours is given twice"),
        (["seeds=3"], "seeds cannot be given to a race"),
        (["trainer.test=true"], "trainer.test cannot be given to a race"),
        (["sweep.max_hours=2"], "hours=N says how long it may take"),
        (["data.validation=0"], "data.validation must be above 0, got 0"),
        (["data.validation=0.1,0.2"], "the arms have different data"),
        (["pool=max"], "a race needs two arms or more, got 1: give several values"),
        (["pool=max,maxx"], "maxx"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pools = [] if any(word.startswith("pool=") for word in words) else ["pool=max,lp"]
    assert main(["race", *pools, *TINY, *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_hours_is_an_option_of_a_race_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *TINY, "hours=2"]) == 2
    assert "hours" in capsys.readouterr().err


def test_a_figure_needs_a_look():
    assert race_figure([], [], "nothing") is None
