"""Learned mix of two exponential averages: one favours what is like the window's mean, one what is large."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import TRUTH, number, one_of
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.infinite import share_of
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import GRADIENTS, dot, exponentials, limit_average, limit_exponentials

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
    division for each cell, some 70 operations a value where ``soft`` takes 26, and so nearly three times as long.

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


def _likeness(inside: Tensor | None, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of each window, exponentials of the likeness ``(K, ...)``, and ``1 / (x^2 + m^2)`` ``(K, ...)``."""
    mean = windows.sum(0) / (windows.shape[0] if inside is None else inside.sum(0))
    inverse = torch.addcmul(mean * mean + TINY, windows, windows).reciprocal_()
    powers = (windows.abs() * inverse * (2 * mean.abs())).exp_()  # at most e, so that they need no shift
    return mean, powers if inside is None else powers * inside, inverse


def _mix(inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> Tensor:
    _, powers, _ = _likeness(inside, windows)
    near = dot(powers, windows) / powers.sum(0)
    powers = exponentials(inside, windows)
    large = dot(powers, windows) / powers.sum(0)
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
    _, near, _ = _likeness(inside, windows)
    large = exponentials(inside, windows)
    return near / near.sum(0), large / large.sum(0)


def _first(slopes: Callable[..., tuple[Tensor, Tensor]], *args: Tensor, beta: float) -> tuple[Tensor]:
    return slopes(*args, beta)[:1]


def _slopes(gradient: Tensor, inside: Tensor | None, windows: Tensor, beta: Tensor | float) -> tuple[Tensor, Tensor]:
    # d depends on x_i / m alone: with r = (m^2 - x^2) / (x^2 + m^2), its slope by x is 2 |m| sign(x) r / (x^2 + m^2)
    # and that by m is -x / m times as much.
    mean, weights, inverse = _likeness(inside, windows)
    total = weights.sum(0)
    near = dot(weights, windows) / total
    weights.mul_(beta * gradient / total)
    r = (inverse * (2 * mean * mean)).sub_(1).mul_(inverse).mul_(windows.sign()).mul_(weights)
    r.mul_(windows - near)
    twice = 2 * mean.abs()
    cells = windows.shape[0] if inside is None else inside.sum(0)
    by_mean = dot(r, windows).mul_(2 * mean.sign() / cells)
    slope = weights.addcmul_(r, twice).sub_(by_mean)

    weights = exponentials(inside, windows)
    total = weights.sum(0)
    large = dot(weights, windows) / total
    weights.mul_((1 - beta) * gradient / total)
    slope.addcmul_(weights, windows - (large - 1))
    return slope, (near - large).mul_(gradient)
