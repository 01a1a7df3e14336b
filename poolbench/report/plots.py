"""Three figures for a group of cells: accuracy of each pool, learning curves, and accuracy against what it costs.

Each function returns a matplotlib figure; :func:`save` writes it as PNG and SVG, the same bytes for the same data.
Axes of accuracy do not start at 0, because points and lines, unlike bars, claim nothing by their length; they say so.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.records.files import replacing
from poolbench.report.canvas import GREY, drawing, from_where, jitter, mark, new_figure, wrapped
from poolbench.report.colours import COLOURS, DASHES, MARKERS, Style, styles
from poolbench.report.placement import label_points, spread
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
_MOST_LINES = 8  # more pools than this get a small panel of curves each
_MOST_LABELS = 10  # more pools than this are named in a legend instead of beside their points
_TIME, _LEAST_TIMES = "train_time_ratio", (0.8, 1.25)  # which its axis shows at least
_PLACES = (0.0, 0.35, 0.72)  # of the columns of numbers, in widths of their panel


def accuracy_figure(rows: pd.DataFrame, cells: pd.DataFrame, title: str) -> "Figure":
    """A line for each pool, best on top: every seed a dot, the mean, its 95 % interval, and the numbers beside them.

    Args:
        rows: the group's rows of the summary that have a finished cell.
        cells: the group's finished cells.
    """
    with drawing():
        figure = new_figure(9.6, 1.5 + (0.46 if len(rows) <= 10 else 0.36) * len(rows))
        axes, numbers = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.45))
        look = styles(rows["pool"])
        for place, row in enumerate(rows.to_dict("records")):
            style, y = look[row["pool"]], -place
            seeds = cells[cells["pool"] == row["pool"]].sort_values("seed")["test_accuracy"].to_numpy() * 100
            axes.plot(seeds, y - 0.25 + jitter(len(seeds)), ".", color=style.colour, alpha=0.6, ms=6, mew=0, zorder=3)
            axes.plot(_bounds(row), [y, y], "-", color=style.colour, lw=2.2, solid_capstyle="butt", zorder=4)
            axes.plot(_bounds(row), [y, y], "|", color=style.colour, ms=9, mew=1.6, zorder=4)
            mark(axes, 100 * row["test_accuracy"], y, style)
            if row["baseline"]:
                axes.axvline(100 * row["test_accuracy"], color="#999999", lw=1, ls=(0, (4, 3)), zorder=2)
            difference = "baseline" if row["baseline"] else plus_minus(row, "difference", sign=True).replace("-", "−")
            verdict = row["verdict"] if isinstance(row["verdict"], str) else ""
            for x, text in zip(_PLACES, (plus_minus(row, "test_accuracy"), difference, verdict), strict=True):
                numbers.text(x, y, text, va="center", fontsize=9)
        for x, text in zip(_PLACES, ("mean", "difference", "verdict"), strict=True):
            numbers.text(x, 0.62, text, fontsize=9, color=GREY, va="center")
        numbers.set_axis_off()
        axes.set_yticks([-place for place in range(len(rows))], list(rows["pool"]))
        axes.set_ylim(-len(rows) + 0.45, 0.8)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        interval = ", 95 % interval" if rows["test_accuracy_low"].notna().any() else ""
        axes.set_xlabel(from_where(f"test accuracy (%): mean{interval}, each seed a dot", axes.get_xlim()))
        figure.suptitle(wrapped(title, 9.6), x=0.01, ha="left")
        return figure


def curves_figure(curves: pd.DataFrame, rows: pd.DataFrame, title: str) -> "Figure | None":
    """Training accuracy, and validation accuracy where there is one, by epoch: mean and range over seeds.

    Up to eight pools share a panel; more get one each, with the baseline in grey. None when there is nothing to draw.

    Args:
        curves: the group's rows of ``collect_metrics``.
        rows: the group's rows of the summary, which give the order.
    """
    kinds = {
        "train_accuracy": "training accuracy (%), measured while training",
        "validation_accuracy": "validation accuracy (%)",
    }
    kinds = {kind: text for kind, text in kinds.items() if curves[kind].notna().any()}
    pools = [pool for pool in rows["pool"] if pool in set(curves["pool"])]
    if not kinds or not pools:
        return None
    several = rows["seeds"].max() > 1
    with drawing():
        if len(pools) > _MOST_LINES:
            figure = _small_panels(curves, rows, pools, kinds)
        else:
            figure = new_figure(2.6 + 4.4 * len(kinds), 4.6)
            panels = figure.subplots(1, len(kinds), squeeze=False)[0]
            look = styles(rows["pool"])
            for axes, (kind, text) in zip(panels, kinds.items(), strict=True):
                ends = {pool: _curve(axes, curves[curves["pool"] == pool], kind, look[pool]) for pool in pools}
                axes.set_xlabel(f"epoch{' (band: lowest to highest seed)' if several else ''}")
                axes.set_ylabel(from_where(text, axes.get_ylim()))
                _whole_ticks(axes, curves["epoch"].max())
                figure.draw_without_rendering()
                _label_ends(axes, {pool: end for pool, end in ends.items() if end}, look)
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
        return figure


def cost_figure(rows: pd.DataFrame, title: str) -> "Figure | None":
    """Accuracy with its 95 % interval against forward FLOPs, and against the time of a training pass, as a multiple of
    the baseline's with its quartiles, where nets were timed."""
    panels = {
        "forward_flops": ("forward MFLOPs per image, pooling counted", 1e-6),
        _TIME: ("time of a training pass, baseline = 1; bar: quartiles", 1.0),
    }
    panels = {name: panel for name, panel in panels.items() if rows[name].notna().any()}
    if not panels:
        return None
    with drawing():
        legend = len(rows) > _MOST_LABELS
        figure = new_figure(5.1 * len(panels) + 2.2 * legend, 4.8 + 0.16 * max(0, len(rows) - 24))
        look = styles(rows["pool"])
        both = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, (text, scale)) in zip(both, panels.items(), strict=True):
            for row in rows.to_dict("records"):
                style, x = look[row["pool"]], row[name] * scale
                axes.plot([x, x], _bounds(row), "-", color=style.colour, lw=1.4, alpha=0.7, zorder=3)
                mark(axes, x, 100 * row["test_accuracy"], style, label=row["pool"])
                if name == _TIME:
                    ends, y = [row[f"{_TIME}_low"], row[f"{_TIME}_high"]], 100 * row["test_accuracy"]
                    axes.plot(ends, [y, y], "-", color=style.colour, lw=1.4, alpha=0.7, zorder=3)
                if row["baseline"]:
                    axes.axhline(100 * row["test_accuracy"], color="#999999", lw=1, ls=(0, (4, 3)), zorder=2)
            axes.margins(x=0.14, y=0.1)
            if name == _TIME:  # a few percent are noise, and must not fill the panel
                low, high = axes.get_xlim()
                axes.set_xlim(min(low, _LEAST_TIMES[0]), max(high, _LEAST_TIMES[1]))
            axes.set_xlabel(from_where(text, axes.get_xlim()))
        interval = ", 95 % interval" if rows["test_accuracy_low"].notna().any() else ""
        both[0].set_ylabel(from_where(f"test accuracy (%){interval}", both[0].get_ylim()))
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
        if legend:
            figure.legend(*both[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        else:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # The labels count on the axes to stay where they are.
            for axes, (name, (_, scale)) in zip(both, panels.items(), strict=True):
                known = rows[rows[name].notna()].to_dict("records")
                points = [(row[name] * scale, 100 * row["test_accuracy"]) for row in known]
                pools = [row["pool"] for row in known]
                label_points(axes, points, list(map(_bounds, known)), pools, [look[pool].ink for pool in pools])
        return figure


def spent_figure(cells: pd.DataFrame, targets: Sequence[tuple[float, float]] = ()) -> "Figure":
    """Accuracy against training FLOPs and against training time: every cell a dot, means over seeds joined net by net.

    Args:
        cells: finished cells with the columns ``net``, ``recipe`` (cells of one are averaged), ``test_accuracy``,
            ``train_flops`` and ``train_seconds``, which may be missing.
        targets: pairs of accuracy and FLOPs that were aimed at.
    """
    with drawing():
        figure = new_figure(9.6, 4.2)
        left, right = figure.subplots(1, 2, sharey=True)
        # Nets have no colours of their own as pools have: by their names several would share one.
        look = {
            net: Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
            for place, net in enumerate(sorted(cells["net"].unique()))
        }
        for axes, column in ((left, "train_flops"), (right, "train_seconds")):
            for net, own in cells.dropna(subset=[column]).groupby("net"):
                style = look[net]
                means = own.groupby("recipe")[[column, "test_accuracy"]].mean().sort_values(column)
                axes.plot(own[column], 100 * own["test_accuracy"], ".", color=style.colour, alpha=0.5, ms=5, mew=0)
                axes.plot(means[column], 100 * means["test_accuracy"], color=style.colour, lw=1.2, ls=style.dash)
                for x, y in means.itertuples(index=False):
                    mark(axes, x, 100 * y, style)
                axes.plot([], [], marker=style.marker, color=style.colour, ls=style.dash, label=net)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("e+", "e"))  # others need mathtext
        for accuracy, flops in targets:
            left.plot(flops, 100 * accuracy, "+", color=GREY, ms=10, mew=1.4)
        if targets:
            left.plot([], [], "+", color=GREY, ms=10, mew=1.4, ls="", label="target")
        left.set_xlabel("training FLOPs (3 x forward x images)")
        right.set_xlabel("training seconds")
        left.set_ylabel(from_where("test accuracy %", left.get_ylim()))
        left.legend(loc="lower right", frameon=False)
    return figure


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Write ``figure`` to ``stem``.png and ``stem``.svg, whole files without dates. Returns their paths."""
    paths = []
    with drawing():
        for suffix, metadata in zip(SUFFIXES, ({"Software": None}, {"Date": None, "Creator": None}), strict=True):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], metadata=metadata)
            figure.set_layout_engine("none")  # The second file has the layout of the first.
            paths.append(stem.with_name(stem.name + suffix))
            with replacing(paths[-1]) as file:
                file.write(content.getvalue())
    return paths


def _curve(axes: "Axes", own: pd.DataFrame, kind: str, style: Style) -> tuple[float, float] | None:
    """Draw one pool's curve; returns its last point."""
    over = own.dropna(subset=[kind]).groupby("epoch")[kind].agg(["mean", "min", "max"]) * 100
    if over.empty:
        return None
    axes.fill_between(over.index, over["min"], over["max"], color=style.colour, alpha=0.13, lw=0, zorder=2)
    axes.plot(over.index, over["mean"], color=style.colour, ls=style.dash, lw=1.6, zorder=4)
    mark(axes, over.index[-1], over["mean"].iloc[-1], style, 0.8)
    return float(over.index[-1]), float(over["mean"].iloc[-1])


def _label_ends(axes: "Axes", ends: dict[str, tuple[float, float]], look: dict[str, Style]) -> None:
    """Each curve's name to the right of the panel, as near its end as the other names allow."""
    low, high = axes.get_ylim()
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    heights = spread([y for _, y in ends.values()], 12.5 / points * (high - low), low, high)
    for (pool, end), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            pool,
            xy=end,
            xytext=(1.05, height),
            textcoords=("axes fraction", "data"),
            color=look[pool].ink,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look[pool].colour,
                "lw": 0.6,
                "shrinkA": 0,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )
    axes.set_ylim(low, high)


