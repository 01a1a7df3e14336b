"""Running a plan through a launcher of Hydra's: a job a cell, on a cluster or wherever the launcher starts them.

What a job needs travels in a file in the runs folder, which all machines share; what became of a cell is read from its
record and from nothing else, since launchers lose sight of jobs that were cancelled or whose machine died.
"""

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poolbench.configuration import ConfigError, config_dir
from poolbench.overrides import quoted
from poolbench.records import environment, files
from poolbench.records.state import DONE, FAILED, RUNNING
from poolbench.registry import nearest
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.job import TOO_LONG, in_jobs, late, train_job
from poolbench.sweep.workers import Watcher, failure_reason, is_lasting, prepare, read_status, writable

FOLDER = ".launch"  # in the runs folder: what launchers write, and our plan files
POLL_SECONDS = 1.0
_SLURM_POLL_SECONDS = 15.0


def launcher_options(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Take what is Hydra's, ``hydra/launcher=...`` and ``hydra.launcher...``, out of a command line.

    Returns: Hydra's overrides (none when no launcher is asked for, or Hydra's own ``basic``: our processes isolate
        cells from each other, that one does not), all others.
    Raises: ConfigError for other options of Hydra's, a launcher's options without a launcher, one that is not installed
        or does not take its options.
    """
    ours = [text for text in overrides if not _is_hydras(text)]
    theirs = [text for text in overrides if _is_hydras(text)]
    for text in theirs:
        if not re.match(r"\+{0,2}hydra(/launcher=|\.launcher\.)", text):
            raise ConfigError(f"{text}: of Hydra's own options a sweep takes hydra/launcher= and hydra.launcher.* only")
    if theirs and not any("hydra/launcher=" in text for text in theirs):
        raise ConfigError(f"{theirs[0]} needs hydra/launcher=NAME beside it; known: {', '.join(known_launchers())}")
    names = [name for text in theirs if "hydra/launcher=" in text for name in text.partition("=")[2].split(",")]
    if len(names) > 1:
        raise ConfigError(f"hydra/launcher takes one launcher at a time, got {', '.join(names)}")
    if not theirs or "hydra/launcher=basic" in theirs:
        return [], ours
    _check_launcher(theirs)
    return theirs, ours


def _is_hydras(text: str) -> bool:
    return re.match(r"[~+]*hydra[./]", text) is not None


def known_launchers() -> list[str]:
    """Names that ``hydra/launcher=`` takes here, of the launchers that are installed."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()
    group = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    return sorted(name.removesuffix(".yaml") for name in group)


def launch_plan(plan: Plan, launcher: list[str], watcher: Watcher) -> dict[str, str]:
    """Train every cell of ``plan`` that is not done as a job of the launcher that ``launcher`` configures.

    Cells that a job left neither done nor failed, since it was cancelled or its machine died, count as failed and are
    started again ``sweep.retry`` times; they go on from their last finished epoch.

    Args:
        launcher: Hydra's overrides, ``["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]``.
    Returns: ``run_id`` -> reason, for the cells that are not done.
    Raises: ConfigError for a launcher that is not installed or does not take its options; CellsRefused before any job
        when a config does not fit together; OSError when records cannot be written.
    """
    _check_launcher(launcher)
    cells = plan.open()
    if not cells:
        return {}
    hours = plan.options["max_hours"]
    deadline = None if hours is None else time.time() + 3600 * hours
    runs_dir = Path(cells[0].config["runs_dir"])
    writable(runs_dir)
    prepare(cells)
    failed: dict[str, str] = {}
    lasting: dict[str, str] = {}  # what would repeat itself for certain is not tried again
    for attempt in range(plan.options["retry"] + 1):
        if attempt:
            lasting |= {
                cell.run_id: failed[cell.run_id] for cell in cells if cell.run_id in failed and is_lasting(cell)
            }
            cells = [cell for cell in cells if cell.run_id in failed and cell.run_id not in lasting]
            if not cells or late(deadline):
                break
        last = attempt == plan.options["retry"]
        failed = lasting | _Round(plan, cells, launcher, watcher, deadline, last).run()
        if failed and plan.options["fail_fast"]:
            break
    return failed


