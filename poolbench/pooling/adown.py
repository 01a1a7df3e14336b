"""YOLOv9's downsampler: half of the channels through a strided convolution, half through a maximum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pooling.base import Pool


class ADown2d(Pool):
    r"""A 2x2 average with stride 1; then half of the channels take a 3x3 convolution with stride 2, the others a 3x3
    maximum with stride 2 and a 1x1 convolution; normalisation and SiLU in both.

    .. math:: y = [\,\mathrm{silu}(\mathrm{norm}(W_3 *_2 \bar x_1));\;
        \mathrm{silu}(\mathrm{norm}(W_1 \max{}_{3 \times 3, 2}(\bar x_2)))\,]

    A hybrid of average, maximum and strided convolution at about a quarter of the weights of the latter. The
    convolution pads with zeros, the maximum ignores what is outside. ``9 C / 4 + C / 4`` multiply-adds a value on
    average.

    Args:
        channels: channels ``C`` of the input and the output, at least 2; of an odd number the convolution takes the
            smaller half.
    Use: as a cheap hybrid of average, maximum and strided convolution in detection nets.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is used, since the average leaves one
        less.
    Raises: ValueError for a number of channels that is not allowed or a map that is too small.
    Source: Wang, Yeh and Liao, ECCV 2024 (YOLOv9), as in its public code.
    """

    why_square = "its layers are made for steps of 2x2"
    mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False

    def __init__(self, channels: int):
        super().__init__(channels, kernel_size=2, stride=2)
        if channels < 2:
            raise ValueError(f"{self._name()}: channels must be at least 2, one for each half, got {channels}")
        self.halves = (channels // 2, channels - channels // 2)
        first, second = self.halves
        self.conv1 = nn.Conv2d(first, first, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(second, second, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(first), nn.BatchNorm2d(second)

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))  # says what is wrong with the size
        first, second = F.avg_pool2d(x, 2, 1).split(self.halves, dim=1)
        y1 = self.norm1(self.conv1(first))
        y2 = self.norm2(self.conv2(F.max_pool2d(second, 3, 2, 1)))
        # Not once for both: torch's normalisation is slow in the backward pass for a gradient that is cut from another.
        return torch.cat([F.silu(y1), F.silu(y2)], dim=1)

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        first, second = self.halves
        average = 4 * (size[0] - 1) * (size[1] - 1) * self.channels
        # Normalisation folded to one multiply-add; SiLU: negation, exponential, addition, division.
        convolutions = first * (18 * first) + second * (8 + 2 * second) + 6 * self.channels
        return average + height * width * convolutions

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
