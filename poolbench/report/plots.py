"""Two figures for a group of cells: accuracy of each pool, and accuracy against what it costs; and how any is saved.

Each function returns a matplotlib figure; :func:`save` writes it as PNG, SVG or PDF, the same bytes for the same data.
Axes of accuracy do not start at 0, because points and lines, unlike bars, claim nothing by their length; they say so.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from poolbench.records.files import replacing
from poolbench.report.canvas import (
    GREY,
    Size,
    drawing,
    fitted,
    from_where,
    jitter,
    mark,
    measuring,
    new_figure,
    widen,
    wrapped,
)
from poolbench.report.colours import styles
from poolbench.report.placement import label_points
from poolbench.report.tables import plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Columns of the summary, of the cells and of their metrics that figures show: a change elsewhere needs no new figure.
_MEANS = ["pool", "baseline", "test_accuracy", "test_accuracy_low", "test_accuracy_high"]
ACCURACY = [*_MEANS, "difference", "difference_low", "difference_high", "verdict"]
COST = [*_MEANS, "forward_flops", "train_time_ratio", "train_time_ratio_low", "train_time_ratio_high"]
ORDER = ["pool", "baseline", "seeds"]
SEEDS = ["pool", "seed", "test_accuracy"]
EPOCHS = ["pool", "seed", "epoch", "train_accuracy", "validation_accuracy"]

SUFFIXES = (".png", ".svg")
_PDF = ".pdf"
# Nothing in a file that another drawing of the same data would change.
_METADATA: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    _PDF: {"CreationDate": None, "Creator": None, "Producer": None},
}
_MOST_LABELS = 10  # more pools than this are named in a legend instead of beside their points
_LEAST_POINTS = 0.5  # that an axis of accuracies shows
_LEAST_RATIOS = (0.8, 1.25)  # that an axis of ratios shows: a percent must not fill the panel
_LOGARITHMIC = 5.0  # an axis of ratios is where the largest is more than so many times the smallest
_NOTE_WIDTH = 64  # letters of a line under a panel
_DASHED = {"color": "#999999", "lw": 1, "ls": (0, (4, 3)), "zorder": 2}
_BAR = {"lw": 1.4, "alpha": 0.7, "zorder": 3}


def accuracy_figure(rows: pd.DataFrame, cells: pd.DataFrame, title: str, size: Size | None = None) -> "Figure":
    """A line for each pool, best on top: every seed a dot, the mean, its 95 % interval, and the numbers beside them.

    Differences and verdicts stand there where ``rows`` have a baseline.

    Args:
        rows: the group's rows of the summary that have a finished cell.
        cells: the group's finished cells.
        size: width and height in inches, None for what the rows need.
    """
    with drawing():
        figure = new_figure(9.6, 1.5 + (0.46 if len(rows) <= 10 else 0.36) * len(rows), size)
        axes = figure.subplots()
        look = styles(rows["pool"])
        for place, row in enumerate(rows.to_dict("records")):
            style, y = look[row["pool"]], -place
            seeds = cells[cells["pool"] == row["pool"]].sort_values("seed")["test_accuracy"].to_numpy() * 100
            axes.plot(seeds, y - 0.25 + jitter(len(seeds)), ".", color=style.colour, alpha=0.6, ms=6, mew=0, zorder=3)
            axes.plot(_bounds(row), [y, y], "-", color=style.colour, lw=2.2, solid_capstyle="butt", zorder=4)
            axes.plot(_bounds(row), [y, y], "|", color=style.colour, ms=9, mew=1.6, zorder=4)
            mark(axes, 100 * row["test_accuracy"], y, style)
            if row["baseline"]:
                axes.axvline(100 * row["test_accuracy"], **_DASHED)
        _write_numbers(axes, rows)
        names = [fitted(pool, 0.28 * figure.get_figwidth(), measuring()) for pool in rows["pool"]]
        axes.set_yticks([-place for place in range(len(rows))], names)
        axes.set_ylim(-len(rows) + 0.45, 0.8)
        widen(axes, "x", _LEAST_POINTS)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        interval = ", 95 % interval" if rows["test_accuracy_low"].notna().any() else ""
        axes.set_xlabel(from_where(f"test accuracy (%): mean{interval}, each seed a dot", axes.get_xlim()))
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
        return figure


def cost_figure(rows: pd.DataFrame, title: str, size: Size | None = None) -> "Figure | None":
    """Accuracy with its 95 % interval against forward FLOPs and, where nets were timed, against the time of a training
    pass with its quartiles; both as multiples of the baseline's. FLOPs stand in millions where there is no baseline.

    Args:
        rows: the group's rows of the summary that have a finished cell.
        size: width and height in inches, None for what the figure needs.
    """
    costs = _costs(rows)
    if not costs:
        return None
    with drawing():
        legend = len(rows) > _MOST_LABELS
        height = 4.8 + 0.16 * max(0, len(rows) - 24)
        figure = new_figure(5.1 * len(costs) + 2.2 * legend, height, size)
        look = styles(rows["pool"])
        short = {pool: fitted(pool, 1.9, measuring(10)) for pool in rows["pool"]}
        panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
        for axes, (text, values) in zip(panels, costs.items(), strict=True):
            for row, (low, x, high) in zip(rows.to_dict("records"), values, strict=True):
                style, y = look[row["pool"]], 100 * row["test_accuracy"]
                axes.plot([x, x], _bounds(row), "-", color=style.colour, **_BAR)
                axes.plot([low, high], [y, y], "-", color=style.colour, **_BAR)
                mark(axes, x, y, style, label=short[row["pool"]])
                if row["baseline"]:
                    axes.axhline(y, **_DASHED)
            axes.margins(x=0.14, y=0.1)
            _spread_ratios(axes, [x for _, x, _ in values], rows["baseline"].any())
            axes.set_xlabel(text if axes.get_xscale() == "log" else from_where(text, axes.get_xlim()))
        widen(panels[0], "y", _LEAST_POINTS)
        interval = ", 95 % interval" if rows["test_accuracy_low"].notna().any() else ""
        panels[0].set_ylabel(from_where(f"test accuracy (%){interval}", panels[0].get_ylim()))
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
        if legend:
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        else:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # The labels count on the axes to stay where they are.
            for axes, values in zip(panels, costs.values(), strict=True):
                known = [(row, x) for row, (_, x, _) in zip(rows.to_dict("records"), values, strict=True) if x == x]
                points = [(x, 100 * row["test_accuracy"]) for row, x in known]
                own = [row for row, _ in known]
                texts, inks = [short[row["pool"]] for row in own], [look[row["pool"]].ink for row in own]
                label_points(axes, points, list(map(_bounds, own)), texts, inks)
        return figure


def endings(with_pdf: bool) -> tuple[str, ...]:
    """Of the files of a report's figures."""
    return (*SUFFIXES, _PDF) if with_pdf else SUFFIXES