class _Round:
    """One start of a launcher, and what comes of its jobs."""

    def __init__(
        self,
        plan: Plan,
        cells: list[Cell],
        launcher: list[str],
        watcher: Watcher,
        deadline: float | None,
        last: bool,
    ):
        self.cells, self.launcher, self.watcher, self.last = cells, launcher, watcher, last
        self.folder = Path(cells[0].config["runs_dir"]).resolve() / FOLDER
        self.before = {cell.run_id: _stamp(cell) for cell in cells}
        self.error: BaseException | None = None
        content = {
            "folder": str(Path.cwd()),
            "code": environment.code_version(),
            "deadline": deadline,
            "fail_fast": plan.options["fail_fast"],
            "cells": {cell.run_id: cell.config for cell in cells},
            **in_jobs(plan, cells, deadline),
        }
        self.file = self.folder / f"{plan.name}-{os.getpid()}-{time.time_ns()}.json"
        files.write_json(self.file, content)

    def run(self) -> dict[str, str]:
        began = time.time()
        # Not waited for in the end: a launcher may wait for ever for a job that was cancelled.
        with _hydra() as hydra:  # here: the thread may outlive this call, and what Hydra holds globally is not its own
            thread = threading.Thread(target=self._launch, args=(hydra,), daemon=True)
        thread.start()
        open_ = {cell.run_id: cell for cell in self.cells}
        seen: set[str] = set()
        failed: dict[str, str] = {}
        queue = _Slurm(self.folder, began) if any("slurm" in text for text in self.launcher) else None
        while open_:
            over = not thread.is_alive()  # before the look at the records: what it left is there
            running = False
            for run_id, cell in list(open_.items()):
                state = cell.state()
                if state == RUNNING:
                    running = True
                    if run_id not in seen:
                        seen.add(run_id)
                        self.watcher.started(cell)
                elif state == DONE or (state == FAILED and _stamp(cell) != self.before[run_id]):
                    del open_[run_id]
                    if state == FAILED:
                        failed[run_id] = failure_reason(cell)
                    if state == DONE or self.last or is_lasting(cell):
                        self.watcher.ended(cell, state, failed.get(run_id, ""))
            self.watcher.tick()
            if open_ and not running and (queue.empty() if queue and queue.knows() else over):
                break
            time.sleep(POLL_SECONDS)
        for run_id, cell in open_.items():
            if cell.state() == DONE:  # in the moment since
                self.watcher.ended(cell, DONE, "")
                continue
            failed[run_id] = self._why()
            if self.last:
                self.watcher.ended(cell, FAILED, failed[run_id])
        if not open_ or not thread.is_alive():  # else a job that is still queued will read it
            self.file.unlink(missing_ok=True)
            for mark in (".stop", TOO_LONG):
                self.file.with_suffix(mark).unlink(missing_ok=True)
        return failed

    def _why(self) -> str:
        """Why a cell was not trained."""
        if late(json.loads(self.file.read_text(encoding="utf-8"))["deadline"]):
            return "sweep.max_hours was over"
        if self.file.with_suffix(".stop").exists():
            return "another cell failed (sweep.fail_fast)"
        if self.file.with_suffix(TOO_LONG).exists():
            return "sweep.max_hours would be over before its block ended"
        return self._lost()

    def _lost(self) -> str:
        text = "its job ended without a word (cancelled, or its machine died?)"
        if self.error is None:
            return text
        said = next(iter(str(self.error).strip().splitlines()), "")
        return f"{text}; the launcher: {type(self.error).__name__}: {said}"

    def _launch(self, hydra: Any) -> None:
        try:
            hydra.multirun(
                config_name=None,
                task_function=train_job,
                overrides=[
                    "hydra/sweeper=poolbench",
                    *self.launcher,
                    *_workarounds(self.launcher),
                    f"hydra.sweep.dir={quoted(str(self.folder))}",
                    "hydra.sweep.subdir=jobs",
                    "hydra.output_subdir=null",
                    "hydra.job.name=poolbench",
                    "hydra/job_logging=disabled",
                    "hydra/hydra_logging=disabled",
                    f"+plan={quoted(str(self.file))}",
                ],
                with_log_configuration=False,
            )
        except BaseException as error:  # of one job, however it ended; the records say what became of each
            self.error = error


