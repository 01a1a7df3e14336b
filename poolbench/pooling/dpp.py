"""Average of each window that leans towards the pixels that differ from their surroundings: details survive."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import TRUTH, number
from poolbench.pooling.base import Pool, Sides, area, leading
from poolbench.pooling.parts.tracing import differentiated
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot

# Added to the squared differences, as in the authors' code: a pixel like its surroundings keeps some weight.
EPSILON = 1e-3
# Powers beyond would overflow float32; the authors cut alpha at e^10 and do not guard lambda.
LARGEST_LAMBDA, LARGEST_ALPHA = 32.0, math.exp(10)


class DetailPreservingPool2d(Pool):
    r"""Detail-preserving pooling: the more a pixel differs from its surroundings, the more it weighs.

    .. math::
        y = \frac{\sum_{i \in R} w_i x_i}{\sum_{i \in R} w_i}, \quad
        w_i = \alpha + \Big(\frac{q_i}{\bar q}\Big)^{\lambda / 2}, \quad
        q_i = d_i^2 + 10^{-3}, \quad d_i = x_i - \tilde x \ \text{or} \ \max(0, x_i - \tilde x)

    :math:`\bar q` is the window's mean of ``q``. The surroundings :math:`\tilde x` are the mean of the window (lite)
    or a learned 3x3 filter with bias for each channel (full). The symmetric form keeps dark details as well as bright
    ones, the other leans towards the maximum. ``lambda = 0`` or a large ``alpha`` gives the average. Both are learned
    for each channel, as logarithms. Training and evaluation are alike.

    Settled by the authors' code: the division by :math:`\bar q`, which the paper's formula lacks and which makes the
    weights independent of the level of contrast, the constant, and the bias. There the logarithms start uniformly
    within ``1 / sqrt(channels)`` of 0 in one version and at 0 in the other; ours start at 0, so that channels start
    alike. The paper's S3DPP is this with ``stride=1`` followed by :class:`~poolbench.pooling.s3.S3Pool2d`, its
    maximum over a window of one pixel.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
            The filter of the full form starts one pixel before every step, over zeros at the border, as theirs does.
        symmetric: whether darker pixels count as details too.
        full: whether the surroundings are a learned filter.
        lambda_: exponent at the start, above 0, at most 32.
        alpha: weight of every pixel at the start, above 0, at most ``e**10``.
    Use: where details that stand out from their surroundings matter; two numbers a channel learn how much.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Saeedan, Weber, Goesele and Roth, CVPR 2018.
    """

    rectangles = bounded = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"symmetric": False, "kernel_size": 3, "padding": 1},
        {"full": True},
        {"symmetric": False, "full": True},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        symmetric: bool = True,
        full: bool = False,
        lambda_: float = 1.0,
        alpha: float = 1.0,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.symmetric = self.checked("symmetric", symmetric, TRUTH)
        self.full = self.checked("full", full, TRUTH)
        starts = (("lambda_", lambda_, LARGEST_LAMBDA), ("alpha", alpha, LARGEST_ALPHA))
        for option, value, most in starts:
            self.checked(option, value, number(least=1e-6, most=most))
        self.starts = (float(lambda_), float(alpha))
        self.log_lambda = nn.Parameter(torch.empty(channels))
        self.log_alpha = nn.Parameter(torch.empty(channels))
        self.odd = symmetric and not full
        if full:
            self.surroundings = nn.Conv2d(channels, channels, 3, self.stride, padding=1, groups=channels)
            self.treats_channels_alike = self.follows_offset = self.mirrors = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put ``lambda`` and ``alpha`` back to where they start."""
        with torch.no_grad():
            for parameter, start in zip((self.log_lambda, self.log_alpha), self.starts, strict=True):
                parameter.fill_(math.log(start))

    def pool(self, x: Tensor) -> Tensor:
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        half = self.log_lambda.clamp(max=math.log(LARGEST_LAMBDA)).exp().view(1, -1, 1, 1) / 2
        alpha = self.log_alpha.clamp(max=math.log(LARGEST_ALPHA)).exp().view(1, -1, 1, 1)
        others = [half, alpha]
        if self.full:
            others.append(leading(self.surroundings(x), height, width))
        combine, slope, limits = (partial(f, symmetric=self.symmetric) for f in (_average, _slopes, _limits))
        return over_windows(self, combine, (x,), others, slope, limits)

    def flops_per_window(self) -> int:
        # The mean or the filter; a difference, square, constant, sum, division, logarithm, product, exponential, alpha,
        # product and two sums a cell; the division.
        k2 = area(self.kernel_size)
        return (2 * 9 if self.full else k2) + k2 * (12 if self.symmetric else 13) - 2

    def extra_repr(self) -> str:
        text = f"symmetric={self.symmetric}, full={self.full}, lambda_={self.starts[0]}, alpha={self.starts[1]}"
        return f"{super().extra_repr()}, {text}"


