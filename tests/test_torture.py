"""A sweep that is tortured ends as if it had been left in peace; and what torture looks for, it finds."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from poolbench.records import files
from tests.commands import run_poolbench

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import torture
import torture_acts
import torture_checks
import torture_sweeps
from torture_sweeps import BETWEEN, FIRST, LAST, STARTING, Torment

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")

CELLS = torture._options(torture.SWEEP, torture.SHORT, ["trainer.epochs=4", "seeds=1"])
KILLS = 8
LONGEST = 300.0  # seconds; a machine that is too slow for all kills does fewer

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from poolbench.records.ownership import Ownership
assert Ownership(Path(sys.argv[1])).acquire()
print("mine", flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Where the sweep was trained in peace."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "disk").mkdir()
    done = run_poolbench(folder, "sweep", *CELLS, "runs_dir=disk/runs", "sweep.workers=2")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.wide
def test_a_tortured_sweep_ends_as_if_it_had_been_left_in_peace(tmp_path):
    outcome = torture.torture(tmp_path, CELLS, KILLS, seed=3, workers=2, seconds=LONGEST)
    assert outcome.wrong == []
    assert 0 < outcome.counts["kills"] == sum(n for what, n in outcome.counts.items() if what.startswith("SIGKILL"))
    assert outcome.counts["cells ended right"] == 2 * outcome.counts["rounds"] > 0
    assert sum(outcome.hit.values()) >= outcome.counts["kills"]


def test_a_sweep_of_done_cells_clears_up_after_who_was_killed_behind_its_result(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "again")
    again = Torment(tmp_path / "again", CELLS, epochs=4, workers=1, pause=0.0, random=random.Random(0))
    cell = cells(again.runs)[0]
    with_claim = start(again, sys.executable, "-c", CLAIM_AND_WAIT, str(cell))
    assert with_claim.stdout.readline() == "mine\n"
    (cell / ".status.json.1-abcdef0123.tmp").write_text("half")
    torture_acts.kill_group(again)
    torture_sweeps.end_sweep(again, with_claim)
    assert len(torture_checks.leftovers([again.runs])) == 2
    torture._last_sweep(again)
    assert again.wrong == []
    assert torture_checks.violations(again.runs, undisturbed / "disk" / "runs", {}, [again.folder / "report"]) == []


def test_a_config_cut_off_within_a_word_is_a_difference(tmp_path):
    for folder, text in (("peace", "names: {}\ndata_fingerprint: a\n"), ("cell", "names: {}\ndata_finger")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.yaml").write_text(text)
    found = torture_checks.differences(tmp_path / "cell", tmp_path / "peace")
    assert any("config.yaml: cannot be compared" in line for line in found)


@pytest.fixture
def ended(undisturbed, tmp_path):
    """Records of the undisturbed sweep, and a copy of them that may be spoilt."""
    peace = undisturbed / "disk" / "runs"
    shutil.copytree(peace, tmp_path / "runs")
    return tmp_path / "runs", peace


def cells(runs):
    return sorted(path for path in runs.iterdir() if path.is_dir())


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip_a_bit(path, part):
    state = torch.load(path, weights_only=True)
    weight = next(value for value in state[part].values() if value.is_floating_point() and value.ndim == 1)
    weight.view(torch.int32)[0] ^= 1
    torch.save(state, path)


def turn_what_is_settled(path):
    state = torch.load(path, weights_only=True)
    state["progress"]["settled"] = not state["progress"]["settled"]
    torch.save(state, path)


def test_nothing_is_wrong_with_a_sweep_in_peace(ended):
    runs, peace = ended
    for cell in cells(runs):
        edit_json(cell / "result.json", train_seconds=1e9, resumed=7, finished="2000-01-01T00:00:00+00:00")
    assert torture_checks.violations(runs, peace, {}) == []


SPOILT = {
    "half a status": lambda cell: (cell / ".status.json.1-abcdef.tmp").write_text(""),
    "a claim": lambda cell: (cell / "claim.3").write_text(""),
    "a probe of whether one can write": lambda cell: (cell.parent / ".writable-12").write_text(""),
    "a failure's traceback": lambda cell: (cell / "error.txt").write_text("no"),
    "another accuracy": lambda cell: edit_json(cell / "result.json", test_accuracy=0.123),
    "a loss in its last bit": lambda cell: edit_json(
        cell / "result.json", train_loss=json.loads((cell / "result.json").read_text())["train_loss"] * (1 + 2**-52)
    ),
    "another environment half way": lambda cell: edit_json(cell / "result.json", mixed_environment=True),
    "one more field": lambda cell: edit_json(cell / "result.json", more=1),
    "a weight's last bit": lambda cell: flip_a_bit(cell / "checkpoint.pt", "model"),
    "an average's last bit": lambda cell: flip_a_bit(cell / "checkpoint.pt", "average"),
    "another progress": lambda cell: turn_what_is_settled(cell / "checkpoint.pt"),
    "no checkpoint": lambda cell: (cell / "checkpoint.pt").unlink(),
    "another curve": lambda cell: (cell / "metrics.csv").write_text(
        (cell / "metrics.csv").read_text().replace("\n2,0.", "\n2,1.")
    ),
    "a config of another cell": lambda cell: (cell / "config.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load((cell / "config.yaml").read_text()), "seed": 9})
    ),
    "half a result": lambda cell: (cell / "result.json").write_text((cell / "result.json").read_text()[:50]),
    "no result": lambda cell: (cell / "result.json").unlink(),
    "no cell": shutil.rmtree,
    "the cell twice": lambda cell: shutil.copytree(cell, cell.with_name(f"max-{cell.name}")),
    "a strange cell": lambda cell: shutil.copytree(cell, cell.with_name("max-s0-0123456789")),
    "a record set aside": lambda cell: shutil.copytree(cell, cell.with_name(f"{cell.name}.damaged-1")),
    "a claim in what was set aside": lambda cell: (
        shutil.copytree(cell, cell.with_name(f"{cell.name}.damaged-1")) / "claim.0"
    ).write_text(""),
}


@pytest.mark.parametrize("what", SPOILT)
def test_every_breach_is_reported(ended, what):
    runs, peace = ended
    cell = cells(runs)[0]
    digest = cell.name.rpartition("-")[2]
    SPOILT[what](cell)
    found = torture_checks.violations(runs, peace, {})
    assert found
    place = ".writable-12" if "probe" in what else "0123456789" if "strange" in what else digest
    assert all(place in line for line in found), found


def test_a_cell_without_a_result_is_told_so(ended):
    runs, _ = ended
    first, *_ = cells(runs)
    (first / "result.json").unlink()
    found = torture_checks.wrong_cells(runs, {cell.name for cell in cells(runs)})
    assert found == [f"{first.name}: the cell has 0 results instead of one"]


def test_what_was_damaged_on_purpose_may_be_set_aside_as_often(ended):
    runs, peace = ended
    cell = cells(runs)[0]
    shutil.copytree(cell, cell.with_name(f"{cell.name}.damaged-1"))
    assert torture_checks.violations(runs, peace, {cell.name: 1}) == []
    shutil.copytree(cell, cell.with_name(f"{cell.name}.damaged-2"))
    (line,) = torture_checks.violations(runs, peace, {cell.name: 1})
    assert "set aside 2 times, damaged 1 times" in line


def test_what_is_left_elsewhere_is_reported(ended, tmp_path):
    runs, peace = ended
    (tmp_path / "report" / "grid").mkdir(parents=True)
    assert torture_checks.violations(runs, peace, {}, [tmp_path / "report"]) == []
    (tmp_path / "report" / "grid" / ".report.md.1-abcdef.tmp").write_text("")
    (line,) = torture_checks.violations(runs, peace, {}, [tmp_path / "report"])
    assert ".report.md.1-abcdef.tmp" in line


@pytest.fixture
def torment(tmp_path):
    (tmp_path / "disk" / "runs" / "cell").mkdir(parents=True)
    made = Torment(tmp_path, [], epochs=3, workers=1, pause=0.0, random=random.Random(0))
    yield made
    for sweep in made.sweeps:
        for each in torture_sweeps.members(sweep.pid):
            torture_sweeps.send(each.pid, signal.SIGKILL)
        sweep.wait()


def start(torment, *command):
    """A process that passes for a sweep."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    process.log = torment.folder / "log"
    process.log.touch()
    torment.sweeps.append(process)
    return process


