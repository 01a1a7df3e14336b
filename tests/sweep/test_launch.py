"""A sweep through a launcher of Hydra's: what its jobs leave decides, however they end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolbench.configuration import ConfigError
from poolbench.records.files import write_json
from poolbench.records.state import DONE, FAILED
from poolbench.sweep import job as jobs_of
from poolbench.sweep import launch
from poolbench.sweep.job import in_jobs, jobs, train_job
from poolbench.sweep.launch import known_launchers, launch_plan, launcher_options
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import CellsRefused
from tests.commands import run_poolbench
from tests.sweep.tiny import TINY as ONE_EPOCH
from tests.width import ALL

TINY = [*ONE_EPOCH[:-2], "trainer.epochs=2", "trainer.batch_size=20", "trainer.threads=1"]
LOCAL = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]  # a process a job, as on a cluster

POOL = """
import os, pathlib, signal, time
from torch import nn
from torch.nn import functional as F

class Sick(nn.Module):
    ratio = 2.0

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if self.training:
            self.calls = getattr(self, "calls", 0) + 1
            while self.calls > 6 and pathlib.Path("hold").exists():  # some epochs in
                time.sleep(0.05)
        if self.training and pathlib.Path("sick").exists():
            what = pathlib.Path("sick").read_text()
            if what == "once":
                pathlib.Path("sick").unlink()
            if what == "raises":
                raise RuntimeError("no luck")
            os.kill(os.getpid(), signal.SIGKILL)
        return F.avg_pool2d(x, 2)
