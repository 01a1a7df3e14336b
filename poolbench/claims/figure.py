"""One figure for an experiment: of each claim both arms, the gain by seed, the paper's gain and the verdict.

Places are measured in inches and rows are as high as their words need, so the figure grows with the claims and nothing
overlaps. Numbers that are shares of images (accuracies) are drawn in percent and their differences in points; others,
as FLOPs, in their own unit on axes of their own.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.claims.panels import draw_panels, panels_height
from poolbench.claims.rows import LINE, Row, Span, heading, make_rows
from poolbench.messages import counted
from poolbench.report.canvas import GREY, WidthOf, drawing, jitter, legend, mark, measuring, new_figure, wrapped
from poolbench.report.tables import DASH, plus_minus

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from poolbench.claims.claim import Judgement
    from poolbench.statistics.estimates import Estimate

_WIDTH, _EDGE, _GAP = 9.6, 0.12, 0.2
_TITLE, _KEY, _HEADS, _TICKS, _BETWEEN = 0.2, 0.21, 0.36, 0.25, 0.05  # heights
_VERDICTS, _GAINS = 2.0, 0.95  # widths of the last column, and of the verdict in it
_BAND, _INK = "#E4E4E4", "#000000"
_PAPER = {"marker": "D", "words": "the paper's gain (its own data and net)"}
_REMEMBERED = {"marker": "s", "words": "the paper's gain, quoted from memory"}


def claim_figure(judgements: Sequence["Judgement"], cells: pd.DataFrame, title: str) -> "Figure | None":
    """Draw an experiment: a row for each judgement, then accuracy against what probes changed, where cells have that.

    Left in a row: control and treatment, each seed a dot, the mean and its 95 % interval. Right: the paired gain,
    positive as the paper claims, with the 95 % interval (thick) and the one it is judged by (thin), the smallest
    difference of interest as a band about 0, and the paper's own gain as an open mark. What lies far outside is an
    arrow at the edge, the paper's with its number, instead of squeezing ours.

    Args:
        judgements: in the order of their claims.
        cells: the tidy table of ``records.collect``, for the columns of probes as ``test_accuracy_rotate_10``.
        title: of the figure; lines that are too long are wrapped.
    Returns: None when no judgement has a number to draw.
    """
    if not any(judgement.gain.n for judgement in judgements):
        return None
    with drawing():
        width_of = measuring()
        rows = make_rows(judgements, width_of)
        claims = [list(own) for _, own in itertools.groupby(rows, key=lambda row: row.judgement.claim.id)]
        headings = [heading(own[0].judgement.claim, _WIDTH - 2 * _EDGE, width_of, len(own)) for own in claims]
        shown = list(dict.fromkeys(arm for row in rows for arm in row.arms))
        title, key = wrapped(title, _WIDTH), _legend(rows)
        above = 0.2 + _TITLE * (title.count("\n") + 1)
        top = above + _KEY * math.ceil(len(key) / 3) + 0.1
        below = top + _HEADS + sum(map(_heading_height, headings)) + sum(row.height + _after(row) for row in rows)
        figure = new_figure(_WIDTH, below + 0.05 + panels_height(shown, cells, _WIDTH, width_of))
        figure.set_layout_engine("none")
        page = _Page(figure)
        page.text(_EDGE, 0.08, title, fontsize=11, linespacing=1.2)
        legend(figure, *map(list, zip(*key, strict=True)), page.at(_EDGE, above), columns=3, length=1.8)
        _draw_claims(page, top, claims, headings, width_of)
        draw_panels(figure, shown, cells, below + 0.05, width_of)
        return figure


@dataclass(frozen=True)
class _Page:
    """A figure measured in inches from its upper left corner."""

    figure: "Figure"

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place as matplotlib has it: in parts of the figure, upwards."""
        width, height = self.figure.get_size_inches()
        return x / width, 1 - y / height

    def text(self, x: float, y: float, words: str, **looks: object) -> None:
        """Text whose upper edge is at ``y``."""
        self.figure.text(*self.at(x, y), words, **{"fontsize": 9, "va": "top", "linespacing": 1.25, **looks})

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        """Axes without a vertical scale, on which a step of 1 is an inch, from 0 at the upper edge to ``-height``."""
        size = self.figure.get_size_inches()
        axes = self.figure.add_axes((*self.at(x, y + height), width / size[0], height / size[1]))
        axes.set_ylim(-height, 0)
        axes.tick_params(axis="y", left=False, labelleft=False)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        return axes