def owner_of(torment, epochs):
    """A process at work on the only cell, after so many epochs."""
    cell = torment.runs / "cell"
    if epochs is not None:
        files.write_metrics(cell / "metrics.csv", [{"epoch": number + 1} for number in range(epochs)])
    process = start(torment, sys.executable, "-c", CLAIM_AND_WAIT, str(cell))
    assert process.stdout.readline() == "mine\n"
    return process


@pytest.mark.parametrize(("epochs", "phase"), [(None, FIRST), (0, FIRST), (1, BETWEEN), (2, BETWEEN), (3, LAST)])
def test_a_kill_is_counted_where_it_found_the_cell(torment, epochs, phase):
    process = owner_of(torment, epochs)
    torture_acts.kill_worker(torment)
    assert process.wait() == -signal.SIGKILL
    assert dict(torment.hit) == {phase: 1}
    assert dict(torment.resumed_from) == {epochs or 0: 1}
    assert torment.counts["kills"] == torment.counts["SIGKILL of a worker"] == 1
    torture_acts.kill_worker(torment)  # nobody is there any more
    assert torment.counts["kills"] == 1


def test_a_kill_that_finds_no_cell_is_counted_too(torment):
    process = start(torment, "sleep", "100")
    torture_acts.kill_group(torment)
    assert process.wait() == -signal.SIGKILL
    assert dict(torment.hit) == {STARTING: 1}


