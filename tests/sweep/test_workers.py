"""Running a plan with real processes: all cells are trained, each once, whatever happens to some of them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolbench.records import environment, files, processes
from poolbench.records.state import DAMAGED, DONE, FAILED, INTERRUPTED, NEW
from poolbench.sweep import workers
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import RETRIED, CellsRefused, run_plan
from tests.sweep.tiny import TINY

# Pools of a user's own. None does anything but average until it is trained, so that no check before that finds it out.
POOLS = """
import os, signal, time
import torch
from torch import nn
from torch.nn import functional as F

class Average(nn.Module):
    ratio = 2.0

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return F.avg_pool2d(self.trained(x) if self.training else x, 2)

    def trained(self, x):
        return x

class Says(Average):
    said = []

    def trained(self, x):
        if not self.said:
            self.said.append(True)
            print("trained by", os.getpid(), flush=True)
        return x

class Slow(Says):
    def trained(self, x):
        time.sleep(0.05)
        return super().trained(x)

class Sick(Average):
    def trained(self, x):
        return self.ill(x) if os.path.exists("sick") else x

class Raises(Sick):
    def ill(self, x):
        raise RuntimeError("no luck")

class NotANumber(Sick):
    def ill(self, x):
        return x * float("nan")

class Killed(Sick):
    def ill(self, x):
        os.kill(os.getpid(), signal.SIGKILL)

class KilledOnce(Sick):
    def ill(self, x):
        os.unlink("sick")
        os.kill(os.getpid(), signal.SIGKILL)

class Exits(Sick):
    def ill(self, x):
        os._exit(7)

class Refuses(Average):
    def __init__(self, channels):
        raise TypeError("cannot be built")

class EndsTheCheck(Average):
    def __init__(self, channels):
        os._exit(3)
"""

OWNER = """
import sys, time
from pathlib import Path
from poolbench.records.ownership import Ownership
assert Ownership(Path(sys.argv[1])).acquire()
print("mine", flush=True)
time.sleep(600)
"""

# The same sweep in another process: it says when it begins to train, and at the end what failed and what it started.
OTHER_SWEEP = """
import json, sys
from pathlib import Path
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import run_plan

class Watcher:
    cells = []

    def started(self, cell):
        self.cells.append(cell.run_id)
        Path("other has begun").touch()

    def ended(self, cell, state, reason): ...

    def tick(self): ...

if __name__ == "__main__":
    plan = make_plan(sys.argv[1:])
    failed = run_plan(plan, Watcher())
    print(json.dumps([failed, Watcher.cells]))
