"""Softmax-weighted average whose sharpness each channel reads off the whole map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.checks import one_of, or_null, whole
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.guide import Guide
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot, exponentials

ACTIVATIONS = {"sigmoid": torch.sigmoid, "softplus": F.softplus}


class GlobalGuidedPool2d(Pool):
    r"""Average of each window weighted by the softmax of its activations times a factor for each image and channel.

    .. math:: y = \sum_{i \in R} \frac{e^{\lambda x_i}}{\sum_{j \in R} e^{\lambda x_j}} \, x_i, \quad
        \lambda = \mathrm{sigmoid}(\mathrm{norm}(W_2\, \mathrm{relu}(\mathrm{norm}(W_1 \bar x))))

    Also known as GFGP with maximum-entropy pooling. With :math:`\lambda = 0` it is the average, with 1 ``soft``, and it
    tends to the maximum as :math:`\lambda` grows, which only ``activation="softplus"`` lets it do. The factor is read
    off the means :math:`\bar x` of all channels; all windows of a channel share it.

    Train and eval differ by the normalisations only. A batch of a single image has no statistics of its own for them
    and is treated as in evaluation. The biases that the author's code has before normalisations are left out.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        activation: what makes the factor positive: ``"sigmoid"``, below 1, as the author's code does by default, or
            ``"softplus"``.
        hidden: width of the hidden layer; null is half of the channels.
    Use: as ``soft`` where one temperature for all images and channels is not enough; ``C**2`` weights, but next to no
        arithmetic.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Kobayashi, ICCV 2019, as in the author's public code.
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    bounded = keeps_sign = mirrors = True
    variants = ({"activation": "softplus", "kernel_size": 3, "padding": 1}, {"hidden": 3})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        activation: str = "sigmoid",
        hidden: int | None = None,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.activation = self.checked("activation", activation, one_of(*ACTIVATIONS))
        self.checked("hidden", hidden, or_null(whole(1)))
        self.guide = Guide(channels, max(1, channels // 2) if hidden is None else hidden, outputs=1)

    def pool(self, x: Tensor) -> Tensor:
        (level,) = self.guide(x)
        return over_windows(self, _average, (x,), (ACTIVATIONS[self.activation](level),), _slopes)

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        # Of a window as soft, a product in place of the division; the factor of a channel: three operations.
        return self.channels * (height * width * (7 * area(self.kernel_size) - 2) + 3) + self.guide.flops(size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, activation={self.activation!r}"


def _average(inside: Tensor | None, windows: Tensor, factor: Tensor) -> Tensor:
    powers = exponentials(inside, windows * factor)
    return dot(powers, windows) / powers.sum(0)


def _slopes(gradient: Tensor, inside: Tensor | None, windows: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    powers = exponentials(inside, windows * factor)
    total = powers.sum(0)
    above = windows - dot(powers, windows) / total
    weights = powers.mul_(gradient / total)
    pull = weights * above
    # The weighted mean of the differences is 0, so that of their squares is the slope by the factor.
    by_factor = dot(pull, above)
    return weights.add_(pull.mul_(factor)), by_factor
