"""Maximum everywhere, then blur, then every second pixel: max pooling without most of its aliasing."""

import torch.nn.functional as F
from torch import Tensor

from poolbench.pooling.base import Pool, Sides, area, half_before, pair
from poolbench.pooling.blur_average import blur, blur_flops, describe_blur


class BlurMaxPool2d(Pool):
    r"""Max pooling taken apart: the maximum with stride 1, and in place of dropping pixels a binomial filter with the
    stride.

    .. math:: y = \big(a * \max\nolimits_{k \times k,\,1}(x)\big) \downarrow_s

    The maximum itself does not alias; dropping three of four of its values does. A shift of the image by one pixel then
    changes the output less. With ``filter_size`` 1 it is max pooling exactly. The default is odd, so that a map and its
    mirror image are treated alike (the authors' package has 4).

    Args:
        channels: channels ``C`` of the input.
        kernel_size: side of the maximum's window, in pixels; it starts ``(kernel_size - 1) // 2`` outside the map.
        stride: step of the filter in pixels.
        filter_size: taps of the filter, 1 to 7, or ``(rows, columns)`` of them.
        border: how the map of maxima goes on outside: ``"reflect"``, ``"replicate"`` or ``"zero"``. Where it is too
            small to be reflected its outermost pixels are repeated.
    Use: to make a net with max pooling steadier under shifts; the first thing to try for that, at a few times the cost.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Zhang, ICML 2019 (MaxBlurPool).
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = True
    variants = (
        {"filter_size": 4},
        {"kernel_size": 3, "filter_size": 5, "border": "zero"},
        {"filter_size": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "filter_size": (3, 1)},
    )

    def __init__(
        self, channels: int, kernel_size: Sides = 2, stride: Sides = 2, filter_size: Sides = 3, border: str = "reflect"
    ):
        super().__init__(channels, kernel_size, self.sides("stride", stride))
        self.padding = half_before(self.kernel_size)
        describe_blur(self, filter_size, border, pair(self.padding)[1], pair(self.kernel_size)[1])

    def pool(self, x: Tensor) -> Tensor:
        size = self.output_size((x.shape[-2], x.shape[-1]))
        if self.filter_size == 1 and (self.kernel_size, self.stride) == (2, 2):
            return F.max_pool2d(x, 2)
        return blur(F.max_pool2d(x, self.kernel_size, 1, self.padding), self, size)

    def flops_per_window(self) -> int:
        # At filter size 1 only the maxima that are kept.
        rows, columns = (s if f > 1 else 1 for s, f in zip(pair(self.stride), pair(self.filter_size), strict=True))
        return rows * columns * (area(self.kernel_size) - 1) + blur_flops(self)

    def extra_repr(self) -> str:
        text = f"filter_size={self.filter_size}, border={self.border!r}"
        return f"kernel_size={self.kernel_size}, stride={self.stride}, {text}"
