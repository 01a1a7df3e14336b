"""One number a channel: a power mean over the map whose exponent is learned (GeM)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import TRUTH, number, whole
from poolbench.heads.base import Head, wide

LEAST = 0.01  # p of a learned mean stays above it: 1/p of the formula must not grow without bound


class GeM(Head):
    r"""Generalised mean of each channel over the whole map, its exponent ``p`` learned, then a linear classifier.

    .. math:: g_c = \Big(\frac{1}{HW} \sum_{ij} \max(x_{cij}, \epsilon)^p\Big)^{1/p}

    The average of the positive part at ``p = 1``, tending to the maximum as ``p`` grows. A learned ``p`` is
    ``0.01 + softplus(rho)``: positive whatever step an optimiser takes, and near 3 it moves about as ``p`` itself
    would; weight decay spares it, as it does all vectors. Computed in float32 at least: the cube of ``eps`` is 0 in
    half precision.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        p: the exponent, a number above 0.01; where the learning starts if it is learned.
        learnable: is ``p`` learned?
        per_channel: one learned ``p`` for each channel, instead of one for all.
        groups: as many learned ``p``, each for a group of neighbouring channels, a divisor of ``channels``; in the
            transformers that the idea comes from, the channels of one attention are such a group.
        eps: what replaces values below it before the power, above 0.
    Use: image retrieval's standard, and wherever it is not known whether few cells or all should decide.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Radenovic, Tolias and Chum, IEEE TPAMI 2019 (arXiv:1711.02512); groups: Ko, Kim, Heo, Yun, Chun, Gu and
        Kim, 2022 (arXiv:2212.04114).
    """

    variants = ({"per_channel": True}, {"learnable": False}, {"p": 0.5, "eps": 1e-3})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        p: float = 3.0,
        learnable: bool = True,
        per_channel: bool = False,
        eps: float = 1e-6,
        groups: int = 1,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.start = float(self.checked("p", p, number(least=LEAST, open=True)))
        self.learnable = self.checked("learnable", learnable, TRUTH)
        self.per_channel = self.checked("per_channel", per_channel, TRUTH)
        self.eps = float(self.checked("eps", eps, number(least=0, open=True)))
        self.groups = self.checked("groups", groups, whole(1))
        if per_channel and not learnable:
            raise ValueError(f"{self._name()}: per_channel must be false where learnable is: a fixed p is one for all")
        if groups > 1 and (per_channel or not learnable):
            why = "each channel has its own p" if per_channel else "a fixed p is one for all"
            raise ValueError(f"{self._name()}: groups must be 1 where {why}, got {groups!r}")
        if channels % groups:
            raise ValueError(f"{self._name()}: groups must divide channels={channels}, got {groups!r}")
        if learnable:
            self.rho = nn.Parameter(torch.empty(channels if per_channel else groups))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned ``p`` back to where it starts."""
        if self.learnable:
            above = self.start - LEAST
            with torch.no_grad():
                self.rho.fill_(above + math.log(-math.expm1(-above)))  # the inverse of softplus

    @property
    def p(self) -> Tensor | float:
        """The exponent: a number, or where it is learned a tensor ``(1,)``, ``(groups,)`` or ``(C,)``."""
        return LEAST + F.softplus(wide(self.rho)) if self.learnable else self.start

    def pool(self, x: Tensor) -> Tensor:
        cells = wide(x).flatten(2).clamp(min=self.eps)
        p = self.p
        if isinstance(p, Tensor) and self.groups > 1:
            p = p.repeat_interleave(self.channels // self.groups)
        # Divided by the peak no power overflows; the mean is homogeneous, so the peak may be held constant (see lp).
        peak = cells.detach().amax(2)
        peak = peak.masked_fill(peak == math.inf, 1)  # nothing brings infinity below 1, and infinity is its mean
        # A cell that vanishes beside the peak must not become 0, whose logarithm the gradient for p would meet.
        logs = (cells / peak.unsqueeze(2)).clamp(min=torch.finfo(cells.dtype).tiny).log()
        powers = (logs * (p.unsqueeze(1) if isinstance(p, Tensor) else p)).exp()
        return (peak * (powers.mean(2).log() / p).exp()).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        # Comparisons with eps and for the peak, division by it, power (logarithm, product, exponential), addition;
        # division, root, scale.
        return self.channels * (7 * size[0] * size[1] - 2 + 5)
