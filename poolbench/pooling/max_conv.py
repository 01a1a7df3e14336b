"""YOLOv7's downsampler: half of the output is a maximum, half a strided convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pooling.base import Pool, cropped, max_windows


class MaxConv2d(Pool):
    r"""Two branches that both see all channels: the maximum of 2x2 windows and a 1x1 convolution; a 1x1 convolution
    and a 3x3 one with stride 2. Normalisation and SiLU after each convolution.

    .. math:: y = [\,f_3 *_2 (f_1 x);\; g_1 \max{}_{2 \times 2}(x)\,], \quad
        f x = \mathrm{silu}(\mathrm{norm}(W x))

    Each gives half of the channels, as the reduction blocks of Inception join a strided convolution with a pool (there
    the pool keeps all channels, and the output has more than the input). ``adown`` splits the input instead, with half
    of the weights. ``C / 2 + 2 C + 9 C / 4`` multiply-adds for a pair of values, one of each half.

    Args:
        channels: channels ``C`` of the input and the output, at least 2; of an odd number the convolution gives the
            smaller half.
    Use: where a net should choose for itself between maximum and strided convolution, at a bit more than half of the
        latter's price.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out.
    Raises: ValueError for a number of channels that is not allowed or a map that is too small.
    Source: Wang, Bochkovskiy and Liao, CVPR 2023 (YOLOv7, its MP block), as in its public code; the idea is that of
        Szegedy et al., CVPR 2016.
    """

    why_square = "its windows are those of its authors, 2x2 and 3x3"
    mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False

    def __init__(self, channels: int):
        super().__init__(channels, kernel_size=2, stride=2)
        if channels < 2:
            raise ValueError(f"{self._name()}: channels must be at least 2, one for each branch, got {channels}")
        self.halves = (channels // 2, channels - channels // 2)
        first, second = self.halves
        self.conv1, self.norm1 = nn.Conv2d(channels, first, 1, bias=False), nn.BatchNorm2d(first)
        self.conv2, self.norm2 = nn.Conv2d(first, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first)
        self.conv3, self.norm3 = nn.Conv2d(channels, second, 1, bias=False), nn.BatchNorm2d(second)

    def pool(self, x: Tensor) -> Tensor:
        x = cropped(x, self)
        first = F.silu(self.norm1(self.conv1(x)))
        first = F.silu(self.norm2(self.conv2(first)))
        second = F.silu(self.norm3(self.conv3(max_windows(x, self))))
        return torch.cat([first, second], dim=1)

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        first, second = self.halves
        # Each convolution's multiply-adds, a normalisation folded to one, SiLU: negation, exponential, addition,
        # division. The first works on the four pixels of a window.
        one = 4 * first * (2 * self.channels + 6) + first * (18 * first + 6)
        other = 3 * self.channels + second * (2 * self.channels + 6)
        return height * width * (one + other)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
