"""A strided convolution without aliasing: it works at full resolution and is blurred after, or its input before."""

from torch import Tensor, nn

from poolbench.checks import TRUTH, one_of
from poolbench.pooling.base import Pool, Sides, area, cropped, pair
from poolbench.pooling.blur_average import blur, blur_flops, describe_blur


class BlurConv2d(Pool):
    r"""The counterpart of ``strided_conv``: a full ``C -> C`` convolution with stride 1, normalisation and ReLU, then a
    binomial filter with the stride.

    .. math:: y = \big(a * \mathrm{relu}(\mathrm{norm}(W * x))\big) \downarrow_s

    The filter comes after the ReLU: right after the convolution it would commute with it and only blur the input. The
    convolution works on all pixels, ``stride**2`` times as many as with a stride: ``kernel_size**2 * C * stride**2``
    multiply-adds a value.

    With ``order="before"`` the map is blurred first, at its full size, and the convolution has the stride:

    .. math:: y = \mathrm{relu}(\mathrm{norm}(W *_s (a * x)))

    That takes the arithmetic of ``strided_conv`` and of a blur, about half of the time of the other order and 1.5 to 2
    times that of ``strided_conv``; but what the convolution itself and the ReLU make of high frequencies is not
    filtered. Composer's BlurPool does so unless told otherwise (``blur_first``; with ``filter_size=3, border="zero"``).

    Args:
        channels: channels ``C`` of the input and the output.
        kernel_size: side of the convolution's filter, in pixels, odd; the border is padded with zeros.
        stride: step of the blur, in pixels.
        filter_size: taps of the blur, 1 to 7, or ``(rows, columns)`` of them.
        border: how the map goes on outside for the blur: ``"reflect"``, ``"replicate"`` or ``"zero"``. Where it is too
            small to be reflected its outermost pixels are repeated.
        norm: batch normalisation after the convolution, which then has no bias.
        activation: ReLU after it.
        order: where the blur stands: ``"after"`` the ReLU, or ``"before"`` the convolution.
    Use: in place of strided convolutions when steadiness under shifts matters more than arithmetic: it costs four times
        as much; with ``order="before"`` as a cheap halfway house.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Zhang, ICML 2019 (ConvBlurPool); the other order as in MosaicML's Composer.
    """

    rectangles = mixes_channels = True
    treats_channels_alike = keeps_constants = False
    variants = (
        {"norm": False, "activation": False, "filter_size": 3, "border": "replicate"},
        {"order": "before"},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 3,
        stride: Sides = 2,
        filter_size: Sides = 4,
        border: str = "reflect",
        norm: bool = True,
        activation: bool = True,
        order: str = "after",
    ):
        super().__init__(channels, kernel_size, self.sides("stride", stride))
        if any(side % 2 == 0 for side in pair(self.kernel_size)):
            raise ValueError(
                f"{self._name()}: kernel_size must be odd, so that the map keeps its size, got {kernel_size!r}"
            )
        describe_blur(self, filter_size, border, 0, 1)
        self.checked("norm", norm, TRUTH)
        self.checked("activation", activation, TRUTH)
        self.order = self.checked("order", order, one_of("after", "before"))
        border = tuple(side // 2 for side in pair(self.kernel_size))
        step = self.stride if order == "before" else 1
        self.conv = nn.Conv2d(channels, channels, self.kernel_size, step, border, bias=not norm)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()
        if order == "before":
            self.mirrors = pair(self.filter_size)[1] % 2 == 1 == pair(self.stride)[1]
        self.mirrors &= pair(self.kernel_size)[1] == 1
        self.bounded = False
        self.homogeneous, self.keeps_sign, self.odd = norm, activation, norm and not activation

    def pool(self, x: Tensor) -> Tensor:
        size = self.output_size((x.shape[-2], x.shape[-1]))
        x = cropped(x, self)
        if self.order == "before" and area(self.filter_size) > 1:
            x = blur(x, self, (x.shape[-2], x.shape[-1]), stride=1)
        y = self.activation(self.norm(self.conv(x)))
        return y if self.order == "before" else blur(y, self, size)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(H', W')`` for a map of ``size`` ``(H, W)``. Raises: ValueError for a map that it cannot serve."""
        rows, columns = pair(self.stride)
        if size[0] < rows or size[1] < columns:
            return super().output_size(size)  # says why not
        return size[0] // rows, size[1] // columns  # zeros around: no map is smaller than the filter

    def flops_per_window(self) -> int:
        # Multiply-adds, a bias or normalisation (folded to one multiply-add), a comparison.
        norm = 2 if isinstance(self.norm, nn.BatchNorm2d) else 1
        pixel = 2 * area(self.kernel_size) * self.channels + norm + isinstance(self.activation, nn.ReLU)
        if self.order == "before":
            return pixel + area(self.stride) * blur_flops(self, stride=1)  # of the filter on every pixel of the input
        return area(self.stride) * pixel + blur_flops(self)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, filter_size={self.filter_size}, border={self.border!r}, order={self.order!r}"
