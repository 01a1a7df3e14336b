"""Figures of an atlas: what to expect of each pool, and its gain in each net."""

from typing import TYPE_CHECKING

import numpy as np

from poolbench.report.atlas import POINTS, Atlas
from poolbench.report.canvas import GREY, drawing, mark, measuring, new_figure, wrapped
from poolbench.report.colours import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE = 0.22  # inches a pool


def expected_figure(atlas: Atlas, title: str) -> "Figure | None":
    """A row a pool: its mean gain, the interval of the mean (thick) and of a net not tried (thin), each net a dot."""
    order = sorted(atlas.over, key=lambda pool: atlas.over[pool].mean)
    if not order:
        return None
    factor, unit = (100.0, "points") if atlas.scale == POINTS else (1.0, "logarithm of the error")
    looks = styles([*order, atlas.control])
    with drawing():
        left = max(map(measuring(), order)) + 0.2
        figure = new_figure(left + 6.2, 1.1 + _LINE * len(order))
        axes = figure.add_subplot()
        for place, pool in enumerate(order):
            one, look = atlas.over[pool], looks[pool]
            low, high = one.difference.interval()
            dots = [factor * gain.mean for gain in atlas.gains[pool].values()]
            axes.plot(dots, [place - 0.28] * len(dots), ".", color=GREY, ms=3.5, mew=0, alpha=0.8)
            axes.plot([factor * one.low, factor * one.high], [place] * 2, "-", color=look.colour, lw=1)
            axes.plot([factor * low, factor * high], [place] * 2, "-", color=look.colour, lw=3.5)
            mark(axes, factor * one.mean, place, look, 0.8)
        axes.axvline(0, color="#000000", lw=1, zorder=0)
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.8, len(order) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        _centre(axes, [factor * bound for pool in order for bound in (atlas.over[pool].low, atlas.over[pool].high)])
        axes.set_xlabel(
            f"gain over {atlas.control} ({unit}); thick: 95 % interval of the mean over nets,\n"
            "thin: of a net not tried, dots: the nets that were tried"
        )
        figure.suptitle(wrapped(title, left + 6.2), x=0.01, ha="left")
        return figure


def gains_figure(atlas: Atlas, title: str) -> "Figure | None":
    """Pools by nets: the gain in each as a number on a colour, white at none; pools in the order of their means."""
    pools = sorted(atlas.gains, key=lambda pool: -_middle(atlas, pool))
    nets = atlas.nets
    if not pools or len(nets) < 2:
        return None
    factor = 100.0 if atlas.scale == POINTS else 1.0
    values = np.full((len(pools), len(nets)), np.nan)
    for row, pool in enumerate(pools):
        for column, net in enumerate(nets):
            if net in atlas.gains[pool]:
                values[row, column] = factor * atlas.gains[pool][net].mean
    with drawing():
        width_of = measuring()
        left = max(map(width_of, pools)) + 0.2
        names = [f"{model}\n{data}" for model, data in nets]
        across = max(0.62, max(width_of(line) for name in names for line in name.split("\n")) * 0.75)
        figure = new_figure(left + across * len(nets) + 0.3, 1.7 + _LINE * len(pools))
        axes = figure.add_subplot()
        # A tenth of the gains may lie beyond the ends of the colours: one pool that fails must not bleach all others.
        most = float(np.nanquantile(np.abs(values), 0.9)) or 1.0
        axes.imshow(values, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
        for row in range(len(pools)):
            for column in range(len(nets)):
                value = values[row, column]
                if not np.isnan(value):
                    ink = "white" if abs(value) > 0.55 * most else "black"
                    text = f"{value:+.1f}".replace("-", "−")
                    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(nets)), names, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(pools)), pools)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.suptitle(wrapped(title, left + across * len(nets)), x=0.01, ha="left")
        return figure


def _middle(atlas: Atlas, pool: str) -> float:
    known = atlas.over.get(pool)
    return known.mean if known else float(np.mean([one.mean for one in atlas.gains[pool].values()]))


def _centre(axes: "object", ends: list[float]) -> None:
    """Limits that most intervals fit into: a few that are very wide go on beyond the edge."""
    known = np.array([end for end in ends if np.isfinite(end)])
    if len(known):
        low, high = np.quantile(known, [0.03, 0.97])
        room = 0.15 * (high - low)
        axes.set_xlim(min(low - room, -room), max(high + room, room))  # type: ignore[attr-defined]