def _draw_claims(
    page: _Page, top: float, claims: list[list[Row]], headings: list[tuple[str, str]], width_of: WidthOf
) -> None:
    """Draw the heads of the columns and all claims from ``top`` downwards."""
    rows = [row for own in claims for row in own]
    beside = [(row.stratum,) if row.one_of_several else (*row.labels, row.stratum) for row in rows]
    texts = [line for labels in beside for label in labels for line in label.split("\n")]
    left = _EDGE + max(map(width_of, texts)) + 0.12
    room = _WIDTH - _EDGE - _VERDICTS - left - 2 * _GAP
    columns = {"arms": (left, 0.46 * room), "gain": (left + 0.46 * room + _GAP, 0.54 * room)}
    verdicts = left + room + 2 * _GAP
    shares = all(row.scale == 100 for row in rows)
    above_zero = all(row.limits["arms"][0] > 0 for row in rows if not row.empty)
    start = "axes do not start at 0" if above_zero else "axes start where their data do"
    page.text(columns["arms"][0], top, f"both arms{' (%)' if shares else ', accuracies in %'}\n({start})", color=GREY)
    unit = "points" if shares else "accuracy: points"
    page.text(columns["gain"][0], top, f"gain, paired by seed\n({unit}; right: as claimed)", color=GREY)
    page.text(verdicts, top, "verdict", color=GREY)
    page.text(verdicts + _GAINS, top, "gain,\n95 % interval", color=GREY)
    y = top + _HEADS
    for own, (says, about) in zip(claims, headings, strict=True):
        page.text(_EDGE, y + 0.06, says, fontweight="bold")
        page.text(_EDGE, y + 0.06 + LINE * (says.count("\n") + 1), about, color=GREY)
        y += _heading_height((says, about))
        for row in own:
            _draw_labels(page, left - 0.08, y, row)
            _draw_verdict(page, verdicts, y, row)
            if not row.empty:
                for (name, (x, width)), draw in zip(columns.items(), (_draw_arms, _draw_gain), strict=True):
                    axes = page.axes(x, y, width, row.height)
                    draw(axes, row)
                    _finish(axes, row, name)
            y += row.height + _after(row)


def _draw_labels(page: _Page, right: float, top: float, row: Row) -> None:
    above, *heights = row.heights
    if row.one_of_several:
        page.text(right, top + row.height / 2, row.stratum, ha="right", va="center", color=GREY)
        return
    page.text(right, top, row.stratum, ha="right", color=GREY)
    for arm, label, middle in zip(row.arms, row.labels, _middles(above, heights), strict=True):
        page.text(right, top + middle, label, ha="right", va="center", color=arm.style.ink)


def _draw_arms(axes: "Axes", row: Row) -> None:
    """Of each arm the interval above its seeds."""
    one, (above, *heights) = row.judgement, row.heights
    estimates, values = (one.control, one.treatment), (one.control_values, one.treatment_values)
    for arm, estimate, own, middle in zip(row.arms, estimates, values, _middles(above, heights), strict=True):
        colour, y = arm.style.colour, 0.04 - middle
        seeds = [row.scale * own[seed] for seed in sorted(own)]
        axes.plot(seeds, y - 0.1 + 0.2 * jitter(len(seeds)), ".", color=colour, alpha=0.6, ms=5.5, mew=0, zorder=3)
        _interval(axes, estimate, row.scale, row.limits["arms"], y, colour, 2.2)
        mark(axes, row.scale * estimate.mean, y, arm.style, 0.8)


def _draw_gain(axes: "Axes", row: Row) -> None:
    """The paper's mark above, the intervals in the middle, the seeds below."""
    one, limits = row.judgement, row.limits["gain"]
    middle, step = -row.height / 2, 0.15
    least = row.scale * one.claim.smallest_difference
    axes.axvspan(-least, least, color=_BAND, lw=0, zorder=0)
    axes.axvline(0, color=_INK, lw=1, zorder=2)
    seeds = [row.scale * one.gains[seed] for seed in sorted(one.gains)]
    axes.plot(seeds, middle - step + 0.3 * jitter(len(seeds)), ".", color=GREY, alpha=0.8, ms=5.5, mew=0, zorder=3)
    _interval(axes, one.judged, row.scale, limits, middle, _INK, 1.0)
    _interval(axes, one.gain, row.scale, limits, middle, _INK, 3.2, ticks=False)
    axes.plot(row.scale * one.gain.mean, middle, "o", color="white", mec=_INK, mew=1.4, ms=5.5, zorder=5)
    gain = row.paper_gain
    if gain is not None:
        _draw_paper(axes, gain, limits, middle + step, _paper(row)["marker"])