"""


class Seen:
    def __init__(self):
        self.begun, self.states = [], {}

    def started(self, cell):
        self.begun.append(cell.run_id)

    def ended(self, cell, state, reason):
        self.states.setdefault(cell.run_id, []).append(state)

    def tick(self): ...


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_to_launch.py").write_text(POOL)
    return tmp_path


def results(plan):
    return {cell.run_id: json.loads((cell.folder / "result.json").read_text()) for cell in plan.cells}


@pytest.mark.parametrize(
    ("given", "theirs", "ours"),
    [
        (["pool=max"], [], ["pool=max"]),
        (
            ["pool=max", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=9", "seeds=2"],
            ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=9"],
            ["pool=max", "seeds=2"],
        ),
        (["hydra/launcher=basic", "pool=max"], [], ["pool=max"]),
    ],
    ids=["none", "submitit", "basic"],
)
def test_what_is_hydras_is_told_from_what_is_ours(given, theirs, ours):
    assert launcher_options(given) == (theirs, ours)


@pytest.mark.parametrize(
    "option", ["hydra.run.dir=x", "hydra/sweeper=basic", "hydra.sweep.dir=x", "+hydra.mode=RUN", "~hydra.launcher"]
)
def test_hydras_other_options_are_refused(option):
    with pytest.raises(ConfigError, match="hydra/launcher= and"):
        launcher_options([option, "hydra/launcher=ray"])


def test_a_launchers_options_need_a_launcher():
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.partition=x needs hydra/launcher=NAME") as caught:
        launcher_options(["hydra.launcher.partition=x"])
    assert "submitit_slurm" in str(caught.value)


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        (["hydra/launcher=submitit_slrm"], ["'submitit_slrm'", "submitit_slurm"]),
        (["hydra/launcher=ray"], ["poolbench[ray]"]),
        (["hydra/launcher=submitit_slurm", "hydra.launcher.partitoin=x"], ["submitit_slurm", "launcher.partitoin"]),
    ],
    ids=["misspelt", "not-installed", "unknown-option"],
)
def test_a_launcher_that_cannot_be_had_is_refused_before_anything_starts(launcher, words, folder):
    if "ray" in known_launchers() and "ray" in launcher[0]:
        pytest.skip("the ray launcher is installed here")
    with pytest.raises(ConfigError) as caught:
        launch_plan(make_plan(TINY), launcher, Seen())
    for word in words:
        assert word in str(caught.value)
    assert not (folder / "runs").exists()


def test_cells_that_do_not_fit_together_are_refused_before_any_job(folder):
    plan = make_plan([*TINY, "pool=custom", "pool._target_=nowhere.Pool"])
    with pytest.raises(CellsRefused, match="nowhere"):
        launch_plan(plan, LOCAL, Seen())
    assert not list((folder / "runs").glob("*/config.yaml"))


def test_jobs_train_every_open_cell_as_workers_of_this_machine_do(folder):
    plan = make_plan([*TINY, "pool=max,[average,max]"])
    seen = Seen()
    assert launch_plan(plan, LOCAL, seen) == {}
    assert seen.states == {cell.run_id: [DONE] for cell in plan.cells}
    assert launch_plan(plan, LOCAL, seen) == {}  # nothing is left to do
    assert seen.states == {cell.run_id: [DONE] for cell in plan.cells}
    assert {path.name for path in Path("runs").iterdir()} == {*results(plan), ".launch"}
    assert not list(Path("runs/.launch").glob("*.json"))  # the plan file
    here = make_plan([*TINY, "pool=max,[average,max]", "runs_dir=here", "sweep.workers=2"])
    assert run_poolbench(".", "sweep", *TINY, "pool=max,[average,max]", "runs_dir=here").returncode == 0
    for run_id, result in results(here).items():
        assert all(
            results(plan)[run_id][key] == result[key] for key in ("test_accuracy", "test_loss", "train_loss", "epochs")
        )


def test_a_job_that_dies_and_one_that_raises_are_failures_and_the_others_finish(folder):
    plan = make_plan(TINY)
    sick = make_plan([*TINY, "pool=custom", "pool._target_=mine_to_launch.Sick"])
    both = type(plan)(plan.name, (*sick.cells, *plan.cells), plan.options, plan.report_dir)
    (ill,), (well,) = sick.cells, plan.cells
    Path("sick").write_text("killed")
    seen = Seen()
    failed = launch_plan(both, LOCAL, seen)
    assert list(failed) == [ill.run_id]
    assert "ended without a word" in failed[ill.run_id]
    assert seen.states == {ill.run_id: [FAILED], well.run_id: [DONE]}
    if ALL:  # the start of a job takes five seconds
        Path("sick").write_text("raises")
        failed = launch_plan(both, LOCAL, Seen())
        assert failed == {ill.run_id: "RuntimeError('no luck')"}
        assert "no luck" in (ill.folder / "error.txt").read_text()
    Path("sick").unlink()
    assert launch_plan(both, LOCAL, Seen()) == {}
    assert set(results(both)) == {ill.run_id, well.run_id}


@pytest.mark.wide
def test_retry_takes_up_what_a_job_lost(folder):
    plan = make_plan([*TINY, "pool=custom", "pool._target_=mine_to_launch.Sick", "sweep.retry=1"])
    Path("sick").write_text("once")
    seen = Seen()
    assert launch_plan(plan, LOCAL, seen) == {}
    assert seen.states == {plan.cells[0].run_id: [DONE]}


def test_what_repeats_itself_for_certain_is_not_started_again(folder, monkeypatch):
    plan = make_plan([*TINY, "optimizer.lr=1e38", "sweep.retry=2"])
    started = []
    run = launch._Round.run
    monkeypatch.setattr(launch._Round, "run", lambda self: started.append(1) or run(self))
    seen = Seen()
    failed = launch_plan(plan, LOCAL, seen)
    assert list(failed) == [plan.cells[0].run_id]
    assert "loss became" in failed[plan.cells[0].run_id]
    assert seen.states == {plan.cells[0].run_id: [FAILED]}
    assert len(started) == 1


def test_cells_left_after_a_failure_are_told_so(folder):
    (cell,) = make_plan(TINY).cells
    left = launch._Round(make_plan([*TINY, "sweep.fail_fast=true"]), [cell], LOCAL, Seen(), None, last=True)
    left.file.with_suffix(".stop").touch()  # as a job does that failed
    assert left.run() == {cell.run_id: "another cell failed (sweep.fail_fast)"}
    assert not left.file.with_suffix(".stop").exists()


def test_what_hydra_holds_globally_is_left_alone_while_a_launcher_runs(folder, monkeypatch):
    """A launcher's thread may end while something else is composed, as the plan of the next sweep."""
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra

    seen = []
    monkeypatch.setattr(Hydra, "multirun", lambda self, **_: seen.append(GlobalHydra.instance().is_initialized()))
    (cell,) = make_plan(TINY).cells
    assert list(launch_plan(make_plan(TINY), LOCAL, Seen())) == [cell.run_id]  # nothing was started
    assert seen == [False]


