"""Average of each window: every activation counts alike."""

from torch import Tensor

from poolbench.pooling.base import Pool, Sides, area, average_windows


class AveragePool2d(Pool):
    r"""Mean of each window; the gradient is shared evenly.

    .. math:: y = \frac{1}{|R|} \sum_{i \in R} x_i

    A window at the border is divided by its cells inside the map, so a constant map stays constant everywhere.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
    Use: where all of a window counts alike, as for dense or noisy maps; linear, so it can be moved past other linear
        layers, and it aliases less than the maximum.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError for sizes that are not allowed or a map that is too small.
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998 (there with a trained scale and bias).
    """

    rectangles = bounded = odd = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = ({"kernel_size": 3, "padding": 1}, {"kernel_size": 5})

    def __init__(self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0):
        super().__init__(channels, kernel_size, stride, padding)

    def pool(self, x: Tensor) -> Tensor:
        return average_windows(x, self)

    def flops_per_window(self) -> int:
        return area(self.kernel_size)  # additions and one division