def save(figure: "Figure", stem: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write ``figure`` to ``stem`` with each of ``suffixes``, .png, .svg or .pdf. Returns: the paths."""
    paths = [stem.with_name(stem.name + suffix) for suffix in suffixes]
    for path in paths:
        write(figure, path)
        figure.set_layout_engine("none")  # The second file has the layout of the first.
    return paths


def write(figure: "Figure", path: Path) -> None:
    """Write ``figure`` to ``path``, which ends in .png, .svg or .pdf: a whole file without a date."""
    kind, content = path.suffix.lower(), io.BytesIO()
    with drawing():
        figure.savefig(content, format=kind[1:], metadata=_METADATA[kind])
    with replacing(path) as file:
        file.write(content.getvalue())


def _write_numbers(axes: "Axes", rows: pd.DataFrame) -> None:
    """Columns of numbers to the right of ``axes``, each as wide as its widest."""
    columns = {"mean": [plus_minus(row, "test_accuracy") for row in rows.to_dict("records")]}
    if rows["baseline"].any():
        columns["difference"] = [
            "baseline" if row["baseline"] else plus_minus(row, "difference", sign=True).replace("-", "−")
            for row in rows.to_dict("records")
        ]
        columns["verdict"] = [verdict if isinstance(verdict, str) else "" for verdict in rows["verdict"]]
    width_of, right = measuring(), 0.15
    for name, texts in columns.items():
        looks = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(name, (1, 0.62), xytext=(72 * right, 0), color=GREY, annotation_clip=False, **looks)
        for place, text in enumerate(texts):
            axes.annotate(text, (1, -place), xytext=(72 * right, 0), annotation_clip=False, **looks)
        right += max(map(width_of, [name, *texts])) + 0.2


def _costs(rows: pd.DataFrame) -> dict[str, list[tuple[float, float, float]]]:
    """The words of an axis -> low end, middle and high end of each row on it, NaN where there is none."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    flops, baseline = rows["forward_flops"].astype(float), rows[rows["baseline"]]["forward_flops"].astype(float)
    if flops.notna().any():
        if baseline.notna().any():
            unit = float(baseline.iloc[0])
            text = f"forward FLOPs with pooling, baseline = 1 ({unit / 1e6:.3g}M per image)"
        else:
            unit, text = 1e6, "forward MFLOPs per image, pooling counted"
        if uncounted := list(rows["pool"][flops.isna()]):
            text = "\n".join([text, *textwrap.wrap(f"not counted, so not drawn: {', '.join(uncounted)}", _NOTE_WIDTH)])
        found[text] = [(float("nan"), value / unit, float("nan")) for value in flops]
    if rows["train_time_ratio"].notna().any():
        times = rows[[f"train_time_ratio{end}" for end in ("_low", "", "_high")]]
        found["time of a training pass, baseline = 1; bar: quartiles"] = list(
            times.astype(float).itertuples(index=False, name=None)
        )
    return found


def _spread_ratios(axes: "Axes", values: list[float], about_one: bool) -> None:
    """Limits of an axis of ratios, or of numbers that have no baseline: of a fifth about their middle at least."""
    known = [value for value in values if value == value]
    middle = 1.0 if about_one else (max(known) * min(known)) ** 0.5
    if max(known) > _LOGARITHMIC * min(known) > 0:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, _LEAST_RATIOS[0] * middle), max(high, _LEAST_RATIOS[1] * middle))


def _bounds(row: dict[Any, Any]) -> tuple[float, float]:
    """The interval of a pool's accuracy in percent; NaN, which is not drawn, where there is none."""
    return 100 * row["test_accuracy_low"], 100 * row["test_accuracy_high"]
