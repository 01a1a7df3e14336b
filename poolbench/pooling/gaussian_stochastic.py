"""The window's mean and a drawn share of its deviation, by how much the whole map decides."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.checks import number, one_of, or_null, whole
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.guide import Guide
from poolbench.pooling.parts.powers import cells_of, sum_cells
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot


class GaussianStochasticPool2d(Pool):
    r"""Mean ``m`` of each window and above it a multiple of its standard deviation ``s``; in training the multiple is
    drawn.

    .. math:: y = m + \mathrm{softplus}(\mu + \sigma \epsilon) \, s, \quad s^2 = \max(\mathrm{var}, \mathtt{eps}),
        \quad \epsilon \sim N(0, 1)

    .. math:: \mu = \mathrm{norm}(W_\mu z), \quad \sigma = \mathrm{sigmoid}(\mathrm{norm}(W_\sigma z)), \quad
        z = \mathrm{relu}(\mathrm{norm}(W \bar x))

    Also known as iSP Gaussian pooling, for inverse softplus. :math:`\mu` and :math:`\sigma` are numbers for each image
    and channel, read off the means :math:`\bar x` of all channels. Of a window of two values the maximum is
    :math:`m + s`, so the multiple reaches from the average (0) over the maximum to beyond it: the output is not bound
    to the range of the window. A constant window comes out a little higher, by ``sqrt(eps)`` times the multiple.

    Train and eval: evaluation has :math:`\epsilon = 0`. A batch of a single image has no statistics of its own for the
    normalisations and is treated as in evaluation by them. The biases that the author's code has before normalisations
    are left out. The variance is that of the differences from the mean, which loses no digits where the mean is large;
    on windows that overlap it takes up to 1.5 times as long as two of torch's averages, the author's way.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        draw: ``"channel"``, one draw for each image and channel, as in the author's trainings, or ``"window"``, one for
            each output value.
        hidden: width of ``z``; null is half of the channels.
        eps: the least variance, in squared units of the activations; its root is added to flat windows.
    Use: as an adaptive pool that regularises too; ``1.5 C**2`` weights, but next to no arithmetic.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Kobayashi, NeurIPS 2019, as in the author's public code.
    """

    rectangles = random = mixes_channels = True
    treats_channels_alike = keeps_constants = False
    keeps_sign = mirrors = True
    variants = ({"draw": "window", "kernel_size": 3, "padding": 1}, {"hidden": 3})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        draw: str = "channel",
        hidden: int | None = None,
        eps: float = 1e-6,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.draw = self.checked("draw", draw, one_of("channel", "window"))
        self.checked("hidden", hidden, or_null(whole(1)))
        self.eps = float(self.checked("eps", eps, number(least=0, open=True)))
        self.guide = Guide(channels, max(1, channels // 2) if hidden is None else hidden, outputs=2)

    def pool(self, x: Tensor) -> Tensor:
        level, spread = self.guide(x)
        if self.training:
            level = level + spread.sigmoid() * self._drawn(x)
        combine, slope = (partial(f, eps=self.eps) for f in (_above_mean, _slopes))
        return over_windows(self, combine, (x,), (F.softplus(level),), slope)

    def _drawn(self, x: Tensor) -> Tensor:
        """Normal numbers, ``(N, C, 1, 1)`` or ``(N, C, H', W')``."""
        height, width = (1, 1) if self.draw == "channel" else self.output_size((x.shape[-2], x.shape[-1]))
        options = {} if self.generator is None else {"generator": self.generator}
        # One order for both memory formats: that of channels_last, where reading across costs most.
        shape, wide = (len(x), height, width, self.channels), torch.promote_types(x.dtype, torch.float32)
        return torch.randn(shape, dtype=wide, device=x.device, **options).movedim(-1, 1)

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        # Of a window: its mean, differences from it, their squares and mean, a comparison, a root, a multiply-add. Of
        # a channel (or with draw="window" a value, in training only) a softplus: exponential, addition, logarithm.
        each = 4 * area(self.kernel_size) + 4
        return self.channels * (height * width * each + 3) + self.guide.flops(size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, draw={self.draw!r}, eps={self.eps:g}"


def _deviations(inside: Tensor | None, windows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | int]:
    """The mean of each window, its cells less that, its variance, and how many cells it has."""
    count = cells_of(inside, windows)
    mean = sum_cells(windows) / count
    above = windows - mean
    if inside is not None:
        above = above.masked_fill(~inside, 0)
    return mean, above, dot(above, above) / count, count


def _above_mean(inside: Tensor | None, windows: Tensor, share: Tensor, eps: float) -> Tensor:
    mean, _, variance, _ = _deviations(inside, windows)
    return torch.addcmul(mean, variance.clamp(min=eps).sqrt(), share)


def _slopes(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, share: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    _, above, variance, count = _deviations(inside, windows)
    deviation = variance.clamp(min=eps).sqrt()
    pull = (gradient * share / (count * deviation)).masked_fill(variance < eps, 0)
    return torch.addcmul(gradient / count, above, pull), gradient * deviation
