"""Learning curves of a group of cells, and how far each pool's is from the baseline's."""

from typing import TYPE_CHECKING

import pandas as pd

from poolbench.report.canvas import Size, at_least, drawing, fitted, from_where, mark, measuring, new_figure, wrapped
from poolbench.report.colours import Style, styles
from poolbench.report.placement import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 8  # more pools than this get a small panel of curves each
_LEAST_POINTS = 2.0  # that an axis of differences shows
_NAMES = 2.0  # inches of the widest name beside a curve
_KINDS = {
    "train_accuracy": "training accuracy (%), measured while training",
    "validation_accuracy": "validation accuracy (%)",
}
_GREY = Style("#999999", "None", "-")
_DIFFERENCE = "difference"


def curves_figure(curves: pd.DataFrame, rows: pd.DataFrame, title: str, size: Size | None = None) -> "Figure | None":
    """Training accuracy, and validation accuracy where there is one, by epoch: mean and range over seeds; and where
    there is a baseline, beside them how far the others are from it in the last of these, seed by seed.

    Up to eight pools share a panel; more get one each, of the difference to the baseline where there is one. None when
    there is nothing to draw.

    Args:
        curves: the group's rows of ``collect_metrics``.
        rows: the group's rows of the summary, which give the order.
        size: width and height in inches, None for what the figure needs.
    """
    kinds = [kind for kind in _KINDS if curves[kind].notna().any()]
    pools = [pool for pool in rows["pool"] if pool in set(curves["pool"])]
    if not kinds or not pools:
        return None
    several = rows["seeds"].max() > 1
    baseline = next((pool for pool in rows[rows["baseline"]]["pool"] if pool in pools), None)
    curves = _with_difference(curves, kinds[-1], baseline)
    compared = [
        pool for pool in pools if curves[curves["pool"] == pool][_DIFFERENCE].notna().any() and pool != baseline
    ]
    with drawing():
        if len(pools) > _MOST_LINES:
            figure = _small_panels(curves, rows, pools, kinds[-1], size)
        else:
            figure = _few_panels(curves, rows, [*kinds, *([_DIFFERENCE] if compared else [])], several, size)
        figure.suptitle(wrapped(title, figure.get_figwidth()), x=0.01, ha="left")
        return figure


def _few_panels(
    curves: pd.DataFrame, rows: pd.DataFrame, kinds: list[str], several: bool, size: Size | None
) -> "Figure":
    """A panel for each of ``kinds``, all pools in each."""
    width_of, look = measuring(), styles(rows["pool"])
    pools = [pool for pool in rows["pool"] if pool in set(curves["pool"])]
    names = {pool: fitted(pool, _NAMES, width_of) for pool in pools}
    lines = max(name.count("\n") for name in names.values()) + 1
    figure = new_figure(1.3 + _NAMES / 2 + 3.9 * len(kinds), max(4.6, 1.6 + 0.17 * lines * len(pools)), size)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    baseline = next(iter(rows[rows["baseline"]]["pool"]), None)
    drawn: dict[Axes, dict[str, tuple[float, float]]] = {}
    for axes, kind in zip(panels, kinds, strict=True):
        ends = {pool: _curve(axes, curves[curves["pool"] == pool], kind, look[pool]) for pool in pools}
        drawn[axes] = {pool: end for pool, end in ends.items() if end}
        axes.set_xlabel(f"epoch{' (band: lowest to highest seed)' if several else ''}")
        if kind == _DIFFERENCE:
            axes.set_ylim(_limits(curves))
            words = f"{_words(kinds[-2])}\nminus that of {fitted(str(baseline), 3.0, width_of)} (points)"
            axes.set_ylabel(words + _beyond(curves))
        else:
            axes.set_ylabel(from_where(_KINDS[kind], axes.get_ylim()))
        _whole_ticks(axes, curves["epoch"].max())
    # One list of names, at the end of the last panel. Of all in it: the baseline is its line at 0.
    axes = panels[-1]
    figure.draw_without_rendering()
    _label_ends(axes, drawn[axes], names, look)
    return figure


