"""A job of a launcher: which cells it trains, and what it does where it runs."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from poolbench.configuration import ConfigError
from poolbench.overrides import quoted
from poolbench.records import files
from poolbench.records.state import FAILED, NEW, cell_state
from poolbench.sweep.blocks import BLOCKS, block_of
from poolbench.sweep.cells import Cell, Plan

BLOCK = "block"  # what a job trains, of sweep.job
TOO_LONG = ".long"  # the plan file with this ending: a block was not begun, since it would not have ended in time


def in_jobs(plan: Plan, cells: list[Cell], deadline: float | None) -> dict[str, Any]:
    """What the plan file says of its jobs.

    Returns: ``jobs``: lists of run_ids, a job each; ``block``: run_id -> all run_ids of its block in the plan; and
        ``seconds``: run_id -> how long the cell should take, of those that like cells tell it for.
    """
    blocks: dict[Any, list[str]] = {}
    for cell in plan.cells:
        blocks.setdefault(block_of(cell), []).append(cell.run_id)
    block = {run_id: members for members in blocks.values() for run_id in members}
    jobs: dict[Any, list[str]] = {}
    for cell in cells:
        jobs.setdefault(block_of(cell) if plan.options["job"] == BLOCK else cell.run_id, []).append(cell.run_id)
    seconds: dict[str, float] = {}
    if deadline is not None and plan.options["order"] == BLOCKS:  # else nobody asks for it
        from poolbench.sweep.estimate import estimate

        told = estimate(plan, plan.states(), len(cells))
        seconds = {run_id: one.seconds for run_id, one in told.items() if one.seconds is not None}
    return {"jobs": list(jobs.values()), "block": block, "seconds": seconds}


def jobs(arguments: list[str]) -> list[list[str]]:
    """The overrides of each job, for the sweeper: the plan file's and the name of its first cell.

    Raises: ConfigError without a plan file, as when the sweeper is used by another program than ``poolbench sweep``.
    """
    plan = next((text for text in arguments if text.startswith("+plan=")), None)
    if plan is None:
        raise ConfigError("hydra/sweeper=poolbench belongs to `poolbench sweep ... hydra/launcher=NAME`")
    from poolbench.overrides import parse

    content = json.loads(Path(str(parse(plan).value())).read_text(encoding="utf-8"))
    return [[plan, f"+run_id={quoted(members[0])}"] for members in content["jobs"]]


def train_job(config: Any) -> str:
    """What runs in a job: train the cells of the job in the plan file that ``run_id`` in ``config`` begins.

    Returns: what :func:`poolbench.cell.train_cell` does of the last one, ``failed`` where one failed, or ``skipped``
        when the sweep should start no more cells.
    """
    try:
        plan = json.loads(Path(str(config.plan)).read_text(encoding="utf-8"))
    except FileNotFoundError:  # all its cells were done, by other jobs, before this one left the queue
        return "skipped"
    stop = Path(str(config.plan)).with_suffix(".stop")
    os.chdir(plan["folder"])
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a component of the user's own lies beside the work
    members = next(members for members in plan["jobs"] if members[0] == str(config.run_id))
    if _too_long(plan, members):
        Path(str(config.plan)).with_suffix(TOO_LONG).touch()
        return "skipped"
    said = "skipped"
    for run_id in members:
        if late(plan["deadline"]) or stop.exists():
            break
        cell = plan["cells"][run_id]
        with files.logged(Path(cell["runs_dir"]) / cell["run_id"]):
            from poolbench.cell import train_cell

            state = train_cell(cell, plan["code"], _threads(), None)
        if state == FAILED and plan["fail_fast"]:
            stop.touch()
        said = FAILED if FAILED in (said, state) else state
    return said


def late(deadline: float | None) -> bool:
    """Whether no cell is to be started any more."""
    return deadline is not None and time.time() > deadline


def _too_long(plan: dict[str, Any], members: list[str]) -> bool:
    """Whether the block of a job was begun by nobody, and would not end before the deadline."""
    block = plan["block"][members[0]]
    if plan["deadline"] is None or not all(run_id in plan["seconds"] for run_id in block):
        return False
    folder = Path(plan["cells"][members[0]]["runs_dir"])
    if any(cell_state(folder / run_id) != NEW for run_id in block):
        return False
    told = [plan["seconds"][run_id] for run_id in block]
    # One after the other in this job, or each in a job of its own at the same time.
    needed = sum(told) if len(members) > 1 else max(told)
    return needed > plan["deadline"] - time.time()


def _threads() -> int | None:
    """Cores that the queue gave to this job, where it says so; else the trainer takes those it may use."""
    for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):  # Ray sets the second to the cores of the task
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return None
