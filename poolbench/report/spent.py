"""Test error against what a whole training spent: the figure of time to accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.report.canvas import GREY, Size, drawing, mark, new_figure, wrapped
from poolbench.report.colours import COLOURS, DASHES, MARKERS, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_ERROR = 1e-4  # an image of 10,000: a log axis has no place for 0


def spent_figure(
    cells: pd.DataFrame, title: str, targets: Sequence[tuple[float, float]] = (), size: Size | None = None
) -> "Figure":
    """Test error, on a log axis, against training FLOPs and training time: every cell a dot, means over seeds joined
    net by net.

    Args:
        cells: finished cells with the columns ``net``, ``recipe`` (cells of one are averaged), ``test_accuracy``,
            ``train_flops`` and ``train_seconds``, which may be missing; a panel without a number is left out.
        title: above the figure.
        targets: pairs of accuracy and FLOPs that were aimed at.
        size: width and height in inches, None for what the figure needs.
    """
    cells = cells.assign(error=100 * (1 - cells["test_accuracy"]).clip(lower=_LEAST_ERROR))
    texts = {"train_flops": "training FLOPs (3 x forward x images)", "train_seconds": "training seconds"}
    texts = {column: text for column, text in texts.items() if column in cells and cells[column].notna().any()}
    with drawing():
        figure = new_figure(0.6 + 4.5 * len(texts), 5.4, size)
        panels = figure.subplots(1, len(texts), sharey=True, squeeze=False)[0]
        # Nets have no colours of their own as pools have: by their names several would share one.
        look = {
            net: Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
            for place, net in enumerate(sorted(cells["net"].unique()))
        }
        for axes, (column, text) in zip(panels, texts.items(), strict=True):
            for net, own in cells.dropna(subset=[column]).groupby("net"):
                _draw_net(axes, own, column, look[str(net)])
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("e+", "e"))  # others need mathtext
            axes.set_xlabel(text)
        handles = {
            net: panels[0].plot([], [], marker=s.marker, color=s.colour, ls=s.dash)[0] for net, s in look.items()
        }
        if targets and "train_flops" in texts:
            plus = {"color": GREY, "ms": 10, "mew": 1.4, "ls": "", "marker": "+"}
            for accuracy, flops in targets:
                panels[0].plot(flops, 100 * (1 - accuracy), zorder=6, **plus)
            handles["target"] = panels[0].plot([], [], **plus)[0]
        _label_errors(panels[0])
        panels[0].set_ylabel("test error (%), log axis")
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
    return figure


def _draw_net(axes: "Axes", own: pd.DataFrame, column: str, style: Style) -> None:
    """A dot for each cell, and the means of recipes joined."""
    means = own.groupby("recipe")[[column, "error"]].mean().sort_values(column)
    axes.plot(own[column], own["error"], ".", color=style.colour, alpha=0.5, ms=5, mew=0)
    axes.plot(means[column], means["error"], color=style.colour, lw=1.2, ls=style.dash)
    for x, y in means.itertuples(index=False):
        mark(axes, x, y, style)


def _label_errors(axes: "Axes") -> None:
    """A log axis of errors with plain numbers, at 1, 2, 3, 5 and 7 of each decade, or more where that is few."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1.5 * low:  # a log axis of a few percent would have no tick
        low, high = low / 1.25, high * 1.25
        axes.set_ylim(low, high)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    for steps in ((1, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        places = [step * 10.0**power for power in range(-3, 3) for step in steps]
        inside = [place for place in places if low <= place <= high]
        if len(inside) >= 4:
            break
    axes.yaxis.set_major_locator(FixedLocator(inside))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
