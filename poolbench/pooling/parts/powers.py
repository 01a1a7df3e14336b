"""Means and sums of powers over the cells of windows, safe from overflow, with their slopes: what ``lp`` and
``power_mean`` are made of. Formulas for :func:`poolbench.pooling.parts.windows.over_windows`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poolbench.pooling.parts.tracing import differentiated


@dataclass(frozen=True)
class PowerMean:
    r"""``(mean of z**p) ** (1/p)`` of each window, :math:`z = |x|`, or :math:`z = \max(x, \epsilon)` with ``least``.

    Args:
        p: the exponent, not 0 and finite, above 0 without ``least``; None: it comes as a tensor, one for all or one a
            channel, of numbers of at least 1.
        mean: divide by the number of cells; else the sum.
        least: None takes absolute values; a number above 0 replaces what is below it.
    """

    p: float | None
    mean: bool = True
    least: float | None = None

    def combine(self, inside: Tensor | None, windows: Tensor, p: Tensor | None = None) -> Tensor:
        """The formula, differentiable by torch."""
        peak, _, _, _, total = self._parts(inside, windows, p)
        return peak * (total.log() / self._order(p)).exp()

    def limits(self, inside: Tensor | None, windows: Tensor, p: Tensor | None = None) -> Tensor:
        """:meth:`combine` of windows in which cells may be infinite."""
        r = windows.abs() if self.least is None else windows.clamp(min=self.least)
        endless = r == torch.inf
        if self.p is None or self.p > 0:
            endless = endless.any(0)  # the others vanish beside it
            return self.combine(inside, windows.masked_fill(endless, 1), p).masked_fill(endless, torch.inf)
        # An infinite cell counts as one whose power is 0, which the formula has right unless all are such.
        endless = (endless if inside is None else endless | ~inside).all(0)
        return self.combine(inside, windows.masked_fill(endless, 1), p).masked_fill(endless, torch.inf)

    def slope(
        self, gradient: Tensor, inside: Tensor | None, windows: Tensor, p: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients for the windows and for ``p``."""
        peak, r, logs, powers, total = self._parts(inside, windows, p)
        order, count = self._order(p), cells_of(inside, windows) if self.mean else 1
        level = total.log().div_(order)
        root = level.exp()
        whole = total * count  # the sum of the powers
        # With y the mean of r: dy/dr = r^(p - 1) y / sum r^p, dy/dp = y (sum r^p ln r / sum r^p - ln y) / p
        results = []
        if p is not None:
            inner = sum_cells(logs.mul_(powers))
            results.append(inner.div_(whole).sub_(level).mul_(1 / p).mul_(peak * root).mul_(gradient))
        along = root.div_(whole).mul_(gradient)
        found, spare = (r, powers) if self.p == 2 else (r.mul_(r), powers) if self.p == 3 else (powers.div_(r), r)
        found.mul_(along)
        if self.least is None:
            found.mul_(torch.sign(windows, out=spare))  # memory at hand is in the cache, new memory is not
        else:
            found = only_above(self.least, windows, found)
        return (found, *results)

    def _parts(
        self, inside: Tensor | None, windows: Tensor, p: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """The window's peak; its cells divided by it, their logarithms where ``p`` is a tensor, their powers; the mean
        (or sum) of these."""
        rising = self.p is None or self.p > 0
        r = windows.abs() if self.least is None else windows.clamp(min=self.least)
        if inside is not None and not rising:
            r = r.masked_fill(~inside, torch.inf)
        # Divided by the window's own peak no power overflows, and no window vanishes beside a larger neighbour. The
        # mean is homogeneous, so that factor may be held constant: it cancels from the value and all derivatives.
        peak = (r.amax(0) if rising else r.amin(0)).detach()
        tiny = torch.finfo(r.dtype).tiny
        r = r.mul_(1 / peak.clamp(min=tiny))
        if self.p in (2, 3, -0.5, -1, -2):  # torch has these ready, others take it longer than two steps of ours
            logs, powers = None, r**self.p
        else:
            logs = r.add_(tiny).log()  # of 0 too
            powers = (logs * p if p is not None else logs.mul_(self.p)).exp_()
        if inside is not None and rising and self.least is not None:
            powers = powers.masked_fill(~inside, 0)
        total = sum_cells(powers)
        if self.mean:
            total = total / cells_of(inside, windows)
        # Its least is 1 / n where there is a peak; in a window of zeros, where the root has no slope, this is one.
        return peak, r, logs, powers, total.clamp(min=0.5 / len(windows))

    def _order(self, p: Tensor | None) -> Tensor | float:
        return self.p if p is None else p


def root_mean_square(inside: Tensor | None, windows: Tensor, mean: bool = True) -> Tensor:
    """L2: as :class:`PowerMean` with ``p = 2``, without its care for numbers whose squares overflow."""
    total = sum_cells(windows * windows)
    if mean:
        total = total / cells_of(inside, windows)
    if not differentiated():
        return total.sqrt()
    # The root of 0 has an infinite slope: a window of zeros has no direction in which to grow.
    empty = total == 0
    return torch.where(empty, 1, total).sqrt().masked_fill(empty, 0)


def root_mean_square_slope(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, mean: bool = True
) -> tuple[Tensor]:
    """Gradient for the windows of :func:`root_mean_square`."""
    total = sum_cells(windows * windows)
    # dy/dx = x / (n y), and n y = sqrt(n * sum of squares)
    tiny = torch.finfo(total.dtype).tiny
    count = cells_of(inside, windows) if mean else 1
    return (windows * total.mul_(count).clamp_(min=tiny).rsqrt_().mul_(gradient),)


def cells_of(inside: Tensor | None, windows: Tensor) -> Tensor | int:
    """How many cells of each window lie in the map."""
    return len(windows) if inside is None else inside.sum(0)


def sum_cells(windows: Tensor) -> Tensor:
    """``windows.sum(0)``, in a third of the time."""
    first, *others = windows.unbind(0)
    return sum(others, first)


def only_above(least: float, x: Tensor, values: Tensor) -> Tensor:
    """``values`` where ``x > least``, else 0. For slopes: in one pass, where a product with a mask takes ten."""
    return torch.ops.aten.threshold_backward(values, x, least)
