"""Figures of what probes read: invariance, robustness, what each site does with shifts and information; and of the gap
between training and test accuracy against the number of training images.

A function takes the finished cells of one group, with the columns that :func:`probe_columns` names, and gives a figure,
or None where the cells were not asked for it; ``size`` is width and height in inches, None for what it needs.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from poolbench.records.probes import CORRUPTIONS, TRANSFORMS, is_of_probe
from poolbench.report.canvas import GREY, Size, drawing, from_where, mark, new_figure, wrapped
from poolbench.report.colours import Style, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNITS = {
    "translate_x": "moved to the right (pixels)",
    "translate_y": "moved down (pixels)",
    "rotate": "turned (degrees)",
    "scale": "enlarged (factor)",
    "size": "resized to (pixels)",
}
_MOVED = "features moved\n(% of the distance of two images)"
_AGREED = "same class as the\nimage left alone (%)"
_ACCURATE = "test accuracy (%)"
_SITE = re.compile(r"site_(\d+)_(\w+?)(?:_([\d.]+))?")
_WIDE = 2.9  # inches of a panel


class _Panel(NamedTuple):
    """Numbers of a transform: the columns of its amounts, and the amounts."""

    columns: tuple[str, ...]
    amounts: tuple[float, ...]


def probe_columns(cells: pd.DataFrame) -> list[str]:
    """The columns of ``cells`` that figures of this module show, of those that hold a number."""
    shown = [name for name in cells.columns if is_of_probe(name) and cells[name].notna().any()]
    return ["pool", "seed", "test_accuracy", *shown] if shown else []


def invariance_figure(
    cells: pd.DataFrame, pools: Sequence[str], title: str, size: Size | None = None
) -> "Figure | None":
    """Accuracy, and how far the features move, against how far images are moved, turned or resized."""
    words = [word for word in TRANSFORMS.values() if word in _UNITS]
    accuracies = {word: panel for word in words if len((panel := _amounts(cells, f"test_accuracy_{word}")).columns) > 1}
    if not accuracies:
        return None
    below = {word: _amounts(cells, f"distance_{word}") for word in accuracies}
    moved = all(panel.columns for panel in below.values())
    if not moved:
        below = {word: _amounts(cells, f"agreement_{word}") for word in accuracies}
    with drawing():
        figure = new_figure(0.9 + _WIDE * len(accuracies), 6.4, size)
        grid = figure.subplots(2, len(accuracies), sharex="col", sharey="row", squeeze=False)
        look = styles(pools)
        for column, word in enumerate(accuracies):
            for axes, panel in ((grid[0, column], accuracies[word]), (grid[1, column], below[word])):
                for pool in pools:
                    _line(axes, cells[cells["pool"] == pool], panel, look[pool])
                if word == "scale":
                    axes.set_xscale("log")
                    axes.set_xticks(panel.amounts, [f"{amount:g}" for amount in panel.amounts])
                    axes.minorticks_off()
            grid[1, column].set_xlabel(_UNITS[word])
        grid[0, 0].set_ylabel(from_where(_ACCURATE, grid[0, 0].get_ylim()))
        grid[1, 0].set_ylabel(from_where(_MOVED if moved else _AGREED, grid[1, 0].get_ylim()))
        _finish(figure, f"{title}\nmeans over seeds; bands: lowest to highest seed", pools, look)
        return figure


def robustness_figure(
    cells: pd.DataFrame, pools: Sequence[str], title: str, size: Size | None = None
) -> "Figure | None":
    """Accuracy on each corruption, and how often two random shifts get the same class: a dot for each seed."""
    corrupted = [kind for kind in CORRUPTIONS if f"test_accuracy_{kind}" in cells]
    shares = {f"test_accuracy_{kind}": kind for kind in corrupted}
    shares |= {"test_accuracy_corrupted": "all of these"} if corrupted else {}
    shifts = {
        f"{how}consistency_{amount:g}": f"{amount:g} px, {border}"
        for how, border in (("", "reflected"), ("circular_", "wrapped"))
        for amount in _amounts(cells, f"{how}consistency").amounts
    }
    calibration = {"calibration_error": "its expected error"} if "calibration_error" in cells else {}
    panels = [
        (named, axis)
        for named, axis in (
            (shares, _ACCURATE),
            (shifts, "two shifts, one class (%)"),
            (calibration, "probabilities off by (%)"),
        )
        if named
    ]
    if not panels:
        return None
    with drawing():
        rows = [len(named) for named, _ in panels]
        figure = new_figure(8.6, 1.3 + 0.36 * sum(rows) + 0.75 * len(panels), size)
        look = styles(pools)
        grid = figure.subplots(len(panels), 1, height_ratios=[1 + row for row in rows], squeeze=False)[:, 0]
        for axes, (named, text) in zip(grid, panels, strict=True):
            for place, column in enumerate(named):
                for pool, y in zip(pools, -place + _dodge(len(pools)), strict=True):
                    own = 100 * cells.loc[cells["pool"] == pool, column].dropna()
                    if len(own):
                        axes.plot([own.min(), own.max()], [y, y], color=look[pool].colour, lw=1.2, zorder=3)
                        mark(axes, float(own.mean()), float(y), look[pool], 0.75)
            axes.set_yticks([-place for place in range(len(named))], list(named.values()))
            axes.set_ylim(0.6 - len(named), 0.6)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="y", visible=False)
            for place in range(1, len(named)):
                axes.axhline(0.5 - place, color="#EEEEEE", lw=0.6, zorder=1)
            if named is calibration:
                axes.set_xlim(left=0)
            axes.set_xlabel(from_where(text, axes.get_xlim()))
        _finish(figure, f"{title}\nmeans over seeds; lines: lowest to highest seed", pools, look)
        return figure


def information_figure(
    cells: pd.DataFrame, pools: Sequence[str], title: str, size: Size | None = None
) -> "Figure | None":
    """Test accuracy against what each pool keeps of its input and against how much it aliases, site by site."""
    rows = {
        "explained_variance": "rebuilt of its input\nby a linear decoder (%)",
        "aliased": "folded energy\nin its output (%)",
    }
    sites = _sites(cells, rows)
    rows = {what: text for what, text in rows.items() if any(f"site_{site}_{what}" in cells for site in sites)}
    if not sites:
        return None
    with drawing():
        figure = new_figure(0.9 + _WIDE * len(sites), 0.9 + 3.0 * len(rows), size)
        grid = figure.subplots(len(rows), len(sites), sharey=True, squeeze=False)
        look = styles(pools)
        for line, (what, text) in zip(grid, rows.items(), strict=True):
            for axes, site in zip(line, sites, strict=True):
                column = f"site_{site}_{what}"
                for pool in pools:
                    own = cells[cells["pool"] == pool]
                    known = own[own[column].notna()] if column in own else own.iloc[:0]
                    if len(known):
                        x, y = 100 * known[column], 100 * known["test_accuracy"]
                        axes.plot(x, y, ".", color=look[pool].colour, alpha=0.55, ms=5, mew=0, zorder=3)
                        mark(axes, float(x.mean()), float(y.mean()), look[pool])
                axes.margins(x=0.12, y=0.12)
                axes.set_xlabel(from_where(f"site {site}: {text}", axes.get_xlim()))
            line[0].set_ylabel(from_where(_ACCURATE, line[0].get_ylim()))
        _finish(figure, f"{title}\neach seed a dot, their means marked", pools, look)
        return figure


def sites_figure(cells: pd.DataFrame, pools: Sequence[str], title: str, size: Size | None = None) -> "Figure | None":
    """Which share of what a shift changes each pool takes away, site by site, and the same before training."""
    sites = _sites(cells, ("removed",))
    if not sites:
        return None
    with drawing():
        figure = new_figure(0.9 + (_WIDE + 0.4) * len(sites), 4.3, size)
        grid = figure.subplots(1, len(sites), sharey=True, squeeze=False)[0]
        look = styles(pools)
        for axes, site in zip(grid, sites, strict=True):
            for who, alpha in (("site", 1.0), ("untrained_site", 0.45)):
                panel = _amounts(cells, f"{who}_{site}_removed")
                for pool in pools:
                    own = cells[cells["pool"] == pool]
                    _line(axes, own, panel, look[pool], trained=who == "site", alpha=alpha)
            axes.axhline(0, color=GREY, lw=0.8, zorder=1)
            axes.set_xscale("log", base=2)
            axes.set_xticks(panel.amounts, [f"{amount:g}" for amount in panel.amounts])
            axes.set_xlabel(f"site {site}: shift of the image (pixels)")
        grid[0].set_ylabel("of the change, taken away by the pool (%)")
        _finish(figure, f"{title}\nlines: after training, means over seeds; dots, faint: before it", pools, look)
        return figure


def gap_figure(cells: pd.DataFrame, pools: Sequence[str], title: str, size: Size | None = None) -> "Figure":
    """The gap between training and test accuracy, and the test accuracy, against the number of training images.

    Args:
        cells: as :func:`poolbench.report.samples.over_samples` gives them.
    """
    with drawing():
        names = list(dict.fromkeys(cells["panel"]))
        figure = new_figure(1.0 + 4.2 * len(names), 6.8, size)
        grid = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
        look = styles(pools)
        cells = cells.assign(gap=cells["train_accuracy"] - cells["test_accuracy"])
        for place, name in enumerate(names):
            for axes, number in ((grid[0, place], "gap"), (grid[1, place], "test_accuracy")):
                for pool in pools:
                    own = cells[(cells["panel"] == name) & (cells["pool"] == pool)]
                    _band(axes, own.groupby("train_samples")[number], look[pool])
                axes.set_xscale("log")
                sizes = sorted(cells["train_samples"].unique())
                axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
                axes.minorticks_off()
            grid[0, place].set_title(wrapped(name, 3.6), fontsize=9)
            grid[1, place].set_xlabel("training images")
        grid[0, 0].set_ylabel(from_where("training minus test accuracy (points)", grid[0, 0].get_ylim()))
        grid[1, 0].set_ylabel(from_where(_ACCURATE, grid[1, 0].get_ylim()))
        _finish(figure, f"{title}\nmeans over seeds; bands: lowest to highest seed", pools, look)
        return figure


def _amounts(cells: pd.DataFrame, start: str) -> _Panel:
    """The columns ``start_AMOUNT`` that hold a number, in the order of their amounts."""
    found = []
    for name in cells.columns:
        match = re.fullmatch(rf"{re.escape(start)}_(-?[\d.]+(?:e[+-]?\d+)?)", name)
        if match and cells[name].notna().any():
            found.append((float(match[1]), name))
    found.sort()
    return _Panel(tuple(name for _, name in found), tuple(amount for amount, _ in found))


def _sites(cells: pd.DataFrame, what: Iterable[str]) -> list[int]:
    """Numbers of the sites that have one of the numbers ``what``."""
    matches = [_SITE.fullmatch(name) for name in cells.columns]
    return sorted({int(match[1]) for match in matches if match and match[2] in set(what)})


def _line(
    axes: "Axes", own: pd.DataFrame, panel: _Panel, style: Style, trained: bool = True, alpha: float = 1.0
) -> None:
    """A pool's mean over seeds at each amount, and from where to where seeds go."""
    known = [place for place, column in enumerate(panel.columns) if own[column].notna().any()]
    if not known:
        return
    x = [panel.amounts[place] for place in known]
    values = 100 * own[[panel.columns[place] for place in known]].astype(float)
    if trained:
        axes.fill_between(x, values.min(), values.max(), color=style.colour, alpha=0.13, lw=0, zorder=2)
    axes.plot(x, values.mean(), ls=style.dash if trained else ":", color=style.colour, lw=1.5, alpha=alpha, zorder=3)
    for at, mean in zip(x, values.mean(), strict=True):
        mark(axes, at, float(mean), style, 0.7 if trained else 0.45, alpha=alpha)


def _band(axes: "Axes", groups: "pd.api.typing.SeriesGroupBy", style: Style) -> None:
    over = 100 * groups.agg(["mean", "min", "max"])
    if over.empty:
        return
    axes.fill_between(over.index, over["min"], over["max"], color=style.colour, alpha=0.13, lw=0, zorder=2)
    axes.plot(over.index, over["mean"], ls=style.dash, color=style.colour, lw=1.5, zorder=3)
    for at, mean in over["mean"].items():
        mark(axes, float(at), float(mean), style, 0.8)


def _dodge(count: int) -> np.ndarray:
    """Heights within a row of 1, so that pools do not hide each other."""
    return np.linspace(0.28, -0.28, count) if count > 1 else np.zeros(1)


def _finish(figure: "Figure", title: str, pools: Sequence[str], look: dict[str, Style]) -> None:
    """Title and legend."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look[pool].colour, ls=look[pool].dash, marker=look[pool].marker, ms=7, label=pool)
        for pool in pools
    ]
    figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
    figure.legend(handles=handles, loc="outside right upper", frameon=False, handlelength=3)