def _with_difference(curves: pd.DataFrame, kind: str, baseline: str | None) -> pd.DataFrame:
    """``curves`` with a column: ``kind`` less that of ``baseline`` at the same epoch of the same seed, NaN without."""
    control = curves[curves["pool"] == baseline].drop_duplicates(["seed", "epoch"])
    control = control.set_index(["seed", "epoch"])[kind].rename("control")
    joined = curves.join(control, on=["seed", "epoch"])
    return joined.assign(**{_DIFFERENCE: joined[kind] - joined["control"]}).drop(columns="control")


def _limits(curves: pd.DataFrame) -> tuple[float, float]:
    """Of an axis of differences in points. The first quarter of the epochs, in which they are large, counts nothing."""
    late = curves[curves["epoch"] > curves["epoch"].max() // 4]
    means = 100 * late.groupby(["pool", "epoch"])[_DIFFERENCE].agg(["min", "max"])
    low, high = min(0.0, float(means["min"].min())), max(0.0, float(means["max"].max()))
    margin = 0.06 * (high - low)
    return at_least((low - margin, high + margin), _LEAST_POINTS)


def _beyond(curves: pd.DataFrame) -> str:
    """Words that say so where curves leave the axis of :func:`_limits`."""
    (low, high), first = _limits(curves), int(curves["epoch"].max()) // 4 + 1
    inside = (100 * curves[_DIFFERENCE].dropna()).between(low, high).all()
    return "" if inside else f"\naxis fits epochs from {first} on"


def _words(kind: str) -> str:
    return kind.replace("train_", "training ").replace("_", " ")


def _curve(axes: "Axes", own: pd.DataFrame, kind: str, style: Style) -> tuple[float, float] | None:
    """Draw one pool's curve; returns its last point."""
    over = own.dropna(subset=[kind]).groupby("epoch")[kind].agg(["mean", "min", "max"]) * 100
    if over.empty:
        return None
    axes.fill_between(over.index, over["min"], over["max"], color=style.colour, alpha=0.13, lw=0, zorder=2)
    axes.plot(over.index, over["mean"], color=style.colour, ls=style.dash, lw=1.6, zorder=4)
    mark(axes, over.index[-1], over["mean"].iloc[-1], style, 0.8)
    return float(over.index[-1]), float(over["mean"].iloc[-1])


def _label_ends(
    axes: "Axes", ends: dict[str, tuple[float, float]], names: dict[str, str], look: dict[str, Style]
) -> None:
    """Each curve's name to the right of the panel, as near its end as the other names allow."""
    low, high = axes.get_ylim()
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    lines = max(names[pool].count("\n") for pool in ends) + 1
    heights = spread([y for _, y in ends.values()], 12.5 * lines / points * (high - low), low, high)
    for (pool, end), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            names[pool],
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


def _small_panels(curves: pd.DataFrame, rows: pd.DataFrame, pools: list[str], kind: str, size: Size | None) -> "Figure":
    """A panel a pool: its difference to the baseline, the line at 0, where there is one, else its accuracy."""
    across = 4
    look, width_of = styles(rows["pool"]), measuring(10)
    baseline = next(iter(rows[rows["baseline"]]["pool"]), None)
    differs = curves[curves["pool"] != baseline][_DIFFERENCE].notna().any()
    shown = [pool for pool in pools if pool != baseline] if differs else pools
    down = -(-len(shown) // across)
    figure = new_figure(10.2, 0.8 + 2.0 * down, size)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for place, (axes, pool) in enumerate(zip(panels, shown, strict=False)):
        own = curves[curves["pool"] == pool]
        _curve(axes, own, _DIFFERENCE if differs else kind, look[pool])
        if differs:
            axes.axhline(0, color=_GREY.colour, lw=1.4, zorder=1)
        axes.set_title(fitted(pool, 2.2, width_of), color=look[pool].ink, fontsize=10)
        axes.tick_params(labelbottom=place + across >= len(shown))
        _whole_ticks(axes, curves["epoch"].max())
    figure.supxlabel(f"epoch (grey: {baseline})" if differs else "epoch", fontsize=10)
    if differs:
        panels[0].set_ylim(_limits(curves))
        text = f"{_words(kind)} minus that of {baseline} (points){_beyond(curves)}"
    else:
        text = from_where(_KINDS[kind], panels[0].get_ylim())
    figure.supylabel(text, fontsize=10)
    return figure


def _whole_ticks(axes: "Axes", last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if last == 1:
        axes.set_xlim(0.5, 1.5)
