"""One number a channel: a smooth maximum over the map whose sharpness is learned."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import TRUTH, number
from poolbench.heads.base import Head, wide

LEAST = 0.01  # a learned sharpness stays above it: the formula divides by it


class LogSumExp(Head):
    r"""Logarithm of the mean exponential of each channel, its sharpness ``r`` learned, then a linear classifier.

    .. math:: g_c = \frac{1}{r} \log \Big(\frac{1}{HW} \sum_{ij} e^{r x_{cij}}\Big)

    The average as ``r`` falls to 0, tending to the maximum as it grows, and for values of either sign, where ``gem``
    sees the positive part alone. A constant map is kept, and one number added to a channel is added to its result.
    What it does depends on the level of the map: at ``r`` = 10 activations that differ by 0.1 are nearly averaged, and
    of those that differ by 1 the strongest nearly decides.

    A learned ``r`` is ``0.01 + softplus(rho)``: positive whatever step an optimiser takes, and near 10 it moves as
    ``r`` itself would, which other code learns; weight decay spares it, as it does all vectors. Shifted by the
    maximum of each channel, so that nothing overflows, and computed in float32 at least. Forward and back it takes up
    to 1.45 times torch's logsumexp with a fixed ``r``: the slope by ``r`` is one more pass over the map.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        sharpness: ``r``, in units of 1 over the activations', above 0.01; where the learning starts if it is learned.
        learnable: is ``r`` learned?
        per_channel: one learned ``r`` for each channel, instead of one for all.
    Use: as a smooth maximum whose gradient reaches all positions; where labels say what an image shows and not where.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Pinheiro and Collobert, CVPR 2015 (there ``r`` is fixed).
    """

    variants = ({"per_channel": True}, {"learnable": False}, {"sharpness": 0.5})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        sharpness: float = 10.0,
        learnable: bool = True,
        per_channel: bool = False,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.start = float(self.checked("sharpness", sharpness, number(least=LEAST, open=True)))
        self.learnable = self.checked("learnable", learnable, TRUTH)
        self.per_channel = self.checked("per_channel", per_channel, TRUTH)
        if per_channel and not learnable:
            raise ValueError(
                f"{self._name()}: per_channel must be false where learnable is: a fixed sharpness is one for all"
            )
        if learnable:
            self.rho = nn.Parameter(torch.empty(channels if per_channel else 1))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned sharpness back to where it starts."""
        if self.learnable:
            above = self.start - LEAST
            with torch.no_grad():
                self.rho.fill_(above + math.log(-math.expm1(-above)))  # the inverse of softplus

    @property
    def sharpness(self) -> Tensor | float:
        """``r``: a number, or where it is learned a tensor ``(1,)`` or ``(C,)``."""
        return LEAST + F.softplus(wide(self.rho)) if self.learnable else self.start

    def pool(self, x: Tensor) -> Tensor:
        cells, sharpness = wide(x).flatten(2), self.sharpness
        peak = cells.detach().amax(2)  # any number would do: it cancels, from the derivatives too
        peak = peak.masked_fill(peak.isinf(), 0)  # an infinite one would leave infinity less infinity
        each = sharpness.unsqueeze(1) if isinstance(sharpness, Tensor) else sharpness
        mean = ((cells - peak.unsqueeze(2)) * each).exp_().mean(2)
        return (peak + mean.log() / sharpness).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        # Comparisons, differences, products, exponentials, additions; division, logarithm, division, sum.
        return self.channels * (5 * size[0] * size[1] - 2 + 4)
