"""Windows wider than their step: each activation is seen by several of them."""

from torch import Tensor

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, max_windows, pair


class OverlappingPool2d(Pool):
    r"""Maximum (or average) of windows that overlap: 3x3 every 2 pixels.

    .. math:: y_{ij} = \max_{0 \le p, q < k} x_{si + p,\, sj + q}, \qquad k > s

    The last window is clipped at the border (torch's ``ceil_mode``), so a map of 32 gives 16, 8, 4 like its 2x2
    control; without that it would give 15, 7, 3 and the comparison would be one of map sizes too.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`;
            the window must be wider than the step.
        mode: ``"max"`` as in the paper, or ``"average"``.
    Use: in place of max pooling, where some more time and no weights are what may be spent: less hangs on where the
        windows' grid lies. Compare it at the same map size, as the default does.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError for an unknown mode, windows that do not overlap, or a map that is too small.
    Source: Krizhevsky, Sutskever and Hinton, NIPS 2012, section 3.4.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = ({"mode": "average"}, {"padding": 1})

    def __init__(
        self, channels: int, kernel_size: Sides = 3, stride: Sides | None = 2, padding: Sides = 0, mode: str = "max"
    ):
        super().__init__(channels, kernel_size, stride, padding)
        sides = list(zip(pair(self.kernel_size), pair(self.stride), strict=True))
        if any(window < step for window, step in sides) or all(window == step for window, step in sides):
            raise ValueError(
                f"{self._name()}: kernel_size must be above stride {self.stride} for windows to overlap, "
                f"got {self.kernel_size}"
            )
        self.mode = self.checked("mode", mode, one_of("max", "average"))
        self.odd = mode == "average"

    def pool(self, x: Tensor) -> Tensor:
        return max_windows(x, self) if self.mode == "max" else average_windows(x, self)

    def flops_per_window(self) -> int:
        return area(self.kernel_size) - (self.mode == "max")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
