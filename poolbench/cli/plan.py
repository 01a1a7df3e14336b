"""Show the cells of a sweep, how far each is and what the rest should cost, without training.

  poolbench plan pool=max,average,overlapping seeds=3 data=cifar10
  poolbench plan sweep=demo             takes what `poolbench sweep` takes

Costs are those of like cells in runs_dir: the same but for the seed, else with another budget (scaled by the number of
training images), else with another pool. They hold for the machine that trained those.

`--json` gives one object: sweep, notes, cells (run_id, state, overrides, seconds, train_flops, basis; null where
nothing is known), chances (of an experiment's claims: claim, sd, decided, seeds_for_80_percent), counts (state to
number) and left: cells, workers, seconds (until the last one ends), seconds_of_work, train_flops, checkpoint_bytes,
cells_without_estimate.
"""

import argparse
import json
import math
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.cli.options import add_overrides
from poolbench.cli.words import duration
from poolbench.messages import counted
from poolbench.records.identity import cell_hash
from poolbench.records.labels import cell_name
from poolbench.records.printable import printable

if TYPE_CHECKING:
    from poolbench.claims.chances import Chance
    from poolbench.sweep.cells import Plan
    from poolbench.sweep.estimate import Estimate

_STATE = 13  # columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for scripts: one object")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    ahead = look_ahead(arguments.overrides, arguments.config_dir, arguments.trust)
    if arguments.json:
        print(json.dumps(ahead.content(), indent=2, allow_nan=False))
        return 0
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 0
    print("\n".join(ahead.cell_lines(width)))
    print(ahead.count)
    for line in ahead.notes:
        print("\n".join(_wrapped(line, width, "  ")))
    return 0


def look_ahead(overrides: Iterable[str], config_dir: Iterable[Path], trust: Iterable[str]) -> "Ahead":
    """The plan of a sweep and what it should cost. Raises: as :func:`poolbench.sweep.plan.make_plan` does."""
    from poolbench.sweep.estimate import cells_at_once, estimate
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    plan = make_plan(launcher_options(list(overrides))[1], config_dir, trust=trust)
    states = plan.states()
    workers = cells_at_once(plan)
    return Ahead(plan, states, estimate(plan, states, workers), workers, *_chances(plan))


@dataclass(frozen=True)
class Ahead:
    """What a sweep has before it.

    Args:
        states: ``run_id`` -> how far the cell is; estimates: of those that are not done.
        workers: cells at once.
        chances: of the claims of an experiment; seeds: how many the sweep has.
    """

    plan: "Plan"
    states: Mapping[str, str]
    estimates: "Mapping[str, Estimate]"
    workers: int
    chances: "Sequence[Chance]"
    seeds: int

    def content(self) -> dict[str, Any]:
        """All of it, as ``--json`` gives it."""
        content = {"sweep": self.plan.name, "notes": self.plan.notes, "cells": self.rows()}
        content |= {"chances": [_chance_row(one) for one in self.chances]}
        return {**content, "counts": self._counts(), "left": left(self.estimates, self.workers)}

    def rows(self) -> list[dict[str, Any]]:
        """One for each cell, as ``--json`` gives them."""
        return _rows(self.plan, self.states, self.estimates)

    def cell_lines(self, width: int = 0) -> list[str]:
        """The cells for people, in lines of ``width`` columns; 0: of any."""
        return _cell_lines(self.plan, self.states, width)

    def parted(self) -> tuple[list[str], dict[str, list[str]]]:
        """The options that all of several cells have, and ``run_id`` -> the others."""
        return _parted(self.plan)

    @property
    def count(self) -> str:
        """How many cells there are, and how far they are."""
        states = ", ".join(f"{count} {state}" for state, count in self._counts().items())
        return f"{counted(len(self.plan.cells), 'cell')}: {states}"

    @property
    def notes(self) -> list[str]:
        """What the rest should cost, whether it will decide the claims, and what else is to be known."""
        told = cost_lines(self.estimates.values(), left(self.estimates, self.workers))
        if self.chances:
            from poolbench.claims.chances import chance_lines

            told += chance_lines(self.chances, self.seeds)
        return [*told, *(f"note: {note}" for note in self.plan.notes)]

    def _counts(self) -> dict[str, int]:
        return dict(sorted(Counter(self.states.values()).items()))


def _chances(plan: "Plan") -> "tuple[list[Chance], int]":
    """Of the claims that a sweep of experiments/ has, by the spread of what is published, and with how many seeds."""
    from poolbench.config_files import experiments_dir

    folder = experiments_dir() / plan.name.removesuffix(f"-{plan.scale}")
    seeds = len({cell.config["seed"] for cell in plan.cells})
    if not (folder / "claim.yaml").is_file():  # what follows takes a while to import
        return [], seeds
    from poolbench.claims.chances import chances
    from poolbench.claims.looks import read_looks
    from poolbench.claims.published import published
    from poolbench.claims.reading import read_claims

    known, _ = published(plan.name, (cell.run_id for cell in plan.cells))
    looks = read_looks(folder, plan.scale, 10**6)
    claims = read_claims(folder / "claim.yaml", plan.scale, plan.scales)
    return chances(claims, known.values(), seeds, len(looks) or 1), seeds


