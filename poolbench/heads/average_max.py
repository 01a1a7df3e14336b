"""Two numbers a channel, its average and its strongest activation: their mean, or both."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poolbench.checks import one_of, whole
from poolbench.heads.base import Head


class AverageMax(Head):
    r"""Average and maximum of each channel over the whole map, their mean or both, then a linear classifier.

    .. math:: g_c = \frac{1}{2} \Big(\frac{1}{HW} \sum_{ij} x_{cij} + \max_{ij} x_{cij}\Big)

    With ``mode="cat"`` the vector has :math:`2 C` values, all averages and then all maxima, and the classifier weighs
    the two. (fastai puts the maxima first; a linear layer makes the same of both orders.) As with ``global_max`` the
    expected maximum grows with the number of pixels.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        mode: ``"mean"`` of the two, or ``"cat"``: side by side.
    Use: where it is not known whether the average or the strongest place tells more; ``cat`` costs twice the
        classifier's weights.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lee, Gallagher and Tu, AISTATS 2016 (mixed pooling; here over the whole map, with equal shares); side by
        side it is the head of fastai (Howard and Gugger, Information 2020).
    """

    variants = ({"mode": "cat"},)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        mode: str = "mean",
    ):
        self.checked("mode", mode, one_of("mean", "cat"))
        features = (2 if mode == "cat" else 1) * self.checked("channels", channels, whole(1))
        super().__init__(channels, num_classes, size, hidden, features)
        self.mode = mode

    def pool(self, x: Tensor) -> Tensor:
        average, most = x.mean((2, 3)), x.flatten(2).max(2).values  # to one cell its gradient, as in global_max
        if self.mode == "cat":
            return torch.cat([average, most], 1)
        return 0.5 * average + 0.5 * most  # halved first: the sum may be more than half precision holds

    def flops(self, size: tuple[int, int]) -> int:
        # Additions and a division, comparisons; two halves and their sum.
        return self.channels * (2 * size[0] * size[1] - 1 + (3 if self.mode == "mean" else 0))
