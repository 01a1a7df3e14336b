"""Spatial pyramid pooling: the map's bins at several grids, from coarse places to the whole."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poolbench.checks import one_of, share, wholes
from poolbench.heads.base import Head


class SpatialPyramid(Head):
    r"""Maximum (or average) of each channel in the ``n x n`` bins of each level, then fully connected layers.

    A vector of :math:`C \sum_l n_l^2` values for maps of every size. With ``bins="adaptive"`` bin :math:`i` of an axis
    of :math:`a` pixels goes from :math:`\lfloor i a / n \rfloor` to :math:`\lceil (i + 1) a / n \rceil`: always ``n``
    bins that cover the map, repeating cells where :math:`a < n`. The paper's windows, of :math:`\lceil a / n \rceil`
    every :math:`\lfloor a / n \rfloor` pixels, agree with that where ``n`` divides ``a`` and otherwise make more than
    ``n`` bins or leave the last pixels out; ``bins="paper"`` takes the first ``n`` of them.

    The bins are slices, first of rows and then of columns: torch's adaptive pools give the same, but their gradients
    on GPUs differ from run to run.

    Args:
        channels, num_classes, size: see :class:`~poolbench.heads.base.Head`.
        hidden: widths of hidden fully connected layers; the paper had two of 4096.
        levels: bins along a side, of each level.
        bins: ``"adaptive"`` or ``"paper"``.
        reduce: ``"max"`` or ``"average"``.
        dropout: share of the values of each hidden layer that training sets to 0; the paper's 0.5, for these layers
            hold most of the weights and are the first to overfit.
    Use: where it matters roughly where something is, and images come in several sizes.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1; with the paper's bins >= the largest of ``levels``.
    Raises: ValueError naming the option for a value that is not allowed, or for a map smaller than the paper's bins.
    Source: He, Zhang, Ren and Sun, ECCV 2014.
    """

    variants = ({"bins": "paper"}, {"reduce": "average", "levels": (3, 1)})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (256,),
        levels: Sequence[int] = (4, 2, 1),
        bins: str = "adaptive",
        reduce: str = "max",
        dropout: float = 0.5,
    ):
        self.checked("levels", levels, wholes())
        self.checked("bins", bins, one_of("adaptive", "paper"))
        self.checked("reduce", reduce, one_of("max", "average"))
        self.checked("dropout", dropout, share())
        most = max(levels)
        super().__init__(
            channels,
            num_classes,
            size,
            hidden,
            features=channels * sum(n * n for n in levels),
            dropout=dropout,
            least_side=most if bins == "paper" else 1,
            because=f"the paper's windows for {most} bins would step by 0 pixels; bins='adaptive' takes any size",
        )
        self.levels, self.bins, self.reduce = tuple(levels), bins, reduce

    def pool(self, x: Tensor) -> Tensor:
        found = []
        for n in self.levels:
            rows = [self._reduced(x[:, :, start:end], 2) for start, end in self._edges(x.shape[2], n)]
            y = torch.stack(rows, 2)
            columns = [self._reduced(y[:, :, :, start:end], 3) for start, end in self._edges(x.shape[3], n)]
            found.append(torch.stack(columns, 3).flatten(1))
        return torch.cat(found, 1)

    def flops(self, size: tuple[int, int]) -> int:
        total = 0
        for n in self.levels:
            height, width = (sum(end - start for start, end in self._edges(side, n)) for side in size)
            total += height * width - (n * n if self.reduce == "max" else 0)  # comparisons; additions and a division
        return self.channels * total

    def _edges(self, a: int, n: int) -> list[tuple[int, int]]:
        """Where the ``n`` bins of an axis of ``a`` pixels begin and end."""
        # No whole part of a negative number: ONNX, where a may be unknown, rounds it the other way.
        if self.bins == "adaptive":
            return [(i * a // n, ((i + 1) * a + n - 1) // n) for i in range(n)]
        return [(i * (a // n), i * (a // n) + (a + n - 1) // n) for i in range(n)]

    def _reduced(self, x: Tensor, dim: int) -> Tensor:
        return x.mean(dim) if self.reduce == "average" else x.max(dim).values  # to one cell its gradient
