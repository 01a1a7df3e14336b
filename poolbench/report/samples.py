"""Pools over the number of training images: the gap between training and test accuracy, and the test accuracy."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from poolbench.report.summary import finished
from poolbench.report.tables import DASH, plain_markdown
from poolbench.statistics.estimates import mean_interval

CELL = ("run_id", "panel", "pool", "seed", "train_samples", "train_accuracy", "test_accuracy")
# Fractions; the bounds are those of the 95 % interval over seeds.
COLUMNS = (
    *("panel", "pool", "train_samples", "seeds", "train_accuracy"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "gap", "gap_low", "gap_high"),
)


def over_samples(cells: pd.DataFrame, alike: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The finished cells of groups that differ in nothing but how many training images and epochs they have, with the
    columns :data:`CELL`; ``panel`` names what such groups share.

    Args:
        cells: the tidy table.
        alike: as :func:`poolbench.records.groups.alike_but_samples` gives it.
    """
    done = finished(cells)[["group", *(name for name in CELL if name != "panel")]]
    done = done[done["train_accuracy"].notna() & done["train_samples"].notna()]
    done = done.assign(panel=[alike[group][1] for group in done["group"]])
    sizes = done.groupby("panel")["train_samples"].nunique()
    shown = done[done["panel"].isin(sizes[sizes > 1].index)].sort_values(["panel", "pool", "train_samples", "seed"])
    return shown[list(CELL)].astype({"train_samples": float}).reset_index(drop=True)


def by_samples(over: pd.DataFrame) -> pd.DataFrame:
    """A row for each panel, pool and number of training images, of :func:`over_samples`."""
    rows = []
    for (panel, pool, samples), own in over.groupby(["panel", "pool", "train_samples"], sort=True):
        test, gap = mean_interval(own["test_accuracy"]), mean_interval(own["train_accuracy"] - own["test_accuracy"])
        row = {"panel": panel, "pool": pool, "train_samples": int(samples), "seeds": test.n}
        row |= {"train_accuracy": float(own["train_accuracy"].mean())}
        row |= {"test_accuracy": test.mean, "test_accuracy_low": test.low, "test_accuracy_high": test.high}
        rows.append(row | {"gap": gap.mean, "gap_low": gap.low, "gap_high": gap.high})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def samples_table(rows: pd.DataFrame) -> list[str]:
    """Lines of Markdown: for each panel a row a pool, and the gap and the test accuracy at each number of images.

    Args:
        rows: of :func:`by_samples`.
    """
    lines: list[str] = []
    for panel, own in rows.groupby("panel", sort=True):
        sizes = sorted(own["train_samples"].unique())
        lines += [f"**{plain_markdown(str(panel))}**", ""]
        lines += [f"| pool | {' | '.join(f'{size:,} images' for size in sizes)} |", f"|---|{'---:|' * len(sizes)}"]
        places = {(row["pool"], row["train_samples"]): row for row in own.to_dict("records")}
        for pool in dict.fromkeys(own["pool"]):
            texts = [_cell(places[pool, size]) if (pool, size) in places else DASH for size in sizes]
            lines.append(f"| {plain_markdown(pool)} | {' | '.join(texts)} |")
        lines.append("")
    return lines


def samples_section(rows: pd.DataFrame) -> str:
    """What stands in ``summary.md``; empty where all cells have as many training images."""
    if rows.empty:
        return ""
    return "\n".join(["", "## Over the number of training images", "", *samples_table(rows), _RULE, ""])


def in_order(over: pd.DataFrame) -> Sequence[str]:
    """The pools, the most accurate first."""
    return list(over.groupby("pool")["test_accuracy"].mean().sort_values(ascending=False).index)


_RULE = "Training minus test accuracy in points ± its 95 % t interval over seeds; in brackets the test accuracy."


def _cell(row: Mapping[str, float]) -> str:
    margin = 50 * (row["gap_high"] - row["gap_low"])
    shown = DASH if math.isnan(margin) else f"{math.ceil(margin * 100 - 1e-6) / 100:.2f}"
    return f"{100 * row['gap']:+.2f} ± {shown} ({100 * row['test_accuracy']:.2f} %)"
