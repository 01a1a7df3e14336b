"""Learned mix of two exponential averages: one favours what is like the window's mean, one what is large."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import TRUTH, number, one_of
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.infinite import share_of
from poolbench.pooling.parts.tracing import differentiated
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import GRADIENTS, average, cells_of, dot, exponentials, limit_average, limit_exponentials

# Keeps the likeness of a window of zeros at 0, where the formula has 0 / 0; its inverse is finite.
TINY = 2e-38


class AdaPool2d(Pool):
    r"""Adaptive exponential pooling: a mix of an average by likeness to the mean and of a softmax-weighted one.

    .. math::
        y = \beta \sum_{i \in R} \frac{e^{d_i}}{\sum_j e^{d_j}} x_i
          + (1 - \beta) \sum_{i \in R} \frac{e^{x_i}}{\sum_j e^{x_j}} x_i,
        \qquad d_i = \frac{2 |x_i m|}{x_i^2 + m^2}, \quad m = \frac{1}{|R|} \sum_{i \in R} x_i

    ``d`` (Dice's coefficient of two numbers) lies in [0, 1], so the first part stays near the average; the second is
    :class:`~poolbench.pooling.soft.SoftPool2d`. Training and evaluation are alike. It takes two exponentials and a
    division for each cell, some 70 operations a value where ``soft`` takes 26, and so more than twice as long.

    Settled by the authors' code: ``beta`` mixes so and not the other way round, all channels share it, and there is
    one for each pixel of the output, drawn from a normal distribution cut to [0, 1]. One for the whole map is our
    default, since the pixels' ties a net to one image size; and it starts at a half, kept inside (0, 1) by a sigmoid,
    where the code's cut lets it stick at the ends or, in its usual path, leave them.

    Their kernels (adaPool, pytorch/CUDA/adapool_cuda_kernel.cu) hold the weights of both parts constant: a cell gets
    its weight of the output's gradient, which is not the derivative. ``gradient="published"`` does the same; ``beta``
    keeps its derivative, as where torch mixes their two averages (their one kernel for both gives it none).

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        beta: share of the first part, from 0 to 1; where the learning starts, then not 0 or 1.
        learnable: whether ``beta`` is learned.
        size: ``(H, W)`` of the maps to come, for one ``beta`` for each pixel of the output; None for one in all.
        gradient: ``"exact"``, the derivative, or ``"published"``, the authors', with the weights held constant.
    Use: for detail in images and maps, at more than twice the cost of ``soft``, of which it is a mixture with a
        weighting by similarity.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, and for a map that is not of ``size``.
    Source: Stergiou and Poppe, IEEE Transactions on Image Processing 2023.
    """

    rectangles = bounded = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "padding": 1, "beta": 0.75, "learnable": False},
        {"beta": 1.0, "learnable": False},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        beta: float = 0.5,
        learnable: bool = True,
        size: tuple[int, int] | None = None,
        gradient: str = "exact",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.gradient = self.checked("gradient", gradient, one_of(*GRADIENTS))
        self.learnable = self.checked("learnable", learnable, TRUTH)
        self.start = float(self.checked("beta", beta, number(least=0, most=1, open=learnable)))
        self.odd = self.homogeneous = self.start == 1
        if size is not None and (isinstance(size, int | str) or len(size) != 2):
            raise ValueError(f"{self._name()}: size must be (H, W), got {size!r}")
        self.size = None if size is None else (size[0], size[1])
        if self.size and not learnable:
            raise ValueError(f"{self._name()}: size is for a beta that is learned, got learnable={learnable}")
        if learnable:
            shape = self.output_size(self.size) if self.size else (1, 1)
            self.logit = nn.Parameter(torch.empty(1, 1, *shape))  # of beta
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned ``beta`` back to where it starts."""
        if self.learnable:
            with torch.no_grad():
                self.logit.fill_(math.log(self.start / (1 - self.start)))

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.size is not None and self.size != tuple(size):
            raise ValueError(
                f"{self._name()}: a map of {size[0]}x{size[1]} pixels, but size says {self.size[0]}x{self.size[1]}"
            )
        return super().output_size(size)

    def pool(self, x: Tensor) -> Tensor:
        mix, slopes, limits = (
            (_mix, _slopes, _limits) if self.gradient == "exact" else (_held, _held_slopes, _held_limits)
        )
        if self.learnable:
            return over_windows(self, mix, (x,), (self.logit.sigmoid(),), slopes, limits)
        combine, slope, limits = (partial(f, beta=self.start) for f in (mix, partial(_first, slopes), limits))
        return over_windows(self, combine, (x,), slope=slope, limits=limits)

    def flops_per_window(self) -> int:
        # Mean (a sum and one division); likeness: two products, square, sum, absolute value, division; its exponential,
        # product and two sums, a division; the softmax average as in soft; the mix.
        k2 = area(self.kernel_size)
        return k2 + (k2 * 6 + 1) + (k2 * 4 - 1) + (k2 * 6 - 2) + 4

    def extra_repr(self) -> str:
        text = f"beta={self.start}, learnable={self.learnable}, size={self.size}, gradient={self.gradient!r}"
        return f"{super().extra_repr()}, {text}"


def _inverse(inside: Tensor | None, windows: Tensor) -> tuple[Tensor, int]:
    """``a`` and ``n``, with ``n a = 1 / m``, 0 where ``m`` is 0."""
    # The sum stands for the mean where it may: a number times a small map takes nearly as long as a map times a map.
    level, n = (windows.sum(0), len(windows)) if inside is None else (windows.sum(0) / inside.sum(0), 1)
    return level / torch.addcmul(windows.new_full((), TINY), level, level), n


def _likeness(inside: Tensor | None, windows: Tensor) -> Tensor:
    """Exponentials of the likeness, ``(K, ...)``: at most e, so that they need no shift; 0 outside the map."""
    inverse, n = _inverse(inside, windows)
    ratio = windows * inverse
    powers = (ratio / torch.addcmul(windows.new_full((), 0.5 / n), ratio, ratio, value=n / 2)).abs_().exp_()
    return powers if inside is None else powers * inside


def _likeness_by_cell(inside: Tensor | None, windows: Tensor) -> Iterator[Tensor]:
    """The same, a cell at a time, where torch need not differentiate it."""
    inverse, n = _inverse(inside, windows)
    half = windows.new_full((), 0.5 / n)
    for i, cell in enumerate(windows.unbind(0)):
        power = cell * inverse
        power.div_(torch.addcmul(half, power, power, value=n / 2)).abs_().exp_()
        yield power if inside is None else power.mul_(inside[i])


def _exponentials_by_cell(inside: Tensor | None, windows: Tensor) -> Iterator[Tensor]:
    cells, peak = cells_of(windows, inside)
    for cell in cells:
        yield (cell - peak).exp_()


def _mix(inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> Tensor:
    if differentiated():
        near, large = (
            dot(powers, windows) / powers.sum(0)
            for powers in (_likeness(inside, windows), exponentials(inside, windows))
        )
    else:
        near, large = (
            average(powers(inside, windows), windows)[0] for powers in (_likeness_by_cell, _exponentials_by_cell)
        )
    return large + beta * (near - large)


def _limits(inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> Tensor:
    # Beside an infinite cell the likeness of the others is 0, its own that to a mean of its sign: no weight vanishes.
    endless = windows.isinf().any(0)
    usual = _mix(inside, windows.masked_fill(endless, 0), beta)
    near, large = windows.sum(0), limit_average(limit_exponentials(inside, windows), windows)
    return torch.where(endless, share_of(beta, near) + share_of(1 - beta, large), usual)


def _held(inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> Tensor:
    """The mix whose weights have no gradient by the map; they have one by ``beta``."""
    near, large = _held_weights(inside, windows.detach())
    return dot(large + beta * (near - large), windows)


def _held_limits(inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> Tensor:
    endless = windows.isinf().any(0)
    usual = _held(inside, windows.masked_fill(endless, 0), beta)
    return torch.where(endless, _limits(inside, windows.detach(), beta), usual)


def _held_slopes(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, beta: Tensor | float
) -> tuple[Tensor, Tensor]:
    near, large = _held_weights(inside, windows)
    by_beta = dot(near, windows).sub_(dot(large, windows)).mul_(gradient)
    return near.sub_(large).mul_(beta).add_(large).mul_(gradient), by_beta


def _held_weights(inside: Tensor | None, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Of the cells, ``(K, ...)``, in either average."""
    near = _likeness(inside, windows)
    large = exponentials(inside, windows)
    return near / near.sum(0), large / large.sum(0)


def _first(slopes: Callable[..., tuple[Tensor, Tensor]], *args: Tensor, beta: float) -> tuple[Tensor]:
    return slopes(*args, beta)[:1]


def _slopes(gradient: Tensor, inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> tuple[Tensor, Tensor]:
    # With t = x / m and h = 2 n / (1 + t^2) the slope of d by t is sign(t) h (h - n) / n^2; that by x is 1 / m times as
    # much, that by m -t / m times. What takes the time is not this arithmetic but the memory it goes through: of all
    # cells two numbers are kept, the rest is of one cell at a time.
    inverse, n = _inverse(inside, windows)
    half = windows.new_full((), 0.5 / n)
    cells = windows.unbind(0)
    slopes, others = torch.empty_like(windows), torch.empty_like(windows)
    for i, (cell, power, rise) in enumerate(zip(cells, slopes, others, strict=True)):
        ratio = cell * inverse
        h = torch.addcmul(half, ratio, ratio, value=n / 2).reciprocal_()
        torch.mul(ratio, h, out=power).abs_().exp_()
        if inside is not None:
            power.mul_(inside[i])
        torch.addcmul(h, h, h, value=-1 / n, out=rise).mul_(power).mul_(ratio.sign_())
    total = slopes.sum(0)
    near = dot(slopes, windows).div_(total)
    share = gradient * beta
    scale = share / total
    start, by_mean = near * scale, torch.zeros_like(near)
    for cell, rise in zip(cells, others, strict=True):
        rise.mul_(torch.addcmul(start, cell, scale, value=-1))
        by_mean.addcmul_(rise, cell)
    by_mean.mul_(inverse).mul_(inverse).neg_()
    if inside is not None:
        by_mean.div_(inside.sum(0))
    for slope, rise in zip(slopes, others, strict=True):
        torch.addcmul(by_mean, slope, scale, out=slope).addcmul_(rise, inverse)

    logits, peak = cells_of(windows, inside)
    for logit, power in zip(logits, others, strict=True):
        torch.sub(logit, peak, out=power).exp_()
    total = others.sum(0)
    large = dot(others, windows).div_(total)
    scale = (gradient - share).div_(total)
    start = torch.addcmul(scale, large, scale, value=-1)
    for cell, slope, power in zip(cells, slopes, others, strict=True):
        slope.addcmul_(power, torch.addcmul(start, cell, scale))
    return slopes, near.sub_(large).mul_(gradient)
