"""Measure the noise of published cells: what the constants of rule 2 and the sentences about noise go by.

  python scripts/measure_noise.py              the archives below results/, waiting ones too
  python scripts/measure_noise.py runs         other records

An arm is a config without its seed; a block is one seed on one kind of processor; arms of one model, data set and
budget in one archive are compared in the same blocks.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from poolbench.dotted import flatten
from poolbench.records.identity import cell_hash, digest, identity
from poolbench.records.outcomes import compared
from poolbench.records.read import Record, read_records
from poolbench.records.tuning import reads_test
from poolbench.statistics.blocks import fit_or_none

LEAST_ACCURACY = 0.5  # nets that learned little vary in another way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="records (results/**/records.jsonl)")
    paths = parser.parse_args().paths or sorted(Path("results").rglob("records.jsonl"))
    archives = {path: [record for record in read_records(path)[0] if _counts(record)] for path in paths}
    print("\n".join(measured(archives)))


def measured(archives: dict[Path, list[Record]]) -> list[str]:
    """A line for each figure."""
    values: dict[tuple[Path, str], dict[tuple[str, int], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    cells: dict[str, dict[str, float]] = defaultdict(dict)  # cell -> kind of processor -> accuracy
    by_arm: dict[str, list[Record]] = defaultdict(list)
    for path, records in archives.items():
        for record in records:
            arm, place = digest(_arm(record)), str(record.environment.get("fingerprint"))
            accuracy = 100 * record.result["test_accuracy"]
            values[path, _net(record)][arm][record.config["seed"], place] = accuracy
            cells[cell_hash(record.run_id)][place] = accuracy
            by_arm[arm].append(record)
    within, residual, same = _Squares(), _Squares(), _Squares()
    laws: list[tuple[float, int]] = []  # variances in units of accuracy x error / images, and their df
    for arms in values.values():
        for arm, own in arms.items():
            for place in {place for _, place in own}:
                here = [value for (_, other), value in own.items() if other == place]
                if len(here) > 1:
                    within.add(np.square(np.array(here) - np.mean(here)).sum(), len(here) - 1)
                    images = by_arm[arm][0].result.get("test_samples") or math.nan
                    share = np.mean(here) / 100
                    variance = float(np.var(here, ddof=1)) / 1e4
                    laws.append((variance * images / (share * (1 - share)), len(here) - 1))
        fitted = fit_or_none(arms)
        if fitted is not None and fitted.df:
            residual.add(fitted.squares, fitted.df)
            for own in fitted.values.values():
                same.add(np.square(np.array(list(own.values())) - np.mean(list(own.values()))).sum(), len(own) - 1)
    ratio = residual.mean / same.mean
    law = sum(value * df for value, df in laws) / sum(df for _, df in laws)
    lines = [
        f"sd of an accuracy from seed to seed, within arms: {math.sqrt(within.mean):.3f} points ({within.df} df)",
        f"sd after arm and block: {math.sqrt(residual.mean):.3f} points ({residual.df} df)",
        f"variance of a difference within blocks, in units of one without: {ratio:.2f}",
        f"prior degrees of freedom of the arms' variances (Smyth, 2004): {_prior(laws):.1f} ({len(laws)} arms)",
        f"variance of an accuracy in units of accuracy x error / images: {law:.2f}",
    ]
    twice = [list(own.values())[:2] for own in cells.values() if len(own) > 1]
    if len(twice) > 1:
        apart = np.array([a - b for a, b in twice])
        lines.append(
            f"the same cell on two kinds of processor: sd of the difference {apart.std(ddof=1):.2f} points "
            f"({len(twice)} cells)"
        )
    lines += _of_images(by_arm.values())
    return lines


class _Squares:
    """Sums of squares with their degrees of freedom."""

    def __init__(self) -> None:
        self.squares, self.df = 0.0, 0

    def add(self, squares: float, df: int) -> None:
        self.squares, self.df = self.squares + float(squares), self.df + df

    @property
    def mean(self) -> float:
        return self.squares / self.df if self.df else math.nan


def _of_images(arms: Iterable[list[Record]]) -> list[str]:
    """What a finite test set adds: two nets of one arm disagree on images, as if each image were a draw."""
    found = []
    for records in arms:
        known = [record for record in records if record.outcomes]
        for place, one in enumerate(known):
            for other in known[place + 1 :]:
                both = compared(one.outcomes, other.outcomes)
                share = (one.result["test_accuracy"] + other.result["test_accuracy"]) / 2
                found.append((both.only_a + both.only_b) / both.images / 2 / (share * (1 - share)))
    if not found:
        return []
    return [f"of that, errors independent from image to image: {np.mean(found):.2f} ({len(found)} pairs of cells)"]


def _prior(spreads: list[tuple[float, int]]) -> float:
    """The prior's degrees of freedom by the spread of the logarithms of the variances, as limma fits them.

    Args:
        spreads: variances, such that all would be equal if arms were alike, and their degrees of freedom.
    """
    from scipy import optimize, special

    kept = [(variance, df) for variance, df in spreads if variance > 0]
    logs = [math.log(v) - special.digamma(df / 2) + math.log(df / 2) for v, df in kept]
    excess = np.var(logs, ddof=1) - np.mean([special.polygamma(1, df / 2) for _, df in kept])
    if excess <= 0:
        return math.inf
    return 2 * optimize.brentq(lambda half: special.polygamma(1, half) - excess, 1e-3, 1e6)


def _counts(record: Record) -> bool:
    if record.result is None or not reads_test(record):
        return False
    accuracy = record.result.get("test_accuracy")
    return accuracy is not None and accuracy >= LEAST_ACCURACY


def _arm(record: Record) -> dict[str, object]:
    return {key: value for key, value in flatten(identity(record.config)).items() if not key.endswith("seed")}


def _net(record: Record) -> str:
    names = record.config["names"]
    return f"{names.get('model')}, {names.get('data')}, {record.config['trainer'].get('epochs')}"


if __name__ == "__main__":
    main()
