"""Fuzzy pooling: each window is called small, medium or large as a whole, and averaged by how much its cells are."""

from functools import partial

import torch
from torch import Tensor

from poolbench.checks import number
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.ranks import chosen, greater
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot, limit_average


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


def _memberships(inside: Tensor | None, windows: Tensor, maximum: float) -> tuple[Tensor, ...]:
    """How small, medium and large each cell is, ``(K, ...)``, and its place: -1, 0 and 1 are the bends of medium."""
    place = windows * (4 / maximum) - 2
    small, medium, large = (place * -0.75).clamp(0, 1), (1 - place.abs()).clamp(min=0), place.clamp(0, 1)
    # A cell outside of the map is 0 and thus neither medium nor large.
    return small if inside is None else small * inside, medium, large, place


def _used(small: Tensor, medium: Tensor, large: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The membership that counts for each cell, 1 where that is in medium unless in large, and where in large."""
    sums = small.sum(0), medium.sum(0), large.sum(0)
    is_medium, is_large = greater(sums[1], sums[0]), greater(sums[2], torch.maximum(sums[0], sums[1]))
    return chosen(is_large, chosen(is_medium, small, medium), large), is_medium, is_large


def _average(inside: Tensor | None, windows: Tensor, maximum: float) -> Tensor:
    *sets, _ = _memberships(inside, windows, maximum)
    used, _, _ = _used(*sets)
    return dot(used, windows) / used.sum(0)


def _limits(inside: Tensor | None, windows: Tensor, maximum: float) -> Tensor:
    *sets, _ = _memberships(inside, windows, maximum)
    used, _, _ = _used(*sets)
    return limit_average(used, windows)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, maximum: float) -> tuple[Tensor]:
    *sets, place = _memberships(inside, windows, maximum)
    used, is_medium, is_large = _used(*sets)
    total = used.sum(0)
    above = windows - dot(used, windows) / total
    # By a cell: (mu + mu' (x - y)) / (sum of mu), and mu' is 0 but on the way from 0 to 1.
    rise = torch.lerp(
        torch.lerp(torch.full_like(total, -0.75), place.sign().neg_(), is_medium), torch.ones_like(total), is_large
    )
    rising = (used - 0.5).abs_().sub_(0.5).sign_().neg_()  # 1 between 0 and 1, else 0
    return (used.addcmul_(rise.mul_(rising), above, value=4 / maximum).mul_(gradient / total),)
