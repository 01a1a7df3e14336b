"""Training the cells of a plan with its progress shown, and telling afterwards which are not done and why."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from poolbench.cli.progress import Screen, SweepProgress, usual_screen
from poolbench.messages import counted
from poolbench.records.labels import cell_name
from poolbench.records.ownership import tidy
from poolbench.records.printable import printable
from poolbench.records.state import DONE, INTERRUPTED
from poolbench.sweep.cells import Plan
from poolbench.sweep.launch import launch_plan
from poolbench.sweep.workers import run_plan


def train(plan: Plan, launcher: list[str], elsewhere: int = 0, screen: Screen | None = None) -> dict[str, str]:
    """Train what is not done of ``plan``, with Hydra's ``launcher`` if there is one.

    Args:
        elsewhere: how many cells of the sweep are not in ``plan`` because published records have them.
        screen: where progress is shown; the terminal unless told otherwise.
    Returns: ``run_id`` -> why, of the cells that failed.
    """
    screen = screen or usual_screen()
    states = plan.states()
    done = sum(state == DONE for state in states.values())
    begun = sum(state == INTERRUPTED for state in states.values())
    told = [f"{done} done before"]
    told += [f"{elsewhere} taken from published records"] if elsewhere else []
    told += [f"{begun} to go on with"] if begun else []
    screen.line(f"sweep {plan.name}: {counted(len(plan.cells) + elsewhere, 'cell')}, {', '.join(told)}")
    for note in plan.notes:
        screen.line(printable(f"note: {note}"))
    failed: dict[str, str] = {}
    if done < len(plan.cells):
        with SweepProgress(plan, done, screen) as progress:
            failed = launch_plan(plan, launcher, progress) if launcher else run_plan(plan, progress)
    for cell in plan.cells:
        tidy(cell.folder)
    return failed


def tell_what_is_left(plan: Plan, failed: Mapping[str, str], config_dir: Iterable[Path]) -> int:
    """Say what failed, and how to try it again. Returns: how many cells of ``plan`` are not done."""
    unfinished, lines = what_is_left(plan, failed, config_dir)
    for line in lines:
        print(line, file=sys.stderr)
    return unfinished


def what_is_left(plan: Plan, failed: Mapping[str, str], config_dir: Iterable[Path]) -> tuple[int, list[str]]:
    """How many cells of ``plan`` are not done, and in lines what failed and how to try it again."""
    lines = []
    for cell in plan.cells:
        if cell.run_id in failed:
            lines.append(printable(f"failed: {cell_name(cell.config)}: {failed[cell.run_id]}"))
            again = [*(f"--config-dir={folder}" for folder in config_dir), *cell.overrides]
            lines.append(f"  again: poolbench run {shlex.join(again)}")
            for name in ("error.txt", "log.txt"):
                if (cell.folder / name).exists() and (cell.folder / name).stat().st_size:
                    lines.append(f"  see:   {cell.folder / name}")
    unfinished = sum(state != DONE for state in plan.states().values())
    if unfinished and plan.options["max_hours"] is not None and len(failed) < unfinished:
        lines.append("poolbench: sweep.max_hours was over before all cells were started")
    if unfinished:
        are = "is" if unfinished == 1 else "are"
        lines.append(f"poolbench: {unfinished} of {counted(len(plan.cells), 'cell')} {are} not done")
    return unfinished, lines
