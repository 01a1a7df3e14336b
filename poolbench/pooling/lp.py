"""L_p norm of each window: between the average (p = 1) and the maximum (p to infinity)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pooling.base import Pool, average_windows, max_windows, sum_windows


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
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Sermanet, Chintala and LeCun, ICPR 2012; learned p: Gulcehre, Cho, Pascanu and Bengio, ECML 2014.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 2,
        stride: int | None = 2,
        padding: int = 0,
        p: float = 2.0,
        norm: str = "mean",
        learnable: bool | str = False,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        if isinstance(p, bool) or not isinstance(p, int | float) or not p >= 1:
            raise ValueError(f"{self._name()}: p must be a number of at least 1, got {p!r}")
        if norm not in ("mean", "sum"):
            raise ValueError(f"{self._name()}: norm must be 'mean' or 'sum', got {norm!r}")
        if learnable not in (False, "layer", "channel"):
            raise ValueError(f"{self._name()}: learnable must be false, 'layer' or 'channel', got {learnable!r}")
        if learnable and not 1 < p < math.inf:
            raise ValueError(f"{self._name()}: a learned p must start above 1 and be finite, got {p!r}")
        self.start, self.norm, self.learnable = float(p), norm, learnable
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

    def forward(self, x: Tensor) -> Tensor:
        combine = average_windows if self.norm == "mean" else sum_windows
        if not self.learnable:
            if self.start == math.inf:
                return max_windows(x.abs(), self)
            if self.start == 1:
                return combine(x.abs(), self)
            if self.start == 2:
                # Squares of half precision would overflow above 255 and vanish below 2e-4.
                wide = x.float() if x.dtype == torch.float16 else x
                return _Root.apply(combine(wide * wide, self)).to(x.dtype)
        return self._stable(x.abs()).to(x.dtype)  # a learned p may be of another precision than the map

    def _stable(self, x: Tensor) -> Tensor:
        # Divided by the window's own maximum no power overflows, and no window vanishes beside a larger neighbour.
        # The norm is homogeneous, so that factor may be held constant: it cancels from the value and the gradient.
        p = self.p.view(1, -1, 1, 1) if self.learnable else self.start
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        k, s, pad = self.kernel_size, self.stride, self.padding
        peak = max_windows(x.detach(), self)
        empty = peak == 0  # not peak > 0: NaN must stay NaN
        scale = torch.where(empty, 1, peak)
        bottom = max(0, (height - 1) * s + k - pad - x.shape[-2])
        right = max(0, (width - 1) * s + k - pad - x.shape[-1])
        if pad or bottom or right:
            x = F.pad(x, (pad, right, pad, bottom))
        total = torch.zeros_like(peak)
        for row in range(k):  # over the k*k cells of a window, each for all windows at once
            for column in range(k):
                tap = x[..., row : row + (height - 1) * s + 1 : s, column : column + (width - 1) * s + 1 : s]
                total = total + (tap / scale) ** p
        if self.norm == "mean":
            total = total / self._cells(x, height, width, bottom, right)
        # Where the peak is 0 the root is not asked for: its slope there is infinite.
        root = torch.where(empty, 1, total) ** (1 / p)
        return torch.where(empty, 0, scale * root)

    def _cells(self, padded: Tensor, height: int, width: int, bottom: int, right: int) -> Tensor | int:
        """How many cells of each window lie inside the map."""
        if not (self.padding or bottom or right):
            return self.kernel_size**2
        inside = padded.new_zeros(1, 1, *padded.shape[-2:])
        inside[..., self.padding : padded.shape[-2] - bottom, self.padding : padded.shape[-1] - right] = 1
        return F.avg_pool2d(inside, self.kernel_size, self.stride, divisor_override=1)[..., :height, :width]

    def flops_per_window(self) -> int:
        k2, mean = self.kernel_size**2, self.norm == "mean"
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


class _Root(torch.autograd.Function):
    """Square root whose slope at 0 is 0: a window of zeros has no direction in which to grow."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        return torch.where(root > 0, gradient / (2 * root), 0)
