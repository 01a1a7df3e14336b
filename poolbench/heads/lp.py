"""One number a channel: its L_p norm over the map, between the average and the maximum."""

import math
from collections.abc import Sequence

from torch import Tensor

from poolbench.checks import EXPONENT, one_of
from poolbench.heads.base import Head, wide


class GlobalLp(Head):
    r"""L_p norm of each channel over the whole map, then a linear classifier; L2 by default.

    .. math:: g_c = \Big(\frac{1}{HW} \sum_{ij} |x_{cij}|^p\Big)^{1/p}

    (mean form; the sum form leaves out :math:`1/HW`, so its features grow with the size of the map). For activations
    >= 0 the mean form is the average at ``p = 1`` and tends to the maximum as ``p`` grows. A map of zeros gives 0 and
    a zero gradient, where the plain formula would give NaN.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        p: order of the norm, a number >= 1 or ``inf``.
        norm: ``"mean"`` or ``"sum"``.
    Use: a step from the average towards the maximum without weights; ``gem`` learns how far.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Boureau, Ponce and LeCun, ICML 2010 (the family); Sermanet, Chintala and LeCun, ICPR 2012 (L_p pooling).
    """

    variants = ({"p": 1.0}, {"p": 3.5}, {"p": math.inf}, {"norm": "sum"})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        p: float = 2.0,
        norm: str = "mean",
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.p = float(self.checked("p", p, EXPONENT))
        self.norm = self.checked("norm", norm, one_of("mean", "sum"))

    def pool(self, x: Tensor) -> Tensor:
        cells = wide(x).abs().flatten(2)
        if self.p == math.inf:
            return cells.max(dim=2).values.to(x.dtype)  # to one cell its gradient, as in global_max
        level = 1.0 if self.norm == "mean" else cells.shape[2] ** (1 / self.p)
        if self.p == 1:
            return (cells.mean(2) * level).to(x.dtype)
        # Divided by the peak no power overflows. The norm is homogeneous, so that factor may be held constant: it
        # cancels from the value and all derivatives.
        peak = cells.detach().amax(2, keepdim=True)
        peak = peak.masked_fill(peak == math.inf, 1)  # nothing brings infinity below 1, and infinity is its norm
        mean = (cells / peak.masked_fill(peak == 0, 1)).pow(self.p).mean(2)
        # Its least is 1 / HW where there is a peak; a map of zeros, where the root has no slope, gets none.
        root = mean.clamp(min=0.5 / cells.shape[2]).pow(1 / self.p)
        return (peak.squeeze(2) * level * root).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        cells, mean = size[0] * size[1], self.norm == "mean"
        if self.p == math.inf:
            return self.channels * (2 * cells - 1)  # absolute values, comparisons
        if self.p == 1:
            return self.channels * (2 * cells - 1 + mean)  # absolute values, additions, a division
        # Absolute value, comparison for the peak, division by it, power, addition; division, root, scale.
        return self.channels * (5 * cells - 2 + mean + 2)
