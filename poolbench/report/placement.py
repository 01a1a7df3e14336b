"""Where labels stand in a figure, so that none covers another one or a point."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))
_REACHES = (7, 14, 24, 36, 50, 66)  # points between a marker and its label; beyond the second a line leads to it


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near ``wanted``, in the same order along the axis, at least ``gap`` apart and within [low, high].

    Without room for the gaps, the positions are spaced evenly.
    """
    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    # Overlapping neighbours form blocks; each block stands where its members are off by the least in the mean.
    blocks: list[list[float]] = []
    for value in np.asarray(wanted, dtype=float)[order]:
        blocks.append([value])
        while len(blocks) > 1 and _start(blocks[-2], gap) + gap * len(blocks[-2]) > _start(blocks[-1], gap):
            last = blocks.pop()
            blocks[-1] += last
    placed = np.concatenate([_start(block, gap) + gap * np.arange(len(block)) for block in blocks])
    placed = np.maximum.accumulate(np.maximum(placed, low + gap * np.arange(len(placed))))
    placed = np.minimum(placed, high - gap * np.arange(len(placed))[::-1])
    result = np.empty(len(placed))
    result[order] = placed
    return result.tolist()


def _start(block: list[float], gap: float) -> float:
    """Where the first of a block's members goes when they stand ``gap`` apart around their own middle."""
    return float(np.mean(block)) - gap * (len(block) - 1) / 2


def label_points(
    axes: "Axes",
    points: list[tuple[float, float]],
    bars: list[tuple[float, float]],
    texts: list[str],
    colours: list[str],
) -> None:
    """Write each text beside its point where it covers no other text, no point and, if possible, no bar; nearest first.

    The figure's layout must be final. Texts keep to the axes; a thin line leads to those that stand farther off.

    Args:
        points: (x, y) in data coordinates; bars: the lowest and highest y of each point's error bar, or NaN.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer, scale = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    dots, errors, written = [], [], []
    for (x, y), ends in zip(points, bars, strict=True):
        column, row = axes.transData.transform((x, y))
        low, high = (axes.transData.transform((x, end if np.isfinite(end) else y))[1] for end in ends)
        dots.append(Bbox.from_extents(column - 5 * scale, row - 5 * scale, column + 5 * scale, row + 5 * scale))
        errors.append(Bbox.from_extents(column - scale, low, column + scale, high))
    frame = axes.get_window_extent(renderer)
    for index in np.argsort([-y for _, y in points], kind="stable"):
        label = axes.annotate(texts[index], points[index], color=colours[index], va="bottom", zorder=6)
        size = label.get_window_extent(renderer)
        middle = (dots[index].x0 + dots[index].x1) / 2, (dots[index].y0 + dots[index].y1) / 2
        others = dots[:index] + dots[index + 1 :] + written
        best = (np.inf, None, None, None)
        for reach, (horizontal, vertical) in itertools.product(_REACHES, _DIRECTIONS):
            step = reach * scale / np.hypot(horizontal, vertical)
            left = middle[0] + horizontal * step + size.width * (horizontal - 1) / 2
            bottom = middle[1] + vertical * step + size.height * (vertical - 1) / 2
            box = Bbox.from_bounds(left, bottom, size.width, size.height)
            covered = sum(_overlap(box, other) for other in others)
            covered += 0.5 * sum(_overlap(box, error) for error in errors)
            covered += 4 * (size.width * size.height - _overlap(box, frame))
            cost = covered + 0.002 * reach * size.height  # Of places that cover as much, the nearest.
            if cost < best[0] - 1e-6:
                best = (cost, box, reach, (horizontal, vertical))
            if covered < 1e-6:
                break
        _, box, reach, (horizontal, vertical) = best
        written.append(box)
        label.remove()
        away = {"arrowstyle": "-", "color": colours[index], "lw": 0.6, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            texts[index],
            xy=points[index],
            xytext=((box.x0 - middle[0]) / scale, (box.y0 - middle[1]) / scale),
            textcoords="offset points",
            va="bottom",
            color=colours[index],
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=6,
            arrowprops=away | {"relpos": ((1 - horizontal) / 2, (1 - vertical) / 2)} if reach > _REACHES[1] else None,
        )


def _overlap(a: "Bbox", b: "Bbox") -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)
