"""Find the best of many arms with few cells: what is surely not the best falls, the others go on.

  poolbench race pool=all model=convnet_small data=cifar10 trainer.epochs=8 hours=4 --plan
  poolbench race pool=all model=convnet_small data=cifar10 trainer.epochs=8 hours=4
  poolbench race head=all model=convnet_small race.looks=[3,5,8] race.difference=1

Options are those of `poolbench sweep`; every combination of them is an arm, and pool=all or head=all means all that
there are. Arms are trained block by block (a seed each) without the test set, and looked at on a validation split after
the declared numbers of blocks. Killed at any moment, the same command goes on. The test set is read once, at the end,
for the arms that are left.

  race.looks=[3,5,8,12,20]    blocks after which arms are looked at
  race.difference=0.5         points of accuracy that matter: it ends when the first is surely no more behind any other
  race.epochs=[2,8]           first a look at a cheap budget, where only arms far behind fall; then the full one
  race.cheap_difference=3     points that an arm must surely be behind to fall there
  race.name=NAME              of its folder, report/race-NAME
  hours=4                     no block is begun that would not end in time; the same command later has hours anew
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from poolbench.cli.options import add_overrides
from poolbench.cli.words import duration
from poolbench.messages import counted

if TYPE_CHECKING:
    from poolbench.cli.progress import Screen
    from poolbench.racing.declared import Budget, Race
    from poolbench.racing.run import Outcome, Step, Unfinished
    from poolbench.racing.told import Halving, Row
    from poolbench.sweep.cells import Plan

RISK = (
    "a cheap budget comes first: an arm that learns late may fall there, as ranks at few epochs need not be those at "
    "many; the 95 % hold for the arms that the full budget begins with"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="show arms, looks, cells and estimate, and train nothing")
    add_overrides(parser)
    parser.set_defaults(own_words=("hours",))


def main(arguments: argparse.Namespace) -> int:
    from poolbench.racing.declared import make_race
    from poolbench.racing.run import Unfinished
    from poolbench.sweep.launch import launcher_options

    launcher, overrides = launcher_options(arguments.overrides)
    race = make_race(overrides, arguments.config_dir, arguments.trust)
    print("\n".join(plan_lines(race)))
    if arguments.plan:
        print("\n".join(ahead_lines(race)))
        return 0
    try:
        outcome = run(race, launcher)
    except Unfinished as reason:
        print(f"poolbench: {unfinished_words(race, reason)}", file=sys.stderr)
        return 1
    if not outcome.left:
        for line in nobody_left(outcome):
            print(f"poolbench: {line}", file=sys.stderr)
        return 1
    _show_end(race, standings(race, outcome))
    return 0


def run(race: "Race", launcher: list[str], screen: "Screen | None" = None) -> "Outcome":
    """Declare ``race`` and run it to its end. Raises: ConfigError where it was declared otherwise; Unfinished."""
    from poolbench.cli.progress import usual_screen
    from poolbench.racing.declared import declare
    from poolbench.racing.run import run_race
    from poolbench.sweep.launch import launch_plan
    from poolbench.sweep.workers import run_plan

    screen = screen or usual_screen()
    declare(race)
    runner = (lambda plan, watcher: launch_plan(plan, launcher, watcher)) if launcher else run_plan

    def tell(step: "Step") -> None:
        for line in step_lines(race, step):
            screen.line(line)

    return run_race(race, _Trainer(race, runner, screen), tell)


def unfinished_words(race: "Race", reason: "Unfinished") -> str:
    """Why a race is not over."""
    why = "the hours were up before the first look" if race.hours else "cells of the next look are not done"
    return f"the race is not over: {why} ({reason}); the same command goes on"


def nobody_left(outcome: "Outcome") -> list[str]:
    """What became of the arms of a race that no arm is left of."""
    gone = [f"{one.arm}: {one.reason}" for one in outcome.gone]
    return [*gone, "every arm failed, so there is nothing to race"]


@dataclasses.dataclass(frozen=True)
class Standings:
    """How a race ended.

    Args:
        title: of its figure; rows: an arm each, as :func:`poolbench.racing.told.rows` gives them.
        facts: to be said beside the table; looks: the words of each look.
    """

    title: str
    rows: "list[Row]"
    facts: list[str]
    looks: list[str]


def standings(race: "Race", outcome: "Outcome") -> Standings:
    """Read the test set for the arms that are left, and tell how the race ended."""
    from poolbench.racing.told import halving, rows

    tested = _tested(race, outcome)
    halved = halving(race, outcome)
    title = f"Race {race.name}: {_title(race, outcome, halved)}"
    looks = [_look_words(race, step) for step in outcome.steps]
    return Standings(title, rows(race, outcome, tested), _facts(race, outcome, halved), looks)


class _Trainer:
    """Trains what there is before each look, and keeps ``hours`` over all of it."""

    def __init__(self, race: "Race", run: Callable[..., dict[str, str]], screen: "Screen"):
        self.race, self.run, self.screen, self.began = race, run, screen, time.monotonic()

    def __call__(self, plan: "Plan") -> Mapping[str, str]:
        from poolbench.cli.progress import SweepProgress
        from poolbench.racing.run import arm_of, open_cells, unbuildable

        options = {**plan.options, "max_hours": self._left()}
        if not open_cells(plan).cells or options["max_hours"] == 0:
            return {}
        refused = unbuildable(plan)
        lost = {arm_of(cell) for cell in plan.cells if cell.run_id in refused}
        own = open_cells(plan)
        own = dataclasses.replace(own, options=options, cells=tuple(c for c in own.cells if arm_of(c) not in lost))
        done = len(plan.cells) - len(own.cells) - len(refused)
        self.screen.line(f"{plan.name}: {counted(len(own.cells), 'cell')} to train, {done} done before")
        if not own.cells:
            return refused
        with SweepProgress(own, 0, self.screen) as progress:
            return {**self.run(own, progress), **refused}

    def _left(self) -> float | None:
        """Hours; None where there is no end."""
        hours = self.race.hours
        return None if hours is None else max(0.0, hours - (time.monotonic() - self.began) / 3600)


def _tested(race: "Race", outcome: "Outcome") -> dict[str, list[float]]:
    """Test accuracies of the arms that are left, of each cell that was looked at; what was read before stands."""
    from poolbench.probing import read_test_later
    from poolbench.racing.run import records_of

    found: dict[str, list[float]] = {}
    for arm, records in records_of(race.full, outcome.left, outcome.blocks).items():
        for cell, record in zip(race.full.cells[arm], records, strict=False):
            # What the command line names is the user's own; a record in the folder may be anybody's.
            own = dataclasses.replace(record, config=cell.config)
            found.setdefault(arm, []).append(read_test_later(own, trust=True)["numbers"]["test_accuracy"])
    return found


def plan_lines(race: "Race") -> list[str]:
    """What was decided before the first cell."""
    lines = [f"race {race.name}: {counted(len(race.arms), 'arm')}: {', '.join(race.arms)}"]
    lines += [f"  {arm} cannot take part: {why}" for arm, why in race.refused.items()]
    for budget in race.budgets:
        looks = ", ".join(map(str, budget.looks))
        falls = f"falls where another is surely more than {_points(budget.margin)} points better"
        falls = falls if budget.cheap else "falls where another is surely better"
        lines.append(f"  {_epochs(budget)}: looks after {looks} blocks (seeds); an arm {falls}")
    close = f"no more than {_points(race.difference)} points behind"
    lines.append(f"  it ends with one arm, or when the first is surely {close} any other")
    lines.append(f"  in 95 of 100 races or more an arm is left that is the best, or {close}")
    lines += [f"note: {note}" for note in race.notes]
    return lines + ([f"note: {RISK}"] if len(race.budgets) > 1 else [])


def ahead_lines(race: "Race") -> list[str]:
    """What there is to train at the most, what of that is done, and what the rest should cost."""
    from poolbench.cli.plan import cost_lines, left
    from poolbench.racing.run import plan_of
    from poolbench.records.state import DONE
    from poolbench.sweep.estimate import cells_at_once, estimate

    plans = [plan_of(race, budget, race.arms, budget.looks[-1]) for budget in race.budgets]
    whole = dataclasses.replace(plans[0], cells=tuple(cell for plan in plans for cell in plan.cells))
    states, workers = whole.states(), cells_at_once(whole)
    done = sum(state == DONE for state in states.values())
    lines = [f"at the most {counted(race.most_cells, 'cell')}, when no arm falls; {done} done before"]
    estimates = estimate(whole, states, workers)
    return lines + cost_lines(estimates.values(), left(estimates, workers))


def step_lines(race: "Race", step: "Step") -> list[str]:
    """A look, as it was made."""
    from poolbench.report.tables import plus_minus

    budget = race.budgets[step.budget]
    found = f", {step.look.blocks} of them whole" if step.look and step.look.blocks < step.blocks else ""
    lines = [f"look after {step.blocks} blocks{found}, {_epochs(budget)}:"]
    for one in step.gone:
        if one.gain is None:
            lines.append(f"  {one.arm} fell: {one.reason}")
            continue
        low, high = one.gain.interval()
        by = plus_minus({"by": one.gain.mean, "by_low": low, "by_high": high}, "by")
        lines.append(f"  {one.arm} fell: {one.rival} is better by {by} points")
    return [*lines, f"  {len(step.left)} left: {', '.join(step.left)}"]


def _show_end(race: "Race", end: Standings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from poolbench.report.race import TITLES, texts, write_race

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in TITLES:
        table.add_column(title, justify="left" if title in TITLES[:3] else "right", overflow="fold")
    for row in end.rows:
        table.add_row(*map(Text, texts(row)))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    print()
    console.print(table)
    for fact in end.facts:
        console.print(Text(f"* {fact}"))
    write_race(race.folder, end.title, end.facts, end.rows, end.looks)
    print(f"Report: {race.folder.as_posix()}/race.md")


def _facts(race: "Race", outcome: "Outcome", halved: "Halving | None") -> list[str]:
    """What is to be said beside the table."""
    facts = [
        f"It ended after {outcome.blocks} blocks: {outcome.end}.",
        f"With a chance of 95 % or more an arm is left that is the best, or no more than {_points(race.difference)} "
        "points worse, as read on the validation images.",
        f"{counted(outcome.full_cells, 'cell')} of the full budget trained, of the {_grid(race)} of a full grid"
        + (f"; and {outcome.cells - outcome.full_cells} at cheap budgets." if len(race.budgets) > 1 else "."),
        "Accuracies in % with 95 % intervals; the test set was read once, of the arms that are left.",
    ]
    if halved is not None:
        facts.append(_halving_words(halved))
    if len(race.budgets) > 1:
        facts.append(f"Risk: {RISK}.")
    return facts


def _halving_words(told: "Halving") -> str:
    how = "told from today's means and noise, as if both stayed"
    if told.cells is None:
        return f"Half of the arms that are left are as good as the best: more blocks should not halve them ({how})."
    blocks, cells = f"{math.ceil(told.blocks)} blocks in all", counted(told.cells, "cell")
    return (
        f"To halve the arms that are left should take {blocks}, {cells} more, about {duration(told.seconds)} here "
        f"({how}; a cell takes what those of its arm took)."
    )


def _look_words(race: "Race", step: "Step") -> str:
    epochs = race.budgets[step.budget].epochs
    return f"{step.blocks} blocks" + (f", {counted(epochs, 'epoch')}" if race.budgets[step.budget].cheap else "")


def _title(race: "Race", outcome: "Outcome", halved: "Halving | None") -> str:
    of = len(outcome.left) + len(outcome.gone)
    cells = f"{counted(outcome.full_cells, 'cell')} of the {_grid(race)} of a full grid"
    title = f"{len(outcome.left)} of {counted(of, 'arm')} left after {outcome.blocks} blocks, {cells}"
    if halved is None or halved.cells is None:
        return title
    more = f"{counted(halved.cells, 'cell')} more, {duration(halved.seconds)}"
    return f"{title}\nTo halve what is left should take {more}; bounds of differences are those of 95 % intervals"


def _grid(race: "Race") -> int:
    """Cells that there would be if no arm fell."""
    return len(race.arms) * race.full.looks[-1]


def _epochs(budget: "Budget") -> str:
    epochs = {cells[0].trainer.epochs for cells in budget.cells.values()}
    return counted(epochs.pop(), "epoch") if len(epochs) == 1 else "epochs as each arm has them"


def _points(share: float) -> str:
    return f"{100 * share:g}"
