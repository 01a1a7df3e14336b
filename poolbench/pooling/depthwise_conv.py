"""YOLOv10's downsampler: channels are mixed at full size, then each shrinks by a filter of its own."""

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import TRUTH
from poolbench.pooling.base import Pool, Sides, area, cropped, half_before, pair


class DepthwiseConv2d(Pool):
    r"""A 1x1 convolution ``C -> C`` with normalisation and SiLU on every pixel, then a depthwise 3x3 convolution with
    the stride and normalisation, no activation.

    .. math:: y = \mathrm{norm}(w *_s \mathrm{silu}(\mathrm{norm}(W x)))

    It parts what a strided convolution does at once: about a ninth of its weights, and four ninths of its
    multiplications, since the 1x1 convolution works on all pixels, ``stride**2 * C`` multiply-adds a value. The border
    of the depthwise convolution is padded with zeros. The authors' code (SCDown) has the normalisation and the SiLU
    after the first convolution that the paper's figure leaves out.

    Args:
        channels: channels ``C`` of the input and the output.
        kernel_size: sides of the depthwise filter in pixels, odd.
        stride: its steps in pixels.
        activation: SiLU between the two; without it the operator is linear but for its normalisations.
    Use: as a cheap control for pools that learn: weights of little more than a 1x1 convolution.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; an odd last row and column is left out.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Wang et al., NeurIPS 2024 (YOLOv10, spatial-channel decoupled downsampling), as in its public code.
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    variants = ({"activation": False}, {"kernel_size": 5, "stride": 3})

    def __init__(self, channels: int, kernel_size: Sides = 3, stride: Sides | None = 2, activation: bool = True):
        super().__init__(channels, kernel_size, stride)
        if any(side % 2 == 0 for side in pair(self.kernel_size)):
            raise ValueError(f"{self._name()}: kernel_size must be odd, so that it has a middle, got {kernel_size!r}")
        self.activation = self.checked("activation", activation, TRUTH)
        self.padding = half_before(self.kernel_size)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, self.kernel_size, self.stride, self.padding, groups=channels, bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels)
        self.homogeneous = self.odd = not activation

    def pool(self, x: Tensor) -> Tensor:
        z = self.norm1(self.conv1(cropped(x, self)))
        return self.norm2(self.conv2(F.silu(z) if self.activation else z))

    def flops_per_window(self) -> int:
        # On every pixel: multiply-adds, a normalisation folded to one, SiLU (negation, exponential, addition,
        # division). Then the filter and a normalisation.
        pixel = 2 * self.channels + 2 + (4 if self.activation else 0)
        return area(self.stride) * pixel + 2 * area(self.kernel_size) + 2

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, activation={self.activation}"