def _parts(
    inside: Tensor | None, windows: Tensor, center: Tensor | None, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | int]:
    """Differences, ``q``, the mean of ``q``, and the number of cells."""
    cells = windows.shape[0] if inside is None else inside.sum(0)
    if center is None:
        center = windows.sum(0) / cells
    difference = windows - center
    if not symmetric:
        difference = difference.relu()
    q = torch.addcmul(windows.new_full((), EPSILON), difference, difference)
    mean = (q if inside is None else q * inside).sum(0) / cells
    return difference, q, mean, cells


def _average(
    inside: Tensor | None,
    windows: Tensor,
    half: Tensor,
    alpha: Tensor,
    center: Tensor | None = None,
    *,
    symmetric: bool,
) -> Tensor:
    _, q, mean, _ = _parts(inside, windows, center, symmetric)
    if differentiated():
        weights = (half * q.log().sub_(mean.log())).exp_() + alpha
    else:  # in one map of the cells
        weights = q.log_().sub_(mean.log_()).mul_(half).exp_().add_(alpha)
    if inside is not None:
        weights = weights * inside
    return dot(weights, windows) / weights.sum(0)


def _limits(
    inside: Tensor | None,
    windows: Tensor,
    half: Tensor,
    alpha: Tensor,
    center: Tensor | None = None,
    *,
    symmetric: bool,
) -> Tensor:
    # All weights are above 0, so an infinite cell makes the average infinite; from infinite surroundings all cells
    # differ alike.
    endless = windows.isinf().any(0)
    if center is not None:
        endless = endless | center.isinf()
        center = center.masked_fill(endless, 0)
    usual = _average(inside, windows.masked_fill(endless, 0), half, alpha, center, symmetric=symmetric)
    return torch.where(endless, windows.sum(0) / (len(windows) if inside is None else inside.sum(0)), usual)


def _slopes(
    gradient: Tensor,
    inside: Tensor | None,
    windows: Tensor,
    half: Tensor,
    alpha: Tensor,
    center: Tensor | None = None,
    *,
    symmetric: bool,
) -> tuple[Tensor, ...]:
    difference, q, mean, cells = _parts(inside, windows, center, symmetric)
    logarithm = q.log().sub_(mean.log())
    powers = (half * logarithm).exp_()
    weights = powers + alpha
    if inside is not None:
        weights.mul_(inside)
    total = weights.sum(0)
    scale = gradient / total
    by_weights = (windows - dot(weights, windows) / total).mul_(scale)
    if inside is not None:
        by_weights.mul_(inside)
    by_alpha = by_weights.sum(0)
    powers.mul_(by_weights)
    by_half = dot(powers, logarithm)
    # By q, itself and through its mean, then by the differences.
    through_mean = powers.sum(0).div_(mean * cells)
    by_difference = powers.div_(q).sub_(through_mean).mul_(difference).mul_(2 * half)
    if inside is not None:
        by_difference.mul_(inside)
    by_center = -by_difference.sum(0)
    by_windows = weights.mul_(scale).add_(by_difference)
    if center is not None:
        return by_windows, by_half, by_alpha, by_center
    by_windows.add_(by_center / cells)
    return by_windows, by_half, by_alpha
