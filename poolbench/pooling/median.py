"""Median of each window: what one outlier, however large, does not move."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, pair
from poolbench.pooling.parts.ranks import comparisons, sum_by_rank, weights_of_count


class MedianPool2d(Pool):
    r"""Median of each window.

    .. math:: y = x_{((n + 1) / 2)} \quad (n \text{ odd}), \qquad
        y = \tfrac{1}{2} \big( x_{(n / 2)} + x_{(n / 2 + 1)} \big) \quad (n \text{ even}),

    with the window's ``n`` cells inside the map in falling order, :math:`x_{(1)} \ge \dots \ge x_{(n)}`. It takes away
    single outliers, and single peaks with them: after a ReLU a window with one active cell gives 0. The gradient goes
    to the middle cells; which of equal cells counts as the middle one depends on their places alone. Training and
    evaluation are alike.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        middle: of an even number of cells: ``"mean"`` of the two middle ones, or ``"lower"``, the smaller of them, as
            ``torch.median`` gives.
    Use: against outliers, on maps before a ReLU or on images; on sparse maps it wipes out isolated peaks.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Tukey, Exploratory Data Analysis, 1977 (running medians); known to image processing as the median filter.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "padding": 1},
        {"middle": "lower"},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    )

    def __init__(
        self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0, middle: str = "mean"
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.middle = self.checked("middle", middle, one_of("mean", "lower"))
        # The lower middle turns into the upper one.
        sides = zip(pair(self.kernel_size), pair(self.stride), strict=True)
        apart = all(window % 2 == 1 and window <= step for window, step in sides)
        self.odd = middle == "mean" or (apart and not self.padding)

    def pool(self, x: Tensor) -> Tensor:
        return sum_by_rank(self, x, partial(_weigh, middle=self.middle))

    def flops_per_window(self) -> int:
        # Comparisons of the sorting network; the mean of two.
        k2 = area(self.kernel_size)
        weights = _weights(k2, k2, self.middle)
        return comparisons(weights) + (2 if 0.5 in weights else 0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, middle={self.middle!r}"


def _weights(n: int, ranks: int, middle: str) -> tuple[float, ...]:
    """The weight of each of ``ranks`` ranks in a window of ``n`` cells."""
    upper, lower = (n - 1) // 2, n // 2
    if middle == "lower" or upper == lower:
        return tuple(float(r == lower) for r in range(ranks))
    return tuple(0.5 if r in (upper, lower) else 0.0 for r in range(ranks))


def _weigh(inside: Tensor | None, windows: Tensor, middle: str) -> Sequence[float] | Tensor:
    return weights_of_count(inside, windows, lambda n: _weights(n, windows.shape[0], middle))
