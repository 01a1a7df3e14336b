"""Generalised mean of each window, with an exponent of any sign: minimum, harmonic, geometric, average, maximum."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poolbench.checks import Rule, is_number, number, one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, max_windows
from poolbench.pooling.parts.powers import PowerMean, cells_of, only_above, sum_cells
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot

ANY_EXPONENT = Rule(lambda value: is_number(value) or value in (math.inf, -math.inf), "a number, inf and -inf included")


class PowerMeanPool2d(Pool):
    r"""Power mean of the activations, which must be positive: smaller ones count as ``eps``.

    .. math:: y = \Big(\frac{1}{|R|} \sum_{i \in R} \max(x_i, \epsilon)^p\Big)^{1/p}

    It rises with ``p``: minimum at minus infinity, harmonic mean at -1, geometric at 0 (the limit), average at 1,
    quadratic at 2, maximum at infinity. Generalised-mean pooling (GeM) is ``p = 3``; alpha-integration is the same
    family with ``alpha = 1 - 2 p`` (-1 arithmetic, 1 geometric, 3 harmonic). Cells below ``eps`` get no gradient, so it
    is for maps after a ReLU; there a window of zeros gives ``eps``. For norms that take the sign away see ``lp``.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        p: the exponent, any number, ``inf`` and ``-inf`` included; where the learning starts if it is learned.
        eps: the least activation, above 0.
        learnable: ``False``, ``"layer"`` (one ``p`` for all channels) or ``"channel"`` (one each).
    Use: where the best place between minimum and maximum is to be found by search or by learning, on maps that are not
        negative.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Radenovic, Tolias and Chum, TPAMI 2019 (GeM); alpha-integration: Eom and Choi, arXiv 2018.
    """

    rectangles = homogeneous = keeps_sign = mirrors = True
    variants = (
        {"p": 0.0},
        {"p": -2.0, "kernel_size": 3, "padding": 1},
        {"p": -math.inf},
        {"p": 0.0, "learnable": "channel", "kernel_size": 3, "padding": 1},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        p: float = 3.0,
        eps: float = 1e-6,
        learnable: bool | str = False,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.start = float(self.checked("p", p, ANY_EXPONENT))
        self.eps = float(self.checked("eps", eps, number(least=0, open=True)))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        # But for eps, of which the exponents near 0 make much.
        self.homogeneous = False if p == 0 else None if abs(p) < 1 else True
        if learnable and math.isinf(p):
            raise ValueError(f"{self._name()}: a learned p must start at a finite number, got {p!r}")
        if learnable:
            self.p = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()
        else:
            self.p = self.start

    def reset_parameters(self) -> None:
        """Put a learned ``p`` back to where it starts."""
        if self.learnable:
            nn.init.constant_(self.p, self.start)

    def pool(self, x: Tensor) -> Tensor:
        if self.learnable:
            return over_windows(self, self._any, (x,), (self.p.view(1, -1, 1, 1),), self._any_slope, self._any_limits)
        if self.start == math.inf:
            return max_windows(x.clamp(min=self.eps), self)
        if self.start == -math.inf:
            return -max_windows(-x.clamp(min=self.eps), self)
        if self.start == 1:
            return average_windows(x.clamp(min=self.eps), self)
        if self.start == 0:
            return over_windows(self, self._geometric, (x,), slope=self._geometric_slope)
        if abs(self.start) < 0.5:  # the formula for these is exact near 0, the faster one is not
            p = x.new_full((1, 1, 1, 1), self.start, dtype=torch.promote_types(x.dtype, torch.float32))
            return over_windows(self, self._any, (x,), (p,), self._any_slope, self._any_limits)
        formula = PowerMean(self.start, least=self.eps)
        return over_windows(self, formula.combine, (x,), slope=formula.slope, limits=formula.limits)

    def _any(self, inside: Tensor | None, windows: Tensor, p: Tensor) -> Tensor:
        parts = self._parts(inside, windows, p)
        return (parts.centre + parts.level).exp_()

    def _any_limits(self, inside: Tensor | None, windows: Tensor, p: Tensor) -> Tensor:
        infinite = windows == torch.inf
        endless = infinite.any(0)
        usual = self._any(inside, windows.masked_fill(endless, 1), p)
        # With p below 0 the power of an infinite cell is 0, with others it is all that counts.
        below = torch.where(p < 0, p, -1)
        logits = windows.masked_fill(infinite, 1).clamp(min=self.eps).log() * below
        gone = infinite if inside is None else infinite | ~inside
        logits = logits.masked_fill(gone, -torch.inf).masked_fill(~endless, 0)
        finite = ((logits.logsumexp(0) - torch.as_tensor(cells_of(inside, windows)).log()) / below).exp()
        return torch.where(endless, torch.where(p < 0, finite, torch.inf), usual)

    def _any_slope(self, gradient: Tensor, inside: Tensor | None, windows: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._parts(inside, windows, p)
        pull = (parts.centre + parts.level).exp_().mul_(gradient)
        # dy/dx = y w / x with the softmax w of p log x; dy/dp = y (w-weighted average of log x - log y) / p
        by_p = sum_cells(parts.away.mul_(parts.weights)).div_(parts.whole).sub_(parts.level).mul_(parts.inverse)
        by_p.add_(parts.half_variance * (parts.inverse == 0)).mul_(pull)
        found = parts.weights.mul_(pull.div_(parts.whole)).div_(windows.clamp(min=self.eps))
        return only_above(self.eps, windows, found), by_p

    def _parts(self, inside: Tensor | None, windows: Tensor, p: Tensor) -> "_Parts":
        logs = windows.clamp(min=self.eps).log_()
        count = cells_of(inside, windows)
        here = None if inside is None else inside.to(logs.dtype)
        centre = sum_cells(logs if here is None else logs * here) / count
        away = logs.sub_(centre)
        if here is not None:
            away = away * here
        logits = away * p
        peak = logits.amax(0).detach()  # of the cells in the map, since the logits of those are 0 on average
        weights = logits.sub_(peak).exp_()
        if here is not None:
            weights = weights * here
        whole = sum_cells(weights)
        # Near p = 0 the quotient by p is lost in rounding, at it there is none. The first term of its series, p / 2
        # times the variance, stands in for it where it comes closer.
        near = p.abs() < torch.finfo(p.dtype).eps ** (1 / 3)
        inverse = torch.where(near, 0, 1 / torch.where(near, 1, p))
        half_variance = dot(away, away) / (2 * count)
        level = (whole / count).log().add_(peak) * inverse + half_variance * (p * near)
        return _Parts(centre, away, weights, whole, level, inverse, half_variance)

    def _geometric(self, inside: Tensor | None, windows: Tensor) -> Tensor:
        return self._mean_of_logs(inside, windows).exp()

    def _geometric_slope(self, gradient: Tensor, inside: Tensor | None, windows: Tensor) -> tuple[Tensor]:
        share = self._mean_of_logs(inside, windows).exp_().mul_(gradient).div_(cells_of(inside, windows))
        return (only_above(self.eps, windows, share / windows.clamp(min=self.eps)),)

    def _mean_of_logs(self, inside: Tensor | None, windows: Tensor) -> Tensor:
        logs = windows.clamp(min=self.eps).log()
        return sum_cells(logs if inside is None else logs * inside) / cells_of(inside, windows)

    def flops_per_window(self) -> int:
        k2 = area(self.kernel_size)
        if self.learnable or 0 < abs(self.start) < 0.5:
            # Comparison with eps, logarithm, addition; less their mean, times p, comparison, less the peak,
            # exponential, addition; two divisions by n, a logarithm, two additions, a division by p, an exponential.
            return 9 * k2 - 3 + 7
        if self.start == 0:
            return 3 * k2 + 1  # comparison, logarithm, addition; a division and an exponential
        if self.start == 1 or math.isinf(self.start):
            return 2 * k2 - 1 + (self.start == 1)
        # Comparison with eps, with the peak, division by it, power, addition; division, root, scale.
        return 5 * k2 - 1 + 3

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.start}, eps={self.eps}, learnable={self.learnable}"


@dataclass(frozen=True)
class _Parts:
    """What the formula for any exponent and its slope share; ``(K, ...)`` and ``(...)``."""

    centre: Tensor  # mean of the logarithms of the cells
    away: Tensor  # the logarithms less that
    weights: Tensor  # the powers, divided by the largest
    whole: Tensor  # their sum
    level: Tensor  # logarithm of the result, less the centre
    inverse: Tensor  # 1 / p, but 0 where p is near 0
    half_variance: Tensor  # of the logarithms
