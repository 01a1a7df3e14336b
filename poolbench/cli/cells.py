"""Training the cells of a plan with its progress shown, and telling afterwards which are not done and why."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from poolbench.cli.progress import SweepProgress
from poolbench.messages import counted
from poolbench.records.ownership import tidy
from poolbench.records.printable import printable
from poolbench.records.state import DONE, INTERRUPTED
from poolbench.sweep.cells import Plan
from poolbench.sweep.launch import launch_plan
from poolbench.sweep.workers import run_plan


def train(plan: Plan, launcher: list[str], elsewhere: int = 0) -> dict[str, str]:
    """Train what is not done of ``plan``, with Hydra's ``launcher`` if there is one.

    Args:
        elsewhere: how many cells of the sweep are not in ``plan`` because published records have them.
    Returns: ``run_id`` -> why, of the cells that failed.
    """
    states = plan.states()
    done = sum(state == DONE for state in states.values())
    begun = sum(state == INTERRUPTED for state in states.values())
    told = [f"{done} done before"]
    told += [f"{elsewhere} taken from published records"] if elsewhere else []
    told += [f"{begun} to go on with"] if begun else []
    print(f"sweep {plan.name}: {counted(len(plan.cells) + elsewhere, 'cell')}, {', '.join(told)}", flush=True)
    for note in plan.notes:
        print(printable(f"note: {note}"))
    failed: dict[str, str] = {}
    if done < len(plan.cells):
        with SweepProgress(plan, done) as progress:
            failed = launch_plan(plan, launcher, progress) if launcher else run_plan(plan, progress)
    for cell in plan.cells:
        tidy(cell.folder)
    return failed


def tell_what_is_left(plan: Plan, failed: Mapping[str, str], config_dir: Iterable[Path]) -> int:
    """Say what failed, and how to try it again. Returns: how many cells of ``plan`` are not done."""
    for cell in plan.cells:
        if cell.run_id in failed:
            print(printable(f"failed: {cell.run_id}: {failed[cell.run_id]}"), file=sys.stderr)
            again = [*(f"--config-dir={folder}" for folder in config_dir), *cell.overrides]
            print(f"  again: poolbench run {shlex.join(again)}", file=sys.stderr)
            for name in ("error.txt", "log.txt"):
                if (cell.folder / name).exists() and (cell.folder / name).stat().st_size:
                    print(f"  see:   {cell.folder / name}", file=sys.stderr)
    unfinished = sum(state != DONE for state in plan.states().values())
    if unfinished and plan.options["max_hours"] is not None and len(failed) < unfinished:
        print("poolbench: sweep.max_hours was over before all cells were started", file=sys.stderr)
    if unfinished:
        are = "is" if unfinished == 1 else "are"
        print(f"poolbench: {unfinished} of {counted(len(plan.cells), 'cell')} {are} not done", file=sys.stderr)
    return unfinished
