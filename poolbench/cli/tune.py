"""Search the best recipe of each treatment, as each pool, on a validation split: same trials, same budget for all.

  poolbench tune pool=max,average,lp model=convnet_small trainer.epochs=9 --param 'optimizer.lr=log(0.01,1.0)'
  poolbench tune pool=max,lp --param optimizer.weight_decay=0,0.0005,0.005 --sampler grid --plan
  poolbench sweep pool=max,average,lp model=convnet_small trainer.epochs=9 seeds=6 optimizer=sgd,tuned

Ranges: log(0.01,1.0), uniform(0,0.1), int(1,5), logint(8,512), choice(a,b) or a,b. All trials are trained for a part
of trainer.epochs, the best of them anew for longer (--eta), the last few in full. The test set is never read. Killed at
any moment, the same command goes on. The winners go to tuned/NAME.yaml; `tuned=NAME`, or `optimizer=tuned` for the one
called default, takes them into run, plan and sweep. docs/tuning.md has more.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from poolbench.cli.options import add_overrides
from poolbench.cli.words import percent
from poolbench.messages import counted

if TYPE_CHECKING:
    from poolbench.sweep.cells import Plan
    from poolbench.tuning.run import Outcome, Wave
    from poolbench.tuning.search import Search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--param", action="append", default=[], metavar="OPTION=RANGE", help="what is searched; may be given repeatedly"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="points tried for each treatment (9)")
    parser.add_argument("--sampler", default="random", choices=("random", "grid", "optuna"), help="(random)")
    parser.add_argument("--eta", type=int, default=3, metavar="N", help="one in N goes on, for N times the epochs (3)")
    parser.add_argument("--draw-seed", type=int, default=0, metavar="N", help="what points are drawn with (0)")
    parser.add_argument("--name", default="default", help="of the file of winners, tuned/NAME.yaml (default)")
    parser.add_argument("--plan", action="store_true", help="show rungs, cells and budget, and train nothing")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.sweep.launch import launch_plan, launcher_options
    from poolbench.sweep.tuned import path_of, read_entries, write_entries
    from poolbench.sweep.workers import run_plan
    from poolbench.tuning.run import Unfinished, entry, run_search
    from poolbench.tuning.search import Sources, make_search

    launcher, overrides = launcher_options(arguments.overrides)
    search = make_search(
        overrides,
        arguments.param,
        Sources(arguments.config_dir, arguments.trust),
        name=arguments.name,
        trials=arguments.trials,
        sampler=arguments.sampler,
        eta=arguments.eta,
        seed=arguments.draw_seed,
    )
    if path_of(search.name).exists():
        read_entries(search.name)  # one that cannot be read is said before the work, not after it
    _show_plan(search)
    if arguments.plan:
        seen = _Seen()
        try:
            run_search(search, seen)
            print("every rung is done; the command without --plan shows the winners")
        except Unfinished:
            rung = len(seen.done) - 1
            print(f"done before: {seen.done[rung]} of {counted(seen.cells[rung], 'cell')} of rung {rung + 1}")
        return 0
    runner = (lambda plan, watcher: launch_plan(plan, launcher, watcher)) if launcher else run_plan
    try:
        outcomes = run_search(search, _Trainer(search, runner))
    except Unfinished as reason:
        print(f"poolbench: the search is not over: {reason}; the same command goes on", file=sys.stderr)
        return 1
    found = [entry(search, outcome) for outcome in outcomes if outcome.winner is not None]
    path = write_entries(search.name, found) if found else None
    _show_outcomes(search, outcomes)
    if path:
        words = f"tuned={search.name}" if search.name != "default" else "optimizer=tuned"
        print(f"Winners: {path}; `poolbench sweep ... {words}` takes them.")
    lost = [outcome.treatment.label for outcome in outcomes if outcome.winner is None]
    if lost:
        print(f"poolbench: no winner for {', '.join(lost)}: all trials failed; try other ranges", file=sys.stderr)
    return 1 if lost else 0


class _Trainer:
    """Trains one wave after another, and keeps ``sweep.max_hours`` over all of them."""

    def __init__(self, search: "Search", run: Callable[..., dict[str, str]]):
        self.search, self.run, self.began = search, run, time.monotonic()

    def __call__(self, wave: "Wave") -> Mapping[str, str]:
        from poolbench.cli.progress import SweepProgress
        from poolbench.records.state import DONE
        from poolbench.tuning.run import open_cells

        plan = self._in_time(open_cells(wave))
        rung = self.search.rungs[wave.rung]
        print(
            f"rung {wave.rung + 1} of {len(self.search.rungs)}, {_epochs(rung.epochs)}: "
            f"{counted(len(wave.plan.cells), 'cell')}, {len(wave.plan.cells) - len(plan.cells)} done before",
            flush=True,
        )
        if not plan.cells:
            return {}
        done = sum(cell.state() == DONE for cell in plan.cells)
        with SweepProgress(plan, done) as progress:
            return self.run(plan, progress)

    def _in_time(self, plan: "Plan") -> "Plan":
        from poolbench.tuning.run import Unfinished

        hours = plan.options["max_hours"]
        if hours is None or not plan.cells:
            return plan
        left = hours - (time.monotonic() - self.began) / 3600
        if left <= 0:
            raise Unfinished("sweep.max_hours was over")
        return dataclasses.replace(plan, options={**plan.options, "max_hours": left})


class _Seen:
    """Looks at each wave and trains nothing."""

    def __init__(self) -> None:
        self.done: dict[int, int] = {}
        self.cells: dict[int, int] = {}

    def __call__(self, wave: "Wave") -> Mapping[str, str]:
        from poolbench.tuning.run import open_cells

        settled = len(wave.plan.cells) - len(open_cells(wave).cells)
        self.done[wave.rung] = self.done.get(wave.rung, 0) + settled
        self.cells[wave.rung] = self.cells.get(wave.rung, 0) + len(wave.plan.cells)
        return {}


def _show_plan(search: "Search") -> None:
    ranges = ", ".join(f"{parameter.option} in {parameter.text}" for parameter in search.parameters)
    treatments = ", ".join(treatment.label for treatment in search.treatments)
    print(f"search {search.name}: {ranges}")
    print(f"for each of {len(search.treatments)}: {treatments}")
    print(
        f"by {search.sampler}, seed{'s' if len(search.seeds) > 1 else ''} {', '.join(map(str, search.seeds))}, "
        f"{100 * search.validation:g} % of the training set held out to choose by"
    )
    cells = epochs = 0
    for number, rung in enumerate(search.rungs, start=1):
        count = search.cells(rung)
        cells, epochs = cells + count, epochs + count * rung.epochs
        trials = counted(rung.trials, "trial")
        print(f"  rung {number}: {trials:>10} each, {_epochs(rung.epochs)}: {counted(count, 'cell')}")
    each = _epochs(epochs // len(search.treatments))
    print(f"  in all {counted(cells, 'cell')}, {_epochs(epochs)}, {each} a treatment")


def _show_outcomes(search: "Search", outcomes: "list[Outcome]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("treatment", *(parameter.option for parameter in search.parameters)):
        table.add_column(title, overflow="fold")
    for title in ("validation", "of the last", "failed"):
        table.add_column(title, justify="right", no_wrap=True)
    notes = []
    for outcome in outcomes:
        last = {trial: score for trial, score in outcome.scores[-1].items() if score.accuracy is not None}
        failed = sum(score.accuracy is None for scores in outcome.scores for score in scores.values())
        if outcome.winner is None:
            row = [outcome.treatment.label, *("-" for _ in search.parameters), "-", "-", str(failed)]
        else:
            accuracies = [score.accuracy for score in last.values()]
            spread = f"{100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %"
            best = percent(last[outcome.winner].accuracy)
            row = [outcome.treatment.label, *outcome.points[outcome.winner], best, spread, str(failed)]
            notes += _warnings(search, outcome)
        table.add_row(*map(Text, row))
    print()
    width = None if sys.stdout.isatty() else 80
    console = Console(width=width, highlight=False)
    console.print(table)
    for note in notes:
        console.print(Text(f"* {note}"))


def _warnings(search: "Search", outcome: "Outcome") -> list[str]:
    """Why a winner may not be the best there is."""
    from poolbench.tuning.rungs import ranked

    assert outcome.winner is not None
    label, scores, said = outcome.treatment.label, outcome.scores[-1], []
    for parameter, value in zip(search.parameters, outcome.points[outcome.winner], strict=True):
        if edge := parameter.edge(value):
            said.append(
                f"{label}: {parameter.option}={value} lies at the {edge} edge of {parameter.text}: "
                "what is beyond may be better, so widen the range for all."
            )
    best = scores[outcome.winner]
    others = [scores[trial] for trial in ranked(scores) if trial != outcome.winner]
    error = best.error
    # The error of a difference of two; the images are the same, which makes it a little less.
    close = [o for o in others if o.accuracy is not None and best.accuracy - o.accuracy <= error]
    if close:
        said.append(
            f"{label}: the choice is within noise: {len(close)} of {len(others)} others in the last rung lie within "
            f"one standard error, {100 * error:.1f} points with {best.images:,} validation images."
        )
    return said


def _epochs(count: int) -> str:
    return counted(count, "epoch")
