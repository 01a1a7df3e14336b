"""Small panels below the claims: each arm's accuracy against how much the test images were changed, probe by probe."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.claims.arms import ArmLook
from poolbench.report.canvas import GREY, WidthOf, fitted, legend, mark
from poolbench.statistics.estimates import Estimate, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A panel for each, in this order, others behind them: its axis, and the amount that leaves an image as it is.
_PROBES: dict[str, tuple[str, float | str | None]] = {
    "size": ("test images' side (pixels)", None),
    "draws": ("passes averaged", None),
    "scale": ("enlarged by", 1.0),
    "translate_x": ("moved right by (pixels)", 0.0),
    "translate_y": ("moved down by (pixels)", 0.0),
    "rotate": ("turned by (degrees)", 0.0),
    "flip": ("mirrored", "as it is"),
}
_COLUMN = re.compile(r"test_accuracy_(?:(?P<flip>flip)_(?P<way>horizontal|vertical)|(?P<name>\w+?)_(?P<amount>-?\d.*))")
_ACROSS = 3
_EDGE, _LEFT, _GAP, _HEIGHT, _BELOW, _LINE = 0.12, 0.48, 0.14, 1.7, 0.56, 0.21  # inches

Amount = float | str
Curves = dict[str, dict[ArmLook, dict[Amount, Estimate]]]


def probe_curves(arms: Sequence[ArmLook], cells: pd.DataFrame) -> Curves:
    """Probe -> arm -> amount -> mean accuracy over the arm's cells (fraction), the unchanged images among the amounts.

    Only what columns such as ``test_accuracy_rotate_-10`` hold; an arm whose cells have no number is left out.
    """
    amounts: dict[str, dict[Amount, str]] = defaultdict(dict)
    for column in map(str, cells.columns):
        found = _COLUMN.fullmatch(column)
        if found and found["flip"]:
            amounts["flip"][found["way"]] = column
        elif found and (amount := _number(found["amount"])) is not None:
            amounts[found["name"]][amount] = column
    curves: Curves = {}
    for probe in sorted(
        amounts, key=lambda name: (list(_PROBES).index(name) if name in _PROBES else len(_PROBES), name)
    ):
        columns = amounts[probe]
        neutral = _PROBES.get(probe, ("", None))[1]
        own = {}
        for arm in arms:
            rows = cells[cells["run_id"].isin(arm.runs)].drop_duplicates("run_id")
            rows = rows[rows[list(columns.values())].notna().any(axis=1)]
            if rows.empty:
                continue
            points = {neutral: "test_accuracy"} if neutral is not None else {}
            points = {amount: mean_interval(rows[name].dropna()) for amount, name in (points | columns).items()}
            own[arm] = {amount: points[amount] for amount in sorted(points, key=_place) if points[amount].n}
        if own:
            curves[probe] = own
    return curves


def panels_height(arms: Sequence[ArmLook], cells: pd.DataFrame, width: float, width_of: WidthOf) -> float:
    """How many inches :func:`draw_panels` needs in a figure ``width`` inches wide; 0 without probes."""
    curves = probe_curves(arms, cells)
    if not curves:
        return 0.0
    return _head(curves, width, width_of) + math.ceil(len(curves) / _ACROSS) * (_HEIGHT + _BELOW)


def draw_panels(figure: "Figure", arms: Sequence[ArmLook], cells: pd.DataFrame, top: float, width_of: WidthOf) -> None:
    """Draw a panel for each probe of ``cells``, ``top`` inches below the upper edge of ``figure``."""
    curves = probe_curves(arms, cells)
    if not curves:
        return
    from matplotlib.lines import Line2D

    across, down = figure.get_size_inches()
    heading = "Accuracy (%) on changed test images: mean, band: 95 % interval; axes start where their data do"
    figure.text(_EDGE / across, 1 - (top + 0.22) / down, heading, fontweight="bold", fontsize=9, va="top")
    pitch = (across - _EDGE) / max(2, min(_ACROSS, len(curves)))
    shown = [arm for arm in arms if any(arm in own for own in curves.values())]
    for place, (probe, own) in enumerate(curves.items()):
        x = _EDGE + _LEFT + pitch * (place % _ACROSS)
        y = top + _head(curves, across, width_of) + (place // _ACROSS) * (_HEIGHT + _BELOW)
        size = ((pitch - _LEFT - _GAP) / across, _HEIGHT / down)
        axes = figure.add_axes((x / across, 1 - (y + _HEIGHT) / down, *size))
        amounts = sorted({amount for points in own.values() for amount in points}, key=_place)
        # Words stand side by side, all at the same places whichever of them an arm has.
        places = {a: float(a) if all(isinstance(b, float) for b in amounts) else i for i, a in enumerate(amounts)}
        for arm in shown:
            if arm in own:
                _draw_arm(axes, own[arm], arm, places)
        _label(axes, probe, places)
    labels, columns = _legend(shown, across, width_of)
    looks = {"lw": 1.6, "mec": "white", "mew": 0.7, "ms": 7}
    handles = [
        Line2D([], [], marker=arm.style.marker, ls=arm.style.dash, color=arm.style.colour, **looks) for arm in shown
    ]
    legend(figure, handles, labels, (_EDGE / across, 1 - (top + 0.44) / down), columns, length=2.6)


def _draw_arm(axes: "Axes", points: dict[Amount, Estimate], arm: ArmLook, at: dict[Amount, float]) -> None:
    places = [at[amount] for amount in points]
    means, lows, highs = ([100 * getattr(point, part) for point in points.values()] for part in ("mean", "low", "high"))
    axes.fill_between(places, lows, highs, color=arm.style.colour, alpha=0.15, lw=0, zorder=2)
    axes.plot(places, means, color=arm.style.colour, ls=arm.style.dash, lw=1.5, zorder=4)
    for place, mean in zip(places, means, strict=True):
        mark(axes, place, mean, arm.style, 0.7)


def _label(axes: "Axes", probe: str, places: dict[Amount, float]) -> None:
    from matplotlib.ticker import MaxNLocator

    if any(isinstance(amount, str) for amount in places):
        axes.set_xticks(list(places.values()), list(map(str, places)))
        axes.set_xlim(-0.4, len(places) - 0.6)
    elif len(places) <= 3:
        axes.set_xticks(list(places))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    low, high = axes.get_ylim()
    if high - low > 4:
        axes.set_ylim(bottom=math.floor(low))
    axes.set_xlabel(_PROBES.get(probe, (probe.replace("_", " "), None))[0], fontsize=9, labelpad=2)
    neutral = _PROBES.get(probe, ("", None))[1]
    if isinstance(neutral, float):
        axes.axvline(neutral, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=1)


def _head(curves: Curves, width: float, width_of: WidthOf) -> float:
    """Inches from the panels' top to the first axis: heading and legend."""
    shown = list(dict.fromkeys(arm for own in curves.values() for arm in own))
    labels, columns = _legend(shown, width, width_of)
    lines = math.ceil(len(labels) / columns) + sum(label.count("\n") for label in labels)
    return 0.44 + _LINE * lines + 0.12


def _legend(shown: Sequence[ArmLook], width: float, width_of: WidthOf) -> tuple[list[str], int]:
    """The arms' labels in lines that fit, and in how many columns they do."""
    labels = [fitted(arm.label, width - 2 * _EDGE - 0.72, width_of) for arm in shown]
    widest = max(width_of(line) for label in labels for line in label.split("\n")) + 0.72
    return labels, max(1, min(len(labels), int((width - 2 * _EDGE) / widest)))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _place(amount: Amount) -> tuple[int, float, str]:
    """Numbers by size; unchanged images first among words."""
    return (0, amount, "") if isinstance(amount, float) else (1, float(amount != "as it is"), amount)
