"""Fuzzy pooling: each window is called small, medium or large as a whole, and averaged by how much its cells are."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from poolbench.checks import number
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.ranks import chosen, greater
from poolbench.pooling.parts.tracing import differentiated
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import average, dot, limit_average


class FuzzyPool2d(Pool):
    r"""Average of each window by membership in the fuzzy set (small, medium or large) to which it belongs most.

    .. math:: y = \frac{\sum_{i \in R} \mu_v(x_i) \, x_i}{\sum_{i \in R} \mu_v(x_i)}, \qquad
        v = \arg\max_{u \in \{1, 2, 3\}} \sum_{i \in R} \mu_u(x_i)

    With activations expected from 0 to ``M``, "small" is 1 up to ``M/6`` and falls to 0 at ``M/2``, "medium" rises
    from ``M/4`` to 1 at ``M/2`` and falls to 0 at ``3M/4``, and "large" rises from ``M/2`` to 1 at ``3M/4``; all are
    straight between, and stay as they are beyond 0 and ``M``. So activations that do not fit into their window are
    taken for noise: one large cell among small ones vanishes. Below ``M/6`` it is the average. Where two sets are
    equal the smaller one is taken; there the output jumps. Training and evaluation are alike.

    Settled by three public ports, since the authors' code is not public: ``M`` = 6, as for a ReLU6, and all bends of
    the sets but one are the same in all; "small" starts to fall at ``M/6`` in two, at ``M/4`` in one. At any value
    some set is above 0, so the division is safe without a constant added to it.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        maximum: ``M`` > 0, the largest activation to expect.
    Use: as a parameter-free alternative built on fuzzy sets, for activations from 0 to 6; isolated peaks vanish, as
        with the median.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Diamantis and Iakovidis, IEEE Transactions on Fuzzy Systems 2021.
    """

    rectangles = bounded = keeps_sign = mirrors = True
    variants = ({"kernel_size": 3, "padding": 1, "maximum": 1.0},)

    def __init__(
        self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0, maximum: float = 6.0
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.maximum = float(self.checked("maximum", maximum, number(least=0, open=True)))
        if self.kernel_size == 1:
            self.odd = self.homogeneous = self.follows_offset = True

    def pool(self, x: Tensor) -> Tensor:
        combine, slope, limits = (partial(f, maximum=self.maximum) for f in (_average, _slope, _limits))
        return over_windows(self, combine, (x,), slope=slope, limits=limits)

    def flops_per_window(self) -> int:
        # A cell's place between the bends; small, medium and large of it (2, 3 and 2 operations with their limits);
        # for each set two sums and a product; two comparisons and a division.
        return area(self.kernel_size) * (2 + 7 + 9) - 6 + 3

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, maximum={self.maximum:g}"


def _places(windows: Tensor, maximum: float) -> Tensor:
    """-1, 0 and 1 are the bends of medium."""
    return (windows * (4 / maximum)).sub_(2)


def _memberships(inside: Tensor | None, windows: Tensor, maximum: float) -> tuple[Tensor, ...]:
    """How small, medium and large each cell is, ``(K, ...)``."""
    place = _places(windows, maximum)
    small, medium, large = (place * -0.75).clamp(0, 1), (1 - place.abs()).clamp(min=0), place.clamp(0, 1)
    # A cell outside of the map is 0 and thus neither medium nor large.
    return small if inside is None else small * inside, medium, large


def _used(small: Tensor, medium: Tensor, large: Tensor) -> Tensor:
    """The membership that counts for each cell."""
    sums = small.sum(0), medium.sum(0), large.sum(0)
    is_medium, is_large = greater(sums[1], sums[0]), greater(sums[2], torch.maximum(sums[0], sums[1]))
    return chosen(is_large, chosen(is_medium, small, medium), large)


def _average(inside: Tensor | None, windows: Tensor, maximum: float) -> Tensor:
    if differentiated():
        used = _used(*_memberships(inside, windows, maximum))
        return dot(used, windows) / used.sum(0)
    places = _places(windows, maximum)
    return average(_used_by_cell(inside, places, *_chosen(inside, places)), windows)[0]


def _limits(inside: Tensor | None, windows: Tensor, maximum: float) -> Tensor:
    used = _used(*_memberships(inside, windows, maximum))
    return limit_average(used, windows)


def _chosen(inside: Tensor | None, places: Tensor) -> tuple[Tensor, Tensor]:
    """What makes the membership that counts of the place ``p`` of a cell: of each window ``m`` and ``s`` in
    ``m (1 - |p|) + s p``, cut to 0 and 1. ``m`` is 1 for medium, ``s`` is -0.75 for small and 1 for large, and either
    is 0 for the others. Where torch need not differentiate it."""
    small = (places * -0.75).clamp_(0, 1)
    if inside is not None:
        small.mul_(inside)
    small, large = small.sum(0), places.clamp(0, 1).sum(0)
    # Of medium a cell is 1 less what it is above the middle or below. Sums of zeros and ones stay whole numbers.
    medium = places.clamp(-1, 0).sum(0).sub_(large).add_(len(places))
    is_large = greater(large, torch.maximum(small, medium))
    others = 1 - is_large
    is_medium = greater(medium, small).mul_(others)
    return is_medium, is_large.sub_(others.sub_(is_medium), alpha=0.75)


def _used_by_cell(
    inside: Tensor | None, places: Tensor, medium: Tensor, slope: Tensor, keep: Tensor | None = None
) -> Iterator[Tensor]:
    """The membership that counts, cell by cell; what it is before its limits goes into ``keep``."""
    for i, place in enumerate(places.unbind(0)):
        free = torch.addcmul(medium, medium, place.abs(), value=-1).addcmul_(place, slope)
        if keep is not None:
            keep[i] = free
        free.clamp_(0, 1)
        yield free if inside is None else free.mul_(inside[i])


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, maximum: float) -> tuple[Tensor]:
    places = _places(windows, maximum)
    medium, slope = _chosen(inside, places)
    slopes = torch.empty_like(windows)
    y, total = average(_used_by_cell(inside, places, medium, slope, slopes), windows)
    # By a cell: (mu + mu' (x - y)) / (sum of mu), and mu' is 0 but on the way from 0 to 1.
    scale = gradient / total
    steep = scale * (4 / maximum)
    start = y.mul_(steep).neg_()
    for cell, place, one in zip(windows.unbind(0), places.unbind(0), slopes.unbind(0), strict=True):
        rise = torch.addcmul(slope, medium, place.sign_(), value=-1)
        rise.mul_(torch.addcmul(start, cell, steep))
        rise = torch.ops.aten.hardtanh_backward(rise, one, 0, 1)
        torch.addcmul(rise, one.clamp_(0, 1), scale, out=one)
    return (slopes,)