def _draw_paper(axes: "Axes", gain: float, limits: Span, y: float, marker: str) -> None:
    """The paper's gain where it is, or at the edge with its number."""
    from matplotlib.patheffects import withStroke

    looks = {"mfc": "white", "mec": _INK, "mew": 1.2, "ms": 6.5, "zorder": 5, "clip_on": False}
    if limits[0] <= gain <= limits[1]:
        axes.plot(gain, y, marker, **looks)
        return
    beyond = gain > limits[1]
    axes.plot(limits[beyond], y, ">" if beyond else "<", **looks)
    axes.annotate(
        f"paper {gain:+.2f}".replace("-", "−"),
        (limits[beyond], y),
        xytext=(-7 if beyond else 7, 0),
        textcoords="offset points",
        ha="right" if beyond else "left",
        va="center",
        fontsize=9,
        zorder=6,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


def _draw_verdict(page: _Page, x: float, top: float, row: Row) -> None:
    one = row.judgement
    if row.empty:
        page.text(x, top, one.verdict, color=GREY)
        return
    verdict, _, small = one.verdict.partition(", ")
    page.text(x, top, verdict, fontweight="bold")
    page.text(x + _GAINS, top, _gain_text(row))
    would = f"; about {one.seeds_needed:,} would" if one.seeds_needed else "; too small" if small else ""
    page.text(x, top + LINE, counted(one.gain.n, "net" if one.over else "pair") + would, color=GREY)


def _gain_text(row: Row) -> str:
    gain = row.judgement.gain
    if row.scale == 1:
        text = (
            f"{_number(gain.mean, '+', 3)} ± {_number(gain.margin, digits=3) if math.isfinite(gain.margin) else DASH}"
        )
    else:
        text = plus_minus({"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}, "gain", sign=True)
    return text.replace("-", "−")


def _interval(
    axes: "Axes",
    estimate: "Estimate",
    scale: float,
    limits: Span,
    y: float,
    colour: str,
    thick: float,
    ticks: bool = True,
) -> None:
    """A bar with ``ticks`` at its ends; an end beyond the axis is an arrow at the edge instead."""
    low, high = scale * estimate.low, scale * estimate.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    inside = max(low, limits[0]), min(high, limits[1])
    axes.plot(inside, [y, y], "-", color=colour, lw=thick, solid_capstyle="butt", zorder=4)
    for end, edge, arrow in ((low, inside[0], "<"), (high, inside[1], ">")):
        if end != edge:
            axes.plot(edge, y, arrow, color=colour, ms=5.5, mew=0, zorder=4, clip_on=False)
        elif ticks:
            axes.plot(end, y, "|", color=colour, ms=8, mew=max(1.0, thick / 1.6), zorder=4)


def _finish(axes: "Axes", row: Row, name: str) -> None:
    """Limits and grid, and numbers where this axis or the other one ends."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(row.limits[name])
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    sign = "+" if name == "gain" else ""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _number(x, sign).replace("-", "−")))
    axes.tick_params(axis="x", labelbottom=_numbered(row), length=3 if _numbered(row) else 0, pad=2)
    axes.spines["bottom"].set_visible(_numbered(row))


def _number(x: float, sign: str = "", digits: int = 4) -> str:
    """At most so many digits, large numbers as ``35.1M``; 0 has no sign."""
    from matplotlib.ticker import EngFormatter

    x = round(x, 9) + 0.0
    if abs(x) >= 1e5:
        return ("+" if sign and x > 0 else "") + EngFormatter(sep="")(float(f"{x:.{digits}g}"))
    return f"{x:{sign if x else ''}.{digits}g}"


def _middles(above: float, heights: Sequence[float]) -> tuple[float, float]:
    """How far below the row's upper edge the middle of each arm is."""
    return above + heights[0] / 2, above + heights[0] + heights[1] / 2


def _numbered(row: Row) -> bool:
    return any(row.ends.values())


def _after(row: Row) -> float:
    """The space below a row."""
    return _TICKS if _numbered(row) else _BETWEEN


def _heading_height(texts: tuple[str, str]) -> float:
    return 0.11 + sum(LINE * (text.count("\n") + 1) for text in texts)


def _paper(row: Row) -> dict[str, str]:
    return _REMEMBERED if row.judgement.claim.paper.status == "from memory" else _PAPER


def _legend(rows: Sequence[Row]) -> list[tuple["Artist", str]]:
    """What the marks mean, of those that are there."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    drawn = [row for row in rows if not row.empty]
    dot = "a seed (over nets: a net)" if any(row.judgement.over for row in drawn) else "a seed"
    key: list[tuple[Artist, str]] = [(Line2D([], [], ls="", marker=".", color=GREY, mew=0, ms=7), dot)]
    if any(math.isfinite(row.judgement.gain.low) for row in drawn):
        key.append((Line2D([], [], color=_INK, lw=3.2), "mean, 95 % interval"))
    if any(math.isfinite(row.judgement.judged.low) for row in drawn):
        key.append((Line2D([], [], color=_INK, lw=1.0), "the interval that decides (Holm)"))
    if any(row.beyond(name) for row in drawn for name in row.limits):
        key.append((Line2D([], [], color=_INK, lw=1.0, marker=">", ms=5.5), "goes on beyond the axis"))
    key.append((Patch(color=_BAND, lw=0), "less than the smallest difference of interest"))
    papers = [_paper(row) for row in drawn if row.paper_gain is not None]
    for paper in (_PAPER, _REMEMBERED):
        if paper in papers:
            looks = {"ls": "", "marker": paper["marker"], "color": _INK, "mfc": "white", "mew": 1.2, "ms": 6.5}
            key.append((Line2D([], [], **looks), paper["words"]))
    return key
