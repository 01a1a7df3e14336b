"""Rank-based pooling: cells weigh by their place in the order of the window, not by their values."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from poolbench.checks import number, one_of, whole
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.ranks import comparisons, greater, sum_by_rank, weights_of_count
from poolbench.pooling.stochastic import uniform


class RankPool2d(Pool):
    r"""Sum of each window's cells weighted by their ranks: the largest, the second, and so on.

    .. math:: y = \frac{1}{t} \sum_{r \le t} x_{(r)} \ \text{(average)}, \qquad
        y = \sum_{r \le n} a (1 - a)^{r - 1} x_{(r)} \ \text{(weighted)}

    with :math:`x_{(r)}` the ``r``-th largest of ``n`` cells.

    ``"average"`` lies between maximum (``t`` = 1) and average (``t`` = n) and leaves out the cells near zero;
    ``"weighted"`` falls off from the largest cell. Unlike with a softmax, only the order counts and no gradient is
    negative. ``"stochastic"`` draws one cell of each window, as likely as its weight.

    Train and eval: alike but for ``"stochastic"``, which in evaluation gives what ``"weighted"`` gives.

    Settled by the author's code: the weights are not divided by their sum :math:`1 - (1 - a)^n` (0.94 for 2x2 and
    ``a`` = 1/2), so that a constant map comes out smaller by that; and a window with fewer than ``t`` cells in the
    map is averaged over those. There a draw that exceeds the sum leaves the output unwritten; here it is made among
    the cells, with the weights divided by their sum. Which of equal cells has the better rank (there the earlier)
    depends on their places in the window alone, and matters to the gradient only.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        mode: ``"average"`` (the paper's RAP), ``"weighted"`` (RWP) or ``"stochastic"`` (RSP).
        t: number of largest cells that ``"average"`` takes, from 1 to the window's cells; None for half of them,
            rounded up, near the median as the author advises. The code's own default is 5, of 3x3.
        a: weight of the largest cell for ``"weighted"`` and ``"stochastic"``, between 0 and 1.
    Use: for a mean of the strongest few of a window, less noisy than the maximum and less diluted than the average; the
        stochastic mode regularises.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Shi, Ye and Wu, Neural Networks 2016.
    """

    rectangles = homogeneous = keeps_sign = mirrors = True
    variants = (
        {"mode": "average", "t": 5, "kernel_size": 3, "padding": 1},
        {"mode": "weighted"},
        {"mode": "stochastic"},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        mode: str = "average",
        t: int | None = None,
        a: float = 0.5,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.mode = self.checked("mode", mode, one_of("average", "weighted", "stochastic"))
        cells = area(self.kernel_size)
        self.t = (cells + 1) // 2 if t is None else self.checked("t", t, whole(1))
        if self.t > cells:
            raise ValueError(f"{self._name()}: t must be at most {cells}, the cells of a window, got {t!r}")
        self.a = float(self.checked("a", a, number(least=0, most=1, open=True)))
        average = mode == "average"
        self.bounded = self.keeps_constants = self.follows_offset = average
        self.odd = average and self.t == cells
        self.random = mode == "stochastic" and cells > 1

    def pool(self, x: Tensor) -> Tensor:
        if self.mode == "average":
            return sum_by_rank(self, x, partial(_average, t=self.t))
        if self.mode == "weighted" or not self.training:
            return sum_by_rank(self, x, partial(_weighted, a=self.a))
        return sum_by_rank(self, x, partial(_drawn, a=self.a), (uniform(self, x),))

    def flops_per_window(self) -> int:
        k2 = area(self.kernel_size)
        if self.mode == "average":
            sort = comparisons([float(r < self.t) for r in range(k2)])
            return sort + self.t  # and additions, a division
        return comparisons(list(range(k2))) + 2 * k2 - 1  # of evaluation: and products, additions

    def extra_repr(self) -> str:
        option = f"t={self.t}" if self.mode == "average" else f"a={self.a}"
        return f"{super().extra_repr()}, mode={self.mode!r}, {option}"


def _average(inside: Tensor | None, windows: Tensor, t: int) -> Sequence[float] | Tensor:
    def weights(n: int) -> list[float]:
        return [1 / min(t, n) if r < min(t, n) else 0.0 for r in range(windows.shape[0])]

    return weights_of_count(inside, windows, weights)


def _weighted(inside: Tensor | None, windows: Tensor, a: float) -> Sequence[float] | Tensor:
    def weights(n: int) -> list[float]:
        return [a * (1 - a) ** r if r < n else 0.0 for r in range(windows.shape[0])]

    return weights_of_count(inside, windows, weights)


def _drawn(inside: Tensor | None, windows: Tensor, u: Tensor, a: float) -> Tensor:
    """1 for the rank that ``u`` picks, 0 for the others."""

    def likely(n: int) -> list[float]:
        """How likely a rank up to each one is; the last ranks get infinity, since rounding must not skip them."""
        all = -math.expm1(n * math.log1p(-a))
        return [(1 - (1 - a) ** (r + 1)) / all if r < n - 1 else math.inf for r in range(windows.shape[0])]

    bounds = weights_of_count(inside, windows, likely)
    if not isinstance(bounds, Tensor):
        bounds = torch.tensor(bounds, dtype=windows.dtype, device=windows.device).view(-1, *[1] * u.dim())
    worse = greater(u, bounds)  # is the rank further down?
    return torch.cat([1 - worse[:1], worse[:-1] - worse[1:]])