def _stamp(cell: Cell) -> Any:
    """Tells whether a cell's status was written since."""
    status = read_status(cell.folder) or {}
    with contextlib.suppress(OSError):
        return status.get("state"), status.get("started"), (cell.folder / "status.json").stat().st_mtime_ns
    return None


def _check_launcher(launcher: list[str]) -> None:
    """Raises: ConfigError naming the launcher and those that are known, or the option that it does not take."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    name = next(text for text in launcher if "hydra/launcher=" in text).partition("=")[2]
    known = known_launchers()
    if name not in known:
        extra = next((e for e in ("slurm", "ray", "parallel") if name.startswith(_EXTRAS[e])), None)
        hint = f" pip install 'poolbench[{extra}]' brings it." if extra else nearest(name, known)
        raise ConfigError(f"unknown hydra/launcher {name!r}.{hint} Known here: {', '.join(known)}")
    try:
        with _hydra() as hydra:
            hydra.compose_config(None, launcher, _multirun(), with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"hydra/launcher={name}: {str(error).partition(chr(10))[0]}") from error


def _workarounds(launcher: list[str]) -> list[str]:
    """hydra-ray-launcher gives ``ray.init`` a size of the object store, which Ray refuses for a cluster that runs."""
    key = "hydra.launcher.ray.init.object_store_memory"
    if "hydra/launcher=ray" in launcher and not any(key in text for text in launcher):
        return [f"++{key}=null"]
    return []


_EXTRAS = {"slurm": "submitit", "ray": "ray", "parallel": "joblib"}


def _multirun() -> Any:
    from hydra.types import RunMode

    return RunMode.MULTIRUN


@contextlib.contextmanager
def _hydra() -> Iterator[Any]:
    from hydra import __version__, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    old = {"version_base": "1.3"} if __version__.startswith(("1.2", "1.3")) else {}
    with initialize_config_dir(config_dir=str(config_dir()), job_name="poolbench", **old):
        yield GlobalHydra.instance().hydra


class _Slurm:
    """What is left in SLURM's queue of the jobs that submitit started, asked of ``squeue``: submitit itself asks the
    accounting database, which many a cluster has not, and then waits for ever for a job that was cancelled.

    Args:
        folder: of the launch; submitit keeps a folder for each job below it, named by the job's number.
        began: when; jobs of earlier launches lie there too.
    """

    def __init__(self, folder: Path, began: float):
        self.folder, self.began = folder, began
        self._asked = 0.0
        self._empty = 0  # answers in a row that nothing is left

    def knows(self) -> bool:
        """Whether there is a job to ask for."""
        return bool(self._jobs())

    def empty(self) -> bool:
        """Whether no job is left, by two answers in a row: a job may be between two states."""
        if time.monotonic() - self._asked >= _SLURM_POLL_SECONDS:
            self._asked = time.monotonic()
            left = self._left()
            self._empty = self._empty + 1 if left == 0 else 0
        return self._empty >= 2

    def _left(self) -> int | None:
        command = ["squeue", "--noheader", "--format=%A", "--jobs", ",".join(sorted(self._jobs()))]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if answer.returncode != 0:  # it does not know jobs that ended a while ago
            return 0 if "Invalid job id" in answer.stderr else None
        return len(answer.stdout.split())

    def _jobs(self) -> set[str]:
        """Numbers of the jobs (of an array: of the whole), from the folders that submitit made for them."""
        return {
            match[1]
            for path in self.folder.glob(".submitit/*")
            if (match := re.match(r"(\d+)", path.name)) and path.stat().st_mtime >= self.began - 1
        }