def test_a_stopped_owner_that_loses_its_cell_is_a_breach(torment, monkeypatch):
    owner_of(torment, 1)
    torture_acts.stop_worker(torment)
    assert torment.wrong == []
    waited = time.sleep

    def taken_meanwhile(seconds):
        waited(seconds)
        if seconds >= 0.5:  # the long sleep, not one between two looks
            (torment.runs / "cell" / "claim.1").write_text("{}")

    monkeypatch.setattr(time, "sleep", taken_meanwhile)
    torture_acts.stop_worker(torment)
    assert len(torment.wrong) == 1
    assert "taken from an owner" in torment.wrong[0]


def test_a_process_that_outlives_its_sweep_and_a_traceback_are_breaches(torment, monkeypatch):
    monkeypatch.setattr(torture_sweeps, "SECONDS_TO_END", 0.2)
    sweep = start(torment, "sh", "-c", "sleep 100 & exit 3")
    sweep.log.write_text("Traceback (most recent call last):\nKeyError: 1\n")
    torture_sweeps.end_sweep(torment, sweep)
    assert len(torment.wrong) == 2
    assert "outlived its sweep" in torment.wrong[0]
    assert torment.wrong[1].endswith("an error that nobody foresaw: KeyError: 1")
    assert dict(torment.given_up) == {"KeyError: 1": 1}
    assert torture_sweeps.wait_for(lambda: not torture_sweeps.members(sweep.pid), 30)


def test_a_result_that_changes_after_it_was_there_is_a_breach(ended, torment):
    shutil.rmtree(torment.runs)
    shutil.copytree(ended[1], torment.runs)
    torture_sweeps.note_results(torment)
    assert torture._lost(torment) == []
    edit_json(cells(torment.runs)[0] / "result.json", finished="2000-01-01T00:00:00+00:00")
    shutil.rmtree(cells(torment.runs)[1])
    assert len(torture._lost(torment)) == 2


def test_damage_spares_what_nobody_reads_again_and_is_remembered(ended, torment):
    shutil.rmtree(torment.runs)
    shutil.copytree(ended[1], torment.runs)
    before = {path: path.read_bytes() for path in torment.runs.glob("*/checkpoint.pt")}
    for _ in range(40):
        torture_acts.damage(torment)
    assert before == {path: path.read_bytes() for path in before}
    assert set(torment.damaged) <= {cell.name for cell in cells(torment.runs)}
    assert sum(torment.damaged.values()) > 0
    assert torture_checks.violations(torment.runs, ended[1], torment.damaged)


def test_a_jump_of_the_clock_moves_files_by_hours(torment):
    claim = torment.runs / "cell" / "claim.0"
    claim.write_text("{}")
    torture_acts.jump(torment)
    assert abs(claim.stat().st_mtime - time.time()) > 3000


def test_later_options_take_the_place_of_earlier_ones():
    assert torture._options(["a=1", "b=2"], ["a=3"], ["c=4"]) == ["a=3", "b=2", "c=4"]
