"""L_p norm of each window: between the average (p = 1) and the maximum (p to infinity)."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import EXPONENT, one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, max_windows, sum_windows
from poolbench.pooling.parts.powers import PowerMean, root_mean_square, root_mean_square_slope
from poolbench.pooling.parts.windows import over_windows


class LpPool2d(Pool):
    r"""L_p norm of each window; L2 by default.

    .. math:: y = \Big(\frac{1}{|R|} \sum_{i \in R} |x_i|^p\Big)^{1/p}

    (mean form; the sum form leaves out :math:`1/|R|` and so scales a constant map by :math:`|R|^{1/p}`). For
    activations >= 0 the mean form is the average at ``p = 1`` and tends to the maximum as ``p`` grows. The sign of
    the input is lost. A window of zeros gives 0 and a zero gradient, where the plain formula would give NaN.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        p: order of the norm, a number >= 1 or ``inf``; where the learning starts if it is learned.
        norm: ``"mean"`` or ``"sum"``.
        learnable: ``False``, ``"layer"`` (one ``p`` for all channels) or ``"channel"`` (one each); ``p`` is
            kept at 1 or above as ``1 + softplus(rho)`` and needs a start above 1.
    Use: between average and maximum at the cost of a few operations, after a ReLU; the quadratic mean (``p = 2``) is
        smooth where the maximum has kinks.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Sermanet, Chintala and LeCun, ICPR 2012; learned p: Gulcehre, Cho, Pascanu and Bengio, ECML 2014.
    """

    rectangles = homogeneous = keeps_sign = mirrors = True
    variants = (
        {"p": 1.0},
        {"p": 3.0},
        {"p": math.inf},
        {"norm": "sum"},
        {"p": 3.0, "learnable": "layer"},
        {"p": 1.5, "learnable": "channel", "kernel_size": 3, "padding": 1},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        p: float = 2.0,
        norm: str = "mean",
        learnable: bool | str = False,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.start = float(self.checked("p", p, EXPONENT))
        self.norm = self.checked("norm", norm, one_of("mean", "sum"))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        if learnable and not 1 < p < math.inf:
            raise ValueError(f"{self._name()}: a learned p must start above 1 and be finite, got {p!r}")
        self.keeps_constants = norm == "mean"
        if learnable:
            self.rho = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned ``p`` back to where it starts."""
        if self.learnable:
            with torch.no_grad():
                self.rho.fill_(math.log(math.expm1(self.start - 1)))  # the inverse of softplus

    @property
    def p(self) -> Tensor | float:
        """The order of the norm: a number, or where it is learned a tensor ``(1,)`` or ``(C,)``."""
        return 1 + F.softplus(self.rho) if self.learnable else self.start

    def pool(self, x: Tensor) -> Tensor:
        mean = self.norm == "mean"
        if self.learnable:
            formula = PowerMean(None, mean)
            return over_windows(self, formula.combine, (x,), (self.p.view(1, -1, 1, 1),), formula.slope, formula.limits)
        if self.start == math.inf:
            return max_windows(x.abs(), self)
        if self.start == 1:
            return (average_windows if mean else sum_windows)(x.abs(), self)
        if self.start == 2:
            combine, slope = (partial(f, mean=mean) for f in (root_mean_square, root_mean_square_slope))
            # Where squares overflow the careful form takes over.
            return over_windows(self, combine, (x,), slope=slope, limits=PowerMean(2, mean).limits)
        formula = PowerMean(self.start, mean)
        return over_windows(self, formula.combine, (x,), slope=formula.slope, limits=formula.limits)

    def flops_per_window(self) -> int:
        k2, mean = area(self.kernel_size), self.norm == "mean"
        if not self.learnable and self.start == math.inf:
            return 2 * k2 - 1  # absolute values, comparisons
        if not self.learnable and self.start == 1:
            return 2 * k2 - 1 + mean  # absolute values, additions, a division
        if not self.learnable and self.start == 2:
            return 2 * k2 + mean + 1  # squares and additions, a division, a root
        # Absolute value, comparison for the peak, division by it, power, addition; division, root, scale.
        return 5 * k2 - 1 + mean + 2

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.start}, norm={self.norm!r}, learnable={self.learnable}"