def _chance_row(one: "Chance") -> dict[str, Any]:
    """``decided``: true gain, in the metric's unit -> the chance."""
    sd = None if math.isnan(one.sd) else one.sd
    decided = [{"gain": gain, "chance": chance} for gain, chance in one.decided.items()]
    return {"claim": one.who, "sd": sd, "decided": decided, "seeds_for_80_percent": one.needed}


def _cell_lines(plan: "Plan", states: Mapping[str, str], width: int) -> list[str]:
    """A line a cell, or two where one would not fit; what all cells have in common is said once."""
    common, others = _parted(plan)
    lines = _wrapped(f"all cells: {shlex.join(common)}", width, " " * 11) if common else []
    own = {run_id: shlex.join(texts) for run_id, texts in others.items()}
    names = {cell.run_id: printable(cell_name(cell.config)) for cell in plan.cells}
    longest = max(map(len, names.values()))
    for cell in plan.cells:
        # The hash is the end of the folder's name, and what `poolbench logs` and `show` take.
        name = f"{names[cell.run_id]:<{longest}}  {cell_hash(cell.run_id)}"
        head = f"{states[cell.run_id]:<{_STATE}}{name}"
        line = f"{head}  {own[cell.run_id]}".rstrip()
        if not width or len(line) <= width:
            lines.append(line)
        else:
            lines += [head] if len(head) <= width else [states[cell.run_id], *_wrapped(f"  {name}", width, "  ")]
            lines += [*_wrapped(" " * _STATE + own[cell.run_id], width, " " * _STATE)]
    return lines


def _parted(plan: "Plan") -> tuple[list[str], dict[str, list[str]]]:
    common = [text for text in plan.cells[0].overrides if all(text in cell.overrides for cell in plan.cells)]
    common = common if len(plan.cells) > 1 else []
    return common, {cell.run_id: [text for text in cell.overrides if text not in common] for cell in plan.cells}


def cost_lines(estimates: Iterable["Estimate"], rest: Mapping[str, Any], known_from: str = "runs_dir") -> list[str]:
    """What cells should cost, for people; ``rest`` is what :func:`left` says of them. Empty without cells."""
    estimates = list(estimates)
    if not estimates:
        return []
    if rest["cells_without_estimate"] == rest["cells"]:
        return ["left: nothing like it was trained here yet, so no estimate (one cell is enough for one)"]
    parts = [f"about {duration(rest['seconds'])} with {counted(rest['workers'], 'worker')}"]
    if rest["workers"] > 1:
        parts.append(f"{duration(rest['seconds_of_work'])} of work")
    if rest["train_flops"] is not None:
        parts.append(f"{rest['train_flops']:.1e} training FLOPs".replace("e+", "e"))
    if rest["checkpoint_bytes"]:
        parts.append(f"{_size(rest['checkpoint_bytes'])} of checkpoints")
    bases = Counter(one.basis for one in estimates if one.basis)
    said = ", ".join(f"{basis} ({count})" for basis, count in sorted(bases.items()))
    lines = [f"left: {', '.join(parts)}", f"told from like cells in {known_from}, of {said}"]
    if missing := rest["cells_without_estimate"]:
        lines.append(f"and {counted(missing, 'cell')} without an estimate: nothing like it was trained here")
    return lines


def left(estimates: Mapping[str, "Estimate"], workers: int) -> dict[str, Any]:
    """What all cells with estimates should cost together, as ``--json`` gives it."""
    from poolbench.sweep.estimate import wall_seconds

    known = [one for one in estimates.values() if one.seconds is not None]
    flops = [one.train_flops for one in known if one.train_flops is not None]
    sizes = [one.checkpoint_bytes for one in known if one.checkpoint_bytes is not None]
    return {
        "cells": len(estimates),
        "workers": workers,
        "seconds": wall_seconds(known, workers) if known or not estimates else None,
        "seconds_of_work": sum(one.seconds or 0.0 for one in known) if known or not estimates else None,
        "train_flops": sum(flops) if flops or not estimates else None,
        "checkpoint_bytes": round(sum(sizes)) if sizes or not estimates else None,
        "cells_without_estimate": len(estimates) - len(known),
    }


def _rows(plan: "Plan", states: Mapping[str, str], estimates: Mapping[str, "Estimate"]) -> list[dict[str, Any]]:
    rows = []
    for cell in plan.cells:
        row = {"run_id": cell.run_id, "state": states[cell.run_id], "overrides": list(cell.overrides)}
        one = estimates.get(cell.run_id)
        row |= {"seconds": one and one.seconds, "train_flops": one and one.train_flops}
        rows.append({**row, "basis": (one and one.basis) or None})
    return rows


def _size(count: float) -> str:
    """``2.0 MB``"""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """``line`` in as many as it takes; words, which may be copied from here, stay whole."""
    if not width:
        return [line]
    start = len(line) - len(line.lstrip())
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(line.strip(), width, initial_indent=line[:start], subsequent_indent=indent, **whole)
