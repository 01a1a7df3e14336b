"""Linear filters that work on rows and columns apart, with a step: what blurring and spectral pools are made of."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.pooling.base import is_open, pair
from poolbench.pooling.parts.infinite import may_look, seen_finite

# Up to this side one small matrix for all rows (and one for all columns) is faster than a convolution of each channel:
# at 32 pixels it takes 1.05 times a max pooling for any filter, the convolutions 1.8 (3 taps) to 2.4 (7 taps); at 64
# they are even, at 96 the convolution takes two thirds.
LARGEST_FILTER_MATRIX = 64
# Where the other way is a fast Fourier transform: that is slower still at 128.
LARGEST_MATRIX = 128

BORDERS = ("reflect", "replicate", "zero")


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ x @ columns^T`` of every map: ``(N, C, H, W) -> (N, C, H', W')`` in the memory format of ``x``, with
    ``rows`` ``(H', H)`` and ``columns`` ``(W', W)``."""
    rows, columns = rows.to(x.dtype), columns.to(x.dtype)
    if x.stride(1) != 1:
        return (rows @ (x @ columns.T)).to(x.dtype)
    n, c, height, width = x.shape
    # Batched products of copies of the same matrix (of which none is made): where it learns, the plain product would
    # give the map's gradient in another memory format.
    y = torch.bmm(rows.expand(n, -1, -1), x.movedim(1, -1).reshape(n, height, width * c))
    y = torch.bmm(columns.expand(n * len(rows), -1, -1), y.view(n * len(rows), width, c))
    return y.view(n, len(rows), len(columns), c).movedim(-1, 1).to(x.dtype)


def binomial(size: int) -> list[float]:
    """``size`` taps of the smoothest filter, of sum 1: 1; 1 1; 1 2 1; 1 3 3 1; ... over their sum."""
    return [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]


def filtered(
    x: Tensor,
    taps: list[float] | tuple[list[float], list[float]],
    stride: int | tuple[int, int],
    before: int | tuple[int, int],
    output: tuple[int, int],
    border: str,
) -> Tensor:
    """``taps`` down and along the map, every ``stride`` pixels, the first one ``before`` pixels outside it.

    Args:
        x: ``(N, C, H, W)``.
        taps, stride, before: for both sides, or a tuple for rows and columns.
        output: ``(H', W')``.
        border: ``"reflect"``, ``"replicate"`` or ``"zero"``. Reflection that a small map has too few pixels for becomes
            replication, for rows and columns apart.
    """
    size = (x.shape[-2], x.shape[-1])
    taps, stride = taps if isinstance(taps, tuple) else (taps, taps), pair(stride)
    sides = list(zip(taps, stride, pair(before), output, strict=True))
    if is_open(x):
        for axis, (own, step, first, n) in enumerate(sides, start=2):
            x = _bordered(x, axis, first, (n - 1) * step + len(own), border)
        return _convolved(x, taps, stride)
    pads = [
        _pads(side, len(own), step, first, n, border) for side, (own, step, first, n) in zip(size, sides, strict=True)
    ]
    if may_look(x) and max(size) <= LARGEST_FILTER_MATRIX:
        lines = [(own, step, side, n, pad) for side, (own, step, _, n), pad in zip(size, sides, pads, strict=True)]
        rows = _matrix(x, *lines[0])
        y = separable(x, rows, rows if lines[0] == lines[1] else _matrix(x, *lines[1]))
        # 0 times infinity: one cell that is not finite spreads over its whole map, so that any pixel shows it. The
        # convolution below keeps it where the filter is.
        if seen_finite(y[..., 0, 0]):
            return y
    (top, bottom, mode), (left, right, other) = pads
    if mode == other:  # at once, since each time copies the map
        x = F.pad(x, [left, right, top, bottom], mode)
    else:
        x = F.pad(F.pad(x, [0, 0, top, bottom], mode), [left, right, 0, 0], other)
    return _convolved(x, taps, stride)


def _convolved(x: Tensor, taps: tuple[list[float], list[float]], stride: tuple[int, int]) -> Tensor:
    rows, columns = (torch.tensor(own, dtype=x.dtype, device=x.device) for own in taps)
    channels = int(x.shape[1])  # a number in a trace too: the older exporter wants to know the weight's shape
    weight = (rows[:, None] * columns).expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, stride=stride, groups=channels).to(x.dtype)


def _bordered(x: Tensor, axis: int, before: int, needed: int, border: str) -> Tensor:
    """The ``needed`` lines of ``x`` from ``before`` its first one on, its border filled, whatever the side."""
    side = x.shape[axis]
    place = torch.arange(needed, device=x.device) - before
    inside = place.clamp(min=0).minimum(torch.full_like(place, side - 1))
    if border == "reflect":
        mirrored = (side - 1) - ((side - 1) - place.abs()).abs()
        # Reflection needs more lines than it adds; else all of this side's are repeated.
        fits = (torch.full_like(place, needed - before) < 2 * side) & (torch.full_like(place, side) > before)
        inside = torch.where(fits, mirrored, inside)
    found = x.index_select(axis, inside)
    if border == "zero":
        there = ((place >= 0) & (place < side)).to(x.dtype)
        found = found * (there[:, None] if axis == 2 else there)
    return found


def _pads(side: int, taps: int, stride: int, before: int, output: int, border: str) -> tuple[int, int, str]:
    """Pixels to add before and after a side (below 0: to leave out), and torch's word for how."""
    after = (output - 1) * stride + taps - before - side
    if border == "zero":
        return before, after, "constant"
    if border == "reflect" and max(before, after) < side:
        return before, after, "reflect"
    return before, after, "replicate"


def _matrix(x: Tensor, taps: list[float], stride: int, side: int, output: int, pad: tuple[int, int, str]) -> Tensor:
    """``(output, side)``: what the filter does to a row, found by giving it all unit vectors at once."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    before, after, mode = pad
    units = torch.eye(side, dtype=wide, device=x.device)[None]  # channels: the vectors
    units = F.pad(units, (before, max(0, after)), mode)
    weight = torch.tensor(taps, dtype=wide, device=x.device).expand(side, 1, -1)
    return F.conv1d(units, weight, stride=stride, groups=side)[0, :, :output].T