def test_a_launcher_that_starts_nothing_is_quoted(folder, monkeypatch):
    """As where there is no SLURM at all."""
    monkeypatch.setenv("PATH", str(folder))
    (cell,) = make_plan(TINY).cells
    failed = launch_plan(make_plan(TINY), ["hydra/launcher=submitit_slurm"], Seen())
    assert "the launcher: RuntimeError: Could not detect" in failed[cell.run_id]
    assert not (cell.folder / "config.yaml").exists()


def job(plan, **more):
    """A job of the first cell of ``plan``, as a launcher would call it."""
    file = Path("plan.json").resolve()
    content = {"folder": str(Path.cwd()), "code": {"commit": None, "dirty": None}, "deadline": None, "fail_fast": False}
    content |= in_jobs(plan, list(plan.cells), None)
    write_json(file, {**content, "cells": {cell.run_id: cell.config for cell in plan.cells}, **more})
    from omegaconf import OmegaConf

    return OmegaConf.create({"plan": str(file), "run_id": plan.cells[0].run_id})


def test_a_job_starts_nothing_after_the_deadline(folder):
    plan = make_plan(TINY)
    assert train_job(job(plan, deadline=time.time() - 1)) == "skipped"
    assert not plan.cells[0].folder.exists()
    assert train_job(job(plan, deadline=time.time() + 1000)) == DONE


def test_a_job_starts_nothing_after_a_failure_when_asked_so(folder):
    plan = make_plan([*TINY, "pool=custom", "pool._target_=mine_to_launch.Sick"])
    Path("sick").write_text("raises")
    assert train_job(job(plan, fail_fast=True)) == FAILED
    assert train_job(job(plan, fail_fast=True)) == "skipped"


def test_a_job_whose_sweep_is_over_does_nothing(folder):
    task = job(make_plan(TINY))
    Path("plan.json").unlink()
    assert train_job(task) == "skipped"
    assert not (folder / "runs").exists()


def test_a_job_may_be_a_block(folder):
    plan = make_plan([*TINY, "pool=max,average", "seeds=2", "sweep.job=block"])
    grouped = in_jobs(plan, list(plan.cells), None)["jobs"]
    assert [len(members) for members in grouped] == [2, 2]
    assert {run_id.rpartition("-s")[2][0] for run_id in grouped[0]} == {"0"}
    assert in_jobs(make_plan([*TINY, "seeds=2"]), list(plan.cells), None)["jobs"] == [[c.run_id] for c in plan.cells]
    assert launch_plan(plan, LOCAL, Seen()) == {}
    apart = make_plan([*TINY, "pool=max,average", "seeds=2", "runs_dir=apart"])
    for cell in apart.cells:  # in a process of its own
        assert train_job(job(dataclasses.replace(apart, cells=(cell,)))) == DONE
    for run_id, result in results(apart).items():
        assert {name: results(plan)[run_id][name] for name in ("test_accuracy", "test_loss", "train_loss")} == {
            name: result[name] for name in ("test_accuracy", "test_loss", "train_loss")
        }


