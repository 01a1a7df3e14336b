"""What probes read, for each pool: means over seeds and differences to the baseline."""

import math
from collections.abc import Sequence

import pandas as pd

from poolbench.records.probes import is_of_probe, is_share
from poolbench.report.summary import Baseline, blocks, by, counting, find_baseline, plain
from poolbench.report.tables import DASH, plain_markdown
from poolbench.statistics.blocks import between, fit_or_none
from poolbench.statistics.estimates import mean_interval

# In the units of the records: fractions, decibels, or, of distances, the distance of two images.
COLUMNS = (
    *("group", "setting", "pool", "number", "seeds", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high"),
)

_RULE = (
    "Means over seeds ± their 95 % t interval, which is not corrected for how many numbers are read. All numbers, and "
    "differences to the baseline, are in `probes.csv`."
)
# What stands in summary.md; all others are in probes.csv.
_HEADLINES = (
    *("test_accuracy_translate_x", "test_accuracy_translate_y", "test_accuracy_rotate", "test_accuracy_scale"),
    *("test_accuracy_size", "test_accuracy_flip", "consistency", "circular_consistency", "test_accuracy_corrupted"),
    "calibration_error",
)


def by_probe(cells: pd.DataFrame, baseline: Baseline) -> pd.DataFrame:
    """A row for each pool of a group and each number that a probe read: its mean over seeds with the 95 % interval,
    and the difference to the baseline within blocks, with the spread that all pools leave over, as in the tables.

    Args:
        cells: the tidy table.
        baseline: the label of the pool that the others are compared with, or several of which a group has one.
    """
    numbers = [name for name in cells.columns if is_of_probe(name) and cells[name].notna().any()]
    rows = []
    for members in by(plain(cells), "group").values() if numbers else ():
        done = by(counting(members), "pool")
        control = find_baseline(list(done), baseline)
        for number in numbers:
            values = {pool: own for pool in sorted(done) if (own := blocks(done[pool], number))}
            fitted = fit_or_none(values)
            for pool in values:
                # Cells of one seed on two kinds of processor are two, as in the tables.
                one = mean_interval(cell[number] for cell in done[pool] if cell[number] is not None)
                row = {"group": members[0]["group"], "setting": members[0]["setting"], "pool": pool, "number": number}
                row |= {"seeds": one.n, "mean": one.mean, "low": one.low, "high": one.high}
                if pool != control:
                    found = between(fitted, pool, control)
                    low, high = found.interval()
                    row |= {"difference": found.mean + 0.0, "difference_low": low, "difference_high": high}
                rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def probe_sections(probes: pd.DataFrame) -> str:
    """Markdown of what stands in ``summary.md``: a heading and a table for each group; empty without probes."""
    sections = []
    for setting, rows in probes.groupby("setting", sort=False):
        shown = [number for number in _HEADLINES if number in set(rows["number"])]
        if shown:
            lines = ["", f"## Probes: {plain_markdown(str(setting))}", "", *probe_table(rows, shown), "", _RULE, ""]
            sections.append("\n".join(lines))
    return "".join(sections)


def probe_table(probes: pd.DataFrame, numbers: Sequence[str]) -> list[str]:
    """Lines of a Markdown table: a row for each pool, a column for each of ``numbers``; shares in per cent.

    Args:
        probes: rows of one group, of :func:`by_probe`.
    Raises: ValueError for a number that is not there.
    """
    there = set(probes["number"])
    for number in numbers:
        if number not in there:
            raise ValueError(f"no probe read {number!r}; there are: {', '.join(sorted(there))}")
    wanted = probes[probes["number"].isin(numbers)].set_index(["pool", "number"])
    titles = [f"`{number}`{' %' if is_share(number) else ''}" for number in numbers]
    lines = [f"| pool | {' | '.join(titles)} |", f"|---|{'---:|' * len(numbers)}"]
    for pool in dict.fromkeys(probes["pool"]):
        texts = [
            _text(number, *wanted.loc[(pool, number), ["mean", "low", "high"]])
            if (pool, number) in wanted.index
            else DASH
            for number in numbers
        ]
        lines.append(f"| {plain_markdown(pool)} | {' | '.join(texts)} |")
    return lines


def _text(number: str, mean: float, low: float, high: float) -> str:
    """``91.20 ± 0.31``, the margin rounded up."""
    scale, digits = (100, 2) if is_share(number) else (1, 3)
    margin = scale * (high - low) / 2
    shown = DASH if math.isnan(margin) else f"{math.ceil(margin * 10**digits - 1e-6) / 10**digits:.{digits}f}"
    return f"{scale * mean:.{digits}f} ± {shown}"