def _small_panels(curves: pd.DataFrame, rows: pd.DataFrame, pools: list[str], kinds: dict[str, str]) -> "Figure":
    """A panel a pool, the baseline in grey: validation accuracy where there is one, else training accuracy."""
    across = 4
    down = -(-len(pools) // across)
    figure = new_figure(10.2, 0.8 + 2.0 * down)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    look = styles(rows["pool"])
    baseline = set(rows[rows["baseline"]]["pool"])
    kind = "validation_accuracy" if "validation_accuracy" in kinds else "train_accuracy"
    for axes in panels[len(pools) :]:
        axes.set_visible(False)
    for place, (axes, pool) in enumerate(zip(panels, pools, strict=False)):
        for control in baseline - {pool}:
            _curve(axes, curves[curves["pool"] == control], kind, Style("#999999", "None", "-"))
        _curve(axes, curves[curves["pool"] == pool], kind, look[pool])
        axes.set_title(pool, color=look[pool].ink, fontsize=10)
        axes.tick_params(labelbottom=place + across >= len(pools))
        _whole_ticks(axes, curves["epoch"].max())
    figure.supxlabel(f"epoch (grey: {', '.join(baseline)})" if baseline else "epoch", fontsize=10)
    figure.supylabel(from_where(kinds[kind], panels[0].get_ylim()), fontsize=10)
    return figure


def _whole_ticks(axes: "Axes", last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if last == 1:
        axes.set_xlim(0.5, 1.5)


def _bounds(row: dict[str, float]) -> tuple[float, float]:
    """The interval of a pool's accuracy in percent; NaN, which is not drawn, where there is none."""
    return 100 * row["test_accuracy_low"], 100 * row["test_accuracy_high"]
