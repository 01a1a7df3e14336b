"""What all figures share: settings, sizes of markers, and words of axes and titles."""

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from poolbench.report.colours import Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WidthOf = Callable[[str], float]  # of a line of text, in inches
Size = tuple[float | None, float | None]  # width and height in inches

GREY = "#555555"
_SIZES = {"*": 12, "X": 9, "p": 9, "h": 9}  # so that every marker looks about as large as a dot of 8 points
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "poolbench",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # letters stay letters, which one can search and edit
    "savefig.dpi": 150,
    "figure.dpi": 150,
    "path.sketch": None,
    "text.parse_math": False,  # a name with dollar signs is a name
}


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib with our settings alone, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def legend(
    figure: "Figure",
    handles: "list[Artist]",
    labels: list[str],
    corner: tuple[float, float],
    columns: int,
    length: float,
) -> None:
    """A legend of ``columns`` without a frame, its upper left corner at ``corner`` (shares of the figure); its lines
    are ``length`` times as long as letters are high."""
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=corner,
        ncols=columns,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=length,
        columnspacing=1.5,
        labelspacing=0.45,
    )


def new_figure(width: float, height: float, size: Size | None = None) -> "Figure":
    """An empty figure of ``width`` by ``height`` inches that belongs to no window and no global state.

    Args:
        size: width and height that somebody asked for; None for what the figure needs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, high = size or (None, None)
    figure = Figure(figsize=(wide or width, high or height))
    FigureCanvasAgg(figure)
    return figure


def jitter(n: int) -> np.ndarray:
    """Heights of ``n`` dots within a tenth of a line, so that equal accuracies do not hide each other."""
    return 0.1 * (np.arange(n) % 3 - 1) if n > 1 else np.zeros(n)


def mark(axes: "Axes", x: float, y: float, style: Style, size: float = 1.0, **keywords: Any) -> None:
    """A marker in the looks of ``style`` at (x, y); ``size`` 1 is as large as a dot of 8 points."""
    points = size * _SIZES.get(style.marker, 8)
    axes.plot(x, y, style.marker, color=style.colour, ms=points, mec="white", mew=0.7, ls="none", zorder=5, **keywords)


def from_where(text: str, limits: tuple[float, float]) -> str:
    """An axis label that says so when the axis does not start at 0."""
    start = f"{limits[0]:,.0f}" if limits[0] >= 100 else f"{limits[0]:.3g}"
    return f"{text}\naxis starts at {start}, not at 0" if limits[0] > 0 else text


def at_least(limits: tuple[float, float], span: float) -> tuple[float, float]:
    """``limits`` of an axis, widened about their middle to ``span`` where they are nearer: noise must not fill it."""
    low, high = limits
    more = max(0.0, span - (high - low)) / 2
    return low - more, high + more


def widen(axes: "Axes", name: str, span: float) -> None:
    """Let the axis ``name``, x or y, show ``span`` about the middle of its data where these are nearer together."""
    low, high = getattr(axes.dataLim, f"interval{name}")
    if high - low < 0.9 * span:
        axes.set(**{f"{name}lim": at_least((low, high), span)})


def wrapped(title: str, inches: float) -> str:
    """``title`` in lines that fit the figure's width."""
    return "\n".join(part for line in title.split("\n") for part in textwrap.wrap(line, int(11.5 * inches)))


def measuring(points: float = 9) -> WidthOf:
    """A function that tells how many inches wide a line of text of that size is."""
    from matplotlib.font_manager import FontProperties

    figure = new_figure(1, 1)
    renderer, font = figure.canvas.get_renderer(), FontProperties(family="DejaVu Sans", size=points)
    return lambda text: renderer.get_text_width_height_descent(text, font, False)[0] / figure.dpi


def fitted(text: str, inches: float, width_of: WidthOf) -> str:
    """``text`` in lines of at most ``inches``. Words that are longer are broken after a comma or a bracket, as
    ``max(kernel_size=3,`` and ``stride=2)``; what is still too long after other signs, and letter by letter at last."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}") <= inches:
            lines[-1] += f" {word}"
        else:
            lines += _broken(word, inches, width_of)
    return "\n".join(lines)


_BREAKS = (re.compile(r"(?<=[,;(\[])"), re.compile(r"(?<=[=_/:-])"), re.compile(r"(?<=.)(?=.)"))  # after these


def _broken(word: str, inches: float, width_of: WidthOf, coarse: int = 0) -> list[str]:
    """One word in lines."""
    if width_of(word) <= inches or coarse == len(_BREAKS):
        return [word]
    lines = [""]
    for piece in filter(None, _BREAKS[coarse].split(word)):
        if width_of(lines[-1] + piece) <= inches:
            lines[-1] += piece
        else:
            lines += _broken(piece, inches, width_of, coarse + 1)
    return [line for line in lines if line]
