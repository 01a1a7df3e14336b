"""Efficient probing: many learned queries look at the raw positions, each fills its part of the vector."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import or_null, whole
from poolbench.heads.base import Head, wide
from poolbench.heads.queries import largest_divisor, shares, softmax_flops, values


class EfficientProbe(Head):
    r"""``M`` averages over the positions by learned queries, each for a part of the values, then a linear classifier.

    .. math:: g = \big[\, V_1 \textstyle\sum_j a_{1j} x_j, \; \dots, \; V_M \sum_j a_{Mj} x_j \,\big], \qquad
        a_m = \mathrm{softmax}_j \frac{q_m \cdot x_j}{\sqrt C}

    with the rows of the values' weights ``V``, a matrix of ``C`` by ``C``, dealt out to the queries. The positions are
    their own keys, and no layer follows: ``C (C + M)`` weights. The queries start small, each part near an average.
    The values of the positions are not formed: ``V`` is applied to the averages, which gives the same numbers.

    The paper trains it on a frozen net, with a batch normalisation without weights between it and the classifier, as is
    usual for such probes; that is left out here, where the net learns with it.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        queries: ``M``, a divisor of ``channels``; None: 32, the paper's, or the largest divisor below that.
    Use: on a net that was trained without labels and is not trained further; to see what several queries look at.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Psomas, Christopoulos, Baltzi, Kakogeorgiou, Aravanis, Komodakis, Karantzalos, Avrithis and Tolias, ICLR
        2026 (arXiv:2506.10178).
    """

    variants = ({"queries": 1},)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        queries: int | None = None,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.checked("queries", queries, or_null(whole(1)))
        count = largest_divisor(channels, 32) if queries is None else queries
        if channels % count:
            raise ValueError(f"{self._name()}: queries must divide channels={channels}, got {queries!r}")
        self.queries = nn.Parameter(torch.empty(count, channels))
        self.value = nn.Linear(channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the queries; the values' layer draws itself."""
        nn.init.normal_(self.queries, std=0.02)

    def pool(self, x: Tensor) -> Tensor:
        with full_precision(x):  # rounded scores would be shares that are off by several per cent
            positions = wide(x).flatten(2)
            weights = shares(wide(self.queries).unsqueeze(0), positions, 1)
            averages = weights @ positions.transpose(1, 2)
            return values(averages, self.value.weight, len(self.queries)).flatten(1).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        # The queries' scale; the matrix products are counted where they happen.
        return self.queries.numel() + len(self.queries) * softmax_flops(size[0] * size[1])

    def extra_repr(self) -> str:
        return f"queries={len(self.queries)}"
