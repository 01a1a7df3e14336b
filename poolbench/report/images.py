"""Pools image by image and class by class, where the records hold which test images were right."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poolbench.messages import counted
from poolbench.records.outcomes import right_bits
from poolbench.records.read import Record
from poolbench.report.summary import Baseline, Row, by, counting, find_baseline, plain

CLASSES = ("group", "setting", "pool", "class", "images", "cells", "accuracy", "difference")  # fractions


def by_class(cells: pd.DataFrame, records: Iterable[Record], baseline: Baseline) -> pd.DataFrame:
    """A row for each pool and class: the mean accuracy over its cells, and the mean difference to the baseline's over
    the seeds that both have. Empty without outcomes.

    Args:
        cells: the tidy table; records: those that it was made of.
    """
    outcomes = {record.run_id: record.outcomes for record in records if record.outcomes}
    rows = []
    for members in by(plain(cells), "group").values():
        own = {
            pool: {cell["seed"]: found for cell in cells_of if (found := _classes(outcomes.get(cell["run_id"])))}
            for pool, cells_of in by(counting(members), "pool").items()
        }
        control = own.get(find_baseline(list(own), baseline) or "", {})
        for pool, seeds in sorted(own.items()):
            if not seeds:
                continue
            images = next(iter(seeds.values()))[0]
            seeds = {seed: counts for seed, counts in seeds.items() if counts[0] == images}
            paired = [seed for seed in seeds if seed in control and control[seed][0] == images]
            for number, count in enumerate(images):
                accuracy = _share([counts[1][number] for counts in seeds.values()], count)
                differences = [seeds[seed][1][number] - control[seed][1][number] for seed in paired]
                row = {"group": members[0]["group"], "setting": members[0]["setting"], "pool": pool, "class": number}
                row |= {"images": count, "cells": len(seeds), "accuracy": accuracy}
                rows.append(row | {"difference": _share(differences, count)})
    return pd.DataFrame(rows, columns=list(CLASSES))


def image_notes(cells: Iterable[Row], outcomes: Mapping[str, Any], baseline: Baseline) -> list[str]:
    """What the images tell of one group: where the most accurate pool and the baseline part, and how far other test
    images would move the differences.

    Args:
        cells: of the group; outcomes: run_id -> outcomes.
    """
    own: dict[str, dict[int, Any]] = {}
    accuracy: dict[str, list[float]] = {}
    for cell in counting(cells):
        accuracy.setdefault(cell["pool"], []).append(cell["test_accuracy"])
        if found := outcomes.get(cell["run_id"]):
            own.setdefault(cell["pool"], {})[cell["seed"]] = found
    control = find_baseline(list(own), baseline)
    if control is None or len(own) < 2:
        return []
    told = {pool: two for pool in own if pool != control and (two := two_arms(own[pool], own[control])) is not None}
    if not told:
        return []
    pool = max(told, key=lambda name: (sum(accuracy[name]) / len(accuracy[name]), name))
    best = told[pool]
    margins = sorted(f"{100 * two.margin:.2f}" for two in told.values())
    points = margins[0] if margins[0] == margins[-1] else f"{margins[0]} to {margins[-1]}"
    what = "this difference" if len(told) == 1 else "these differences"
    return [
        f"Of {best.images:,} test images {pool} alone is right on {best.alone:,.0f} and {control} alone on "
        f"{best.control_alone:,.0f} (mean of {counted(best.seeds, 'seed')}). The same nets on other images of this "
        f"kind: {what} would move by up to {points} points (95 %)."
    ]


def _classes(outcomes: Any) -> tuple[list[int], list[int]] | None:
    """Images of each class, and how many of them were right."""
    if not outcomes or not outcomes.get("images_by_class"):
        return None
    return outcomes["images_by_class"], outcomes["right_by_class"]


def _share(counts: list[int], images: int) -> float:
    return float(np.mean(counts)) / images if counts and images else math.nan


@dataclass(frozen=True)
class TwoArms:
    """An arm and its control on the same test images.

    Args:
        alone, control_alone: images that one alone is right on, means over ``seeds``.
        margin: half of the 95 % interval of the mean difference over other draws of as many ``images``, a fraction.
    """

    alone: float
    control_alone: float
    margin: float
    images: int
    seeds: int


def two_arms(pool: Mapping[int, Any], control: Mapping[int, Any]) -> TwoArms | None:
    """Compare two arms by their outcomes by seed; None where no seed has those of both."""
    seeds = [seed for seed in pool if seed in control and pool[seed]["images"] == control[seed]["images"]]
    if not seeds:
        return None
    images = pool[seeds[0]]["images"]
    apart = np.array([_right(pool[seed]) - _right(control[seed]) for seed in seeds])
    margin = 1.96 * float(apart.mean(axis=0).std()) / math.sqrt(images)
    alone, control_alone = (float(one.sum(axis=1).mean()) for one in (apart > 0, apart < 0))
    return TwoArms(alone, control_alone, margin, images, len(seeds))


def _right(outcomes: Mapping[str, Any]) -> np.ndarray:
    """``(images,)``: 1 where the image was given its class."""
    count = -(-outcomes["images"] // 8)
    packed = np.frombuffer(right_bits(outcomes).to_bytes(count, "big"), dtype=np.uint8)
    return np.unpackbits(packed)[: outcomes["images"]].astype(np.int8)