"""


class Seen:
    """Keeps what it was told; ``at_tick`` is called with the number of each tick."""

    def __init__(self, at_tick=lambda number: None):
        self.begun, self.states, self.reasons, self.ticks, self.at_tick = [], {}, {}, 0, at_tick

    def started(self, cell):
        self.begun.append(cell.run_id)

    def ended(self, cell, state, reason):
        self.states.setdefault(cell.run_id, []).append(state)
        self.reasons[cell.run_id] = reason

    def tick(self):
        self.ticks += 1
        self.at_tick(self.ticks)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "pools_of_ours.py").write_text(POOLS)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pools_of_ours", raising=False)
    return tmp_path


def tiny(*options, workers=2):
    chosen = {option.partition("=")[0] for option in options}
    return make_plan([*(o for o in TINY if o.partition("=")[0] not in chosen), f"sweep.workers={workers}", *options])


def custom(*pools):
    return ["pool=custom", "pool._target_=" + ",".join(f"pools_of_ours.{pool}" for pool in pools)]


def by_pool(plan):
    return {cell.config["names"]["pool"]: cell for cell in plan.cells}


def status_of(cell):
    return json.loads((cell.folder / "status.json").read_text())


def test_all_cells_are_trained_and_what_is_done_or_damaged_is_seen():
    plan, seen = tiny("pool=max,average", "seeds=2"), Seen()
    assert run_plan(plan, seen) == {}
    names = [cell.run_id for cell in plan.cells]
    assert plan.states() == dict.fromkeys(names, DONE)
    assert seen.states == {name: [DONE] for name in names}
    assert sorted(seen.begun) == sorted(names)
    assert seen.begun[:2] == names[:2]
    assert seen.ticks > 0
    for cell in plan.cells:
        left = {path.name for path in cell.folder.iterdir()}
        assert left - {"log.txt"} == {
            "config.yaml",
            "status.json",
            "metrics.csv",
            "result.json",
            "environment.json",
            "checkpoint.pt",
            "outcomes.json",
            "log_probabilities.npy",
        }
        described = json.loads((cell.folder / "environment.json").read_text())
        assert described["threads"] == max(1, environment.available_cores() // 2)
        assert status_of(cell)["state"] == "done"
    assert [path.name for path in Path("runs").iterdir() if path.name not in names] == []

    nothing = Seen()
    assert run_plan(tiny("pool=max,average", "seeds=2"), nothing) == {}
    assert (nothing.begun, nothing.states) == ([], {})

    damaged, whole = plan.cells[0], plan.cells[1].folder / "result.json"
    before, trained_at = json.loads((damaged.folder / "result.json").read_text()), whole.stat().st_mtime_ns
    (damaged.folder / "result.json").write_text('{"test_acc')
    again = Seen()
    assert run_plan(plan, again) == {}
    assert again.states == {damaged.run_id: [DAMAGED, DONE]}
    assert Path(f"runs/{damaged.run_id}.damaged-1/result.json").read_text() == '{"test_acc'
    after = json.loads((damaged.folder / "result.json").read_text())
    assert after["test_loss"] == before["test_loss"]
    assert whole.stat().st_mtime_ns == trained_at


def test_cells_that_fail_leave_a_reason_and_the_others_go_on(folder):
    (folder / "sick").touch()
    pools = ["Raises", "Killed", "Exits", "NotANumber", "Says"]
    plan, seen = tiny(*custom(*pools)), Seen()
    cells = by_pool(plan)
    failed = run_plan(plan, seen)
    reasons = {name: failed.get(cell.run_id) for name, cell in cells.items()}
    assert "no luck" in reasons["Raises"]
    assert reasons["Killed"].startswith("the process was ended by signal 9")
    assert reasons["Exits"] == "the process ended with exit code 7"
    assert "epoch 1" in reasons["NotANumber"]
    assert reasons["Says"] is None
    for name, cell in cells.items():
        if name == "Says":
            assert seen.states[cell.run_id] == [DONE]
            assert (cell.folder / "log.txt").read_text().count("trained by") == 1
        else:
            assert seen.states[cell.run_id] == [FAILED]
            assert seen.reasons[cell.run_id] == reasons[name] == status_of(cell)["error"]
            assert cell.state() == FAILED
            assert not (cell.folder / "result.json").exists()
    assert "no luck" in (cells["Raises"].folder / "error.txt").read_text()

    (folder / "sick").unlink()  # the same command tries them once more
    assert run_plan(plan, Seen()) == {}
    assert set(plan.states().values()) == {DONE}
    for cell in cells.values():
        assert not list(cell.folder.glob("claim.*"))
        assert not (cell.folder / "error.txt").exists()


def test_a_killed_server_of_workers_is_replaced():
    from multiprocessing import forkserver

    server = forkserver._forkserver
    plan, killed = tiny(*custom("Says"), "seeds=3", workers=1), []

    def ended(cell, state, reason):
        if not killed:  # right before the next worker is started
            killed.append(server._forkserver_pid)
            os.kill(server._forkserver_pid, signal.SIGKILL)

    seen = Seen()
    seen.ended = ended
    assert run_plan(plan, seen) == {}
    assert set(plan.states().values()) == {DONE}
    assert killed != [server._forkserver_pid]


def test_a_start_that_the_servers_death_breaks_is_repeated(monkeypatch):
    starts, start = [], workers._start_once

    def dies(*arguments):
        starts.append(len(starts))
        if len(starts) in (1, 3):  # in the check, and with the first cell
            raise EOFError("unexpected EOF")
        return start(*arguments)

    monkeypatch.setattr(workers, "_start_once", dies)
    plan = tiny("pool=max", workers=1)
    assert run_plan(plan, Seen()) == {}
    assert len(starts) == 4
    monkeypatch.setattr(workers, "_start_once", dies_always)
    with pytest.raises(OSError, match="no worker could be started"):
        run_plan(tiny("pool=average", workers=1), Seen())


def dies_always(*arguments):
    raise ConnectionResetError


def test_a_failure_is_tried_again_after_the_others(folder):
    (folder / "sick").touch()
    plan, seen = tiny(*custom("KilledOnce", "Says"), "sweep.retry=1", workers=1), Seen()
    cells = by_pool(plan)
    assert run_plan(plan, seen) == {}
    assert seen.states == {cells["KilledOnce"].run_id: [RETRIED, DONE], cells["Says"].run_id: [DONE]}
    assert seen.begun == [cells[name].run_id for name in ("KilledOnce", "Says", "KilledOnce")]


def test_retries_end_and_what_would_repeat_itself_is_not_tried_again(folder):
    (folder / "sick").touch()
    plan, seen = tiny(*custom("Raises", "NotANumber"), "sweep.retry=2"), Seen()
    cells = by_pool(plan)
    assert set(run_plan(plan, seen)) == {cell.run_id for cell in cells.values()}
    assert seen.states[cells["Raises"].run_id] == [RETRIED, RETRIED, FAILED]
    assert seen.states[cells["NotANumber"].run_id] == [FAILED]


def test_after_max_hours_no_cell_is_started_and_those_that_run_are_finished():
    assert run_plan(tiny(*custom("Says"), "sweep.max_hours=0.00000001"), Seen()) == {}
    assert not [path for path in Path("runs").iterdir() if path.is_dir()]
    plan, clock = tiny(*custom("Slow"), "seeds=3", "sweep.max_hours=1", workers=1), time.monotonic

    def an_hour_later(number):
        if (plan.cells[0].folder / "log.txt").exists() and "trained" in (plan.cells[0].folder / "log.txt").read_text():
            workers.time.monotonic = lambda: clock() + 3601

    seen = Seen(an_hour_later)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.time, "monotonic", clock)  # put back in the end
        assert run_plan(plan, seen) == {}
    assert [cell.state() for cell in plan.cells] == [DONE, NEW, NEW]
    assert seen.states == {plan.cells[0].run_id: [DONE]}


def test_a_cell_whose_folder_cannot_be_made_fails_and_says_where():
    plan = tiny("seeds=2")
    Path("runs").mkdir()
    plan.cells[0].folder.write_text("in the way")
    failed = run_plan(plan, Seen())
    assert list(failed) == [plan.cells[0].run_id]
    assert str(plan.cells[0].folder) in failed[plan.cells[0].run_id]
    assert plan.cells[1].state() == DONE


def test_fail_fast_stops_at_the_first_that_fails(folder):
    (folder / "sick").touch()
    plan, seen = tiny(*custom("Raises", "Says"), "sweep.fail_fast=true", workers=1), Seen()
    cells = by_pool(plan)
    assert list(run_plan(plan, seen)) == [cells["Raises"].run_id]
    assert seen.begun == [cells["Raises"].run_id]
    assert cells["Says"].state() == NEW


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["pool=max,average", "pool.kernel_size=2,64"], ["max(kernel_size=64) in convnet", "kernel_size 64"]),
        (custom("Average", "Refuses"), ["Refuses in convnet", "cannot be built"]),
        (custom("Average", "EndsTheCheck"), ["exit code 3"]),
        (custom("Average", "Nothing"), ["Nothing in convnet", "has no 'Nothing'"]),
    ],
)
def test_cells_that_cannot_work_are_refused_before_any_is_trained(options, words):
    plan = tiny(*options)
    with pytest.raises(CellsRefused) as caught:
        run_plan(plan, Seen())
    for word in words:
        assert word in str(caught.value)
    assert set(plan.states().values()) == {NEW}
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize("runs_dir", ["file/runs", "/proc/nothing"])
def test_a_runs_dir_that_cannot_be_written_is_named(runs_dir):
    if not Path("/proc/self").exists() and runs_dir.startswith("/proc"):
        pytest.skip("there is no folder here in which not even root can write")
    Path("file").write_text("in the way")
    with pytest.raises(OSError, match=f"runs_dir={runs_dir} cannot be written to"):
        run_plan(tiny(f"runs_dir={runs_dir}"), Seen())
    assert Path("file").read_text() == "in the way"


@pytest.mark.parametrize("leaves", ["nothing", "a failure"])
def test_a_cell_that_another_process_has_is_waited_for(leaves):
    plan = tiny("seeds=2", workers=1)
    cell = plan.cells[0]
    cell.folder.mkdir(parents=True)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(cell.folder)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "mine\n"

    def at_tick(number):
        if plan.cells[1].run_id in seen.states and owner.poll() is None:
            if leaves == "a failure":
                status = {"schema_version": 1, "run_id": cell.run_id, "state": "failed", "error": "its own fault"}
                files.write_yaml(cell.folder / "config.yaml", cell.config)
                files.write_json(cell.folder / "status.json", status)
            owner.kill()
            owner.wait()

    seen = Seen(at_tick)
    failed = run_plan(plan, seen)
    assert seen.begun[:2] == [cell.run_id, plan.cells[1].run_id]  # the other's is shown as well
    assert seen.states[plan.cells[1].run_id] == [DONE]
    if leaves == "nothing":  # so its cell is ours
        assert failed == {}
        assert seen.states[cell.run_id] == [DONE]
    else:
        assert failed == {cell.run_id: "its own fault"}
        assert seen.states[cell.run_id] == [FAILED]
    owner.stdout.close()


def test_two_sweeps_in_one_folder_train_each_cell_once(folder):
    options = [*TINY, *custom("Slow"), "seeds=6", "sweep.workers=1"]
    plan = make_plan(options)
    path = os.pathsep.join([str(folder / "modules"), *filter(None, [os.environ.get("PYTHONPATH")])])
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_SWEEP, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )

    def wait_for_the_other(number):
        while not Path("other has begun").exists() and other.poll() is None:
            time.sleep(0.02)

    seen = Seen(wait_for_the_other)
    assert run_plan(plan, seen) == {}
    said, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors
    failed, begun_there = json.loads(said)
    assert failed == {}
    names = {cell.run_id for cell in plan.cells}
    assert seen.states == {name: [DONE] for name in names}
    assert begun_there
    assert set(seen.begun) | set(begun_there) == names
    for cell in plan.cells:
        assert (cell.folder / "log.txt").read_text().count("trained by") == 1
        assert json.loads((cell.folder / "result.json").read_text())["resumed"] == 0
        assert not list(cell.folder.glob("claim.*"))


def test_an_interrupted_sweep_ends_its_workers_and_goes_on_later():
    plan = tiny(*custom("Slow"), "trainer.epochs=200", "seeds=2")

    def interrupt(number):
        if all((cell.folder / "metrics.csv").exists() for cell in plan.cells):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, Seen(interrupt))
    assert multiprocessing.active_children() == []
    for cell in plan.cells:
        assert cell.state() == INTERRUPTED
        assert processes.process_start(status_of(cell)["pid"]) in (None, processes.UNKNOWN)
    finished = [tiny(*custom("Slow"), "trainer.epochs=1", "seeds=1"), Seen()]
    assert run_plan(*finished) == {}  # the workers' server lives on
