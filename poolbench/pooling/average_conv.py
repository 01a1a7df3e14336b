"""An average and a convolution: the shortcut of ResNet-D, or YOLOv9's plainer downsampler."""

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, average_windows


class AverageConv2d(Pool):
    r"""The average of 2x2 windows, then a 1x1 convolution ``C -> C`` and normalisation; or, as ``"aconv"``, an average
    at every pixel, then a 3x3 convolution with stride 2, normalisation and SiLU.

    .. math:: y = \mathrm{norm}(W_1 \bar x), \qquad y = \mathrm{silu}(\mathrm{norm}(W_3 *_2 \bar x))

    The first, with :math:`\bar x` the map of averages with stride 2, replaces the 1x1 convolution with stride 2 of a
    residual net's shortcut, which reads one pixel of four. The second averages with stride 1, so that the convolution
    skips nothing that was not blurred. It pads the averages with zeros.

    Args:
        channels: channels ``C`` of the input and the output.
        kind: ``"shortcut"``, ResNet-D's, ``C`` multiply-adds a value; or ``"aconv"``, YOLOv9's, ``9 C``.
    Use: the first as the cheapest pool that mixes channels, the second as a strided convolution with some
        antialiasing.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out by the first, and used by
        the second, since the average leaves one less.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: He et al., CVPR 2019 (ResNet-D); Wang, Yeh and Liao, ECCV 2024 (YOLOv9, AConv), as in its public code.
    """

    why_square = "its windows are those of its authors, 2x2 and 3x3"
    mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    variants = ({"kind": "aconv"},)

    def __init__(self, channels: int, kind: str = "shortcut"):
        super().__init__(channels, kernel_size=2, stride=2)
        self.kind = self.checked("kind", kind, one_of("shortcut", "aconv"))
        shortcut = kind == "shortcut"
        self.conv = (
            nn.Conv2d(channels, channels, 1, bias=False)
            if shortcut
            else nn.Conv2d(channels, channels, 3, 2, 1, bias=False)
        )
        self.norm = nn.BatchNorm2d(channels)
        self.homogeneous = self.odd = self.mirrors = shortcut

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))  # says what is wrong with the size
        if self.kind == "shortcut":
            return self.norm(self.conv(average_windows(x, self)))
        return F.silu(self.norm(self.conv(F.avg_pool2d(x, 2, 1))))

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        values = self.channels * height * width
        # A normalisation is folded to one multiply-add.
        if self.kind == "shortcut":
            return values * (4 + 2 * self.channels + 2)
        # The average on every pixel but the last ones; SiLU: negation, exponential, addition, division.
        return 4 * (size[0] - 1) * (size[1] - 1) * self.channels + values * (18 * self.channels + 6)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, kind={self.kind!r}"
