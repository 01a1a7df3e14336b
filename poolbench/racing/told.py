"""What a race has to tell, from its records: a row for each arm, and what another halving of the field would take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from poolbench.racing.declared import Race
from poolbench.racing.run import Gone, Outcome, accuracies, floors, plan_of, records_of
from poolbench.records.read import Record
from poolbench.statistics.estimates import mean_interval
from poolbench.statistics.race import blocks_to_halve
from poolbench.sweep.estimate import cells_at_once

Row = dict[str, Any]


@dataclass(frozen=True)
class Halving:
    """What it should take until half of the arms that are left fell.

    Args:
        blocks: of the full budget, in all; infinity where half of them are as good as the best.
        cells: beyond those that there are; seconds: of them, on this machine; None for infinitely many.
    """

    blocks: float
    cells: int | None
    seconds: float | None


def rows(race: Race, outcome: Outcome, tested: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row for each arm: those that are left, the best first, then the others, the last to fall first, and of those
    that fell at one look the better first.

    Accuracies are fractions; ``*_low`` and ``*_high`` are 95 % bounds.

    ``look`` counts the looks that an arm had a part in, its last one included.

    Args:
        tested: arm -> test accuracies of its cells, of those that are left.
    """
    looks = {(step.budget, step.blocks): place for place, step in enumerate(outcome.steps, start=1)}
    found = [_row(race, arm, None, outcome.blocks, tested.get(arm, ())) for arm in outcome.left]
    found = [{**row, "look": len(looks)} for row in found]
    fell = []
    for one in outcome.gone:
        last = looks.get((one.budget, one.blocks), len(looks) if one.blocks else 0)
        fell.append({**_row(race, one.arm, one, one.blocks, ()), "look": last})
    return found + sorted(fell, key=lambda row: -row["look"])


def halving(race: Race, outcome: Outcome) -> Halving | None:
    """None where there is nothing to halve."""
    if len(outcome.left) < 2 or outcome.blocks < 2:
        return None
    records = records_of(race.full, outcome.left, outcome.blocks)
    blocks = blocks_to_halve(accuracies(records), len(race.full.looks), floors(records))
    if math.isinf(blocks):
        return Halving(blocks, None, None)
    more = max(1, math.ceil(blocks) - outcome.blocks)
    workers = cells_at_once(plan_of(race, race.full, outcome.left, 1))
    seconds = sum(median(_seconds(own)) for own in records.values()) * more / workers
    return Halving(blocks, more * len(outcome.left), seconds)


def _row(race: Race, arm: str, gone: Gone | None, blocks: int, tested: Sequence[float]) -> Row:
    budget = race.full if gone is None else race.budgets[gone.budget]
    records = records_of(budget, [arm], blocks)[arm] if arm in budget.cells else []
    result = (records[0].result or {}) if records else {}
    gain = gone.gain if gone else None
    low, high = gain.interval() if gain else (None, None)
    return {
        "arm": arm,
        "left": gone is None,
        "epochs": budget.epochs or (budget.cells[arm][0].trainer.epochs if arm in budget.cells else None),
        "cheap": budget.cheap,
        "blocks": blocks,
        "cells": sum(len(records_of(one, [arm], one.looks[-1])[arm]) for one in race.budgets if arm in one.cells),
        "behind": gone.rival if gone else None,
        "by": gain.mean if gain else None,
        "by_low": low,
        "by_high": high,
        "failed": gone.reason if gone else "",
        **_mean("validation_accuracy", [one.result["validation_accuracy"] for one in records if one.result]),
        **_mean("test_accuracy", tested),
        "test_cells": len(tested),
        "parameters": result.get("parameters"),
        "forward_flops": result.get("forward_flops"),
    }


def _mean(name: str, values: Sequence[float]) -> Row:
    told = mean_interval(values)
    numbers = (told.mean, told.low, told.high)
    return {
        f"{name}{end}": None if math.isnan(number) else number
        for end, number in zip(("", "_low", "_high"), numbers, strict=True)
    }


def _seconds(records: Sequence[Record]) -> list[float]:
    return [record.result["cell_seconds"] for record in records if record.result]
