"""Maximum of each window: the strongest activation stands for its neighbourhood."""

from torch import Tensor

from poolbench.pooling.base import Pool, Sides, area, max_windows


class MaxPool2d(Pool):
    r"""Maximum of each window; the gradient goes to one cell, the first maximum.

    .. math:: y = \max_{i \in R} x_i

    The only pool that commutes with a monotone activation: ``relu(max(x)) = max(relu(x))``.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
    Use: the usual start, and the baseline of every comparison here: cheap, keeps the strongest response of each window,
        at its best where activations are sparse.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError for sizes that are not allowed or a map that is too small.
    Source: Riesenhuber and Poggio, Nature Neuroscience 1999.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 5, "stride": 3},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    )

    def __init__(self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0):
        super().__init__(channels, kernel_size, stride, padding)

    def pool(self, x: Tensor) -> Tensor:
        return max_windows(x, self)

    def flops_per_window(self) -> int:
        return area(self.kernel_size) - 1  # comparisons