def test_one_cell_of_a_block_that_fails_does_not_keep_the_others(folder):
    sick = make_plan([*TINY, "pool=custom", "pool._target_=mine_to_launch.Sick", "sweep.job=block"])
    both = dataclasses.replace(sick, cells=(*sick.cells, *make_plan(TINY).cells))
    Path("sick").write_text("raises")
    assert train_job(job(both)) == FAILED
    assert [cell.state() for cell in both.cells] == [FAILED, DONE]


def test_a_job_begins_no_block_that_would_not_end_in_time(folder):
    plan = make_plan([*TINY, "pool=max,average", "sweep.job=block"])
    names = [cell.run_id for cell in plan.cells]
    soon = {"deadline": time.time() + 100, "seconds": dict.fromkeys(names, 60.0)}
    assert train_job(job(plan, **soon)) == "skipped"
    assert not any(cell.folder.exists() for cell in plan.cells)
    assert Path("plan.long").exists()
    # Each in a job of its own they would end, and so would a block that somebody began.
    apart = dataclasses.replace(plan, options={**plan.options, "job": "cell"})
    assert train_job(job(apart, **soon)) == DONE
    assert train_job(job(plan, **soon)) == DONE
    # What nothing is known of is begun.
    plan = make_plan([*TINY, "pool=max,average", "seed=1", "sweep.job=block"])
    assert train_job(job(plan, deadline=time.time() + 100, seconds={})) == DONE


def test_max_hours_is_what_the_cells_left_are_told(folder):
    plan = make_plan([*TINY, "sweep.max_hours=0.0000001"])
    assert launch_plan(plan, LOCAL, Seen()) == {plan.cells[0].run_id: "sweep.max_hours was over"}
    assert not (plan.cells[0].folder / "config.yaml").exists()


def test_what_a_job_prints_goes_to_the_cells_log_and_the_terminal_is_given_back(folder):
    script = """
import os
from pathlib import Path
from poolbench.records.files import logged
print("before")
with logged(Path("cell")):
    print("within")
    os.system("echo child")
print("after")
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["before", "after"]
    assert Path("cell/log.txt").read_text().split() == ["within", "child"]


def test_the_sweeper_is_of_no_use_without_our_command():
    with pytest.raises(ConfigError, match="poolbench sweep"):
        jobs(["pool=max"])


def test_the_cores_of_a_job_are_those_that_its_queue_gives(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert jobs_of._threads() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert jobs_of._threads() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "many")
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert jobs_of._threads() is None


def test_squeue_says_whether_jobs_are_left(tmp_path, monkeypatch):
    queue = launch._Slurm(tmp_path, began=0.0)
    assert not queue.knows()
    (tmp_path / ".submitit" / "17_0").mkdir(parents=True)
    (tmp_path / ".submitit" / "17_1").mkdir()
    assert queue.knows()
    program = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(launch, "_SLURM_POLL_SECONDS", 0.0)

    def answers(script):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        queue._empty = 0
        return [queue.empty(), queue.empty()]

    assert answers('[ "$4" = 17 ] && echo 17') == [False, False]
    assert answers('[ "$4" = 17 ]') == [False, True]
    assert answers("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1") == [False, True]
    assert answers("echo cannot contact the controller >&2; exit 1") == [False, False]


def test_an_interrupted_command_leaves_its_jobs_and_the_next_one_finds_them(folder):
    overrides = ["trainer.epochs=20" if text.startswith("trainer.epochs") else text for text in TINY]
    overrides += ["pool=custom", "pool._target_=mine_to_launch.Sick"]
    Path("hold").touch()
    command = [sys.executable, "-m", "poolbench", "sweep", *overrides, *LOCAL]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Tests that were started in the background of a shell ignore the signal, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    (cell,) = make_plan(overrides).cells
    deadline = time.monotonic() + 120
    while not (cell.folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode == 130
    Path("hold").unlink()
    again = run_poolbench(".", "sweep", *overrides, *LOCAL)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((cell.folder / "result.json").read_text())["epochs"] == 20
