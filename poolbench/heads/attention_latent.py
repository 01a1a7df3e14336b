"""Latent attention: learned queries gather the map, a small network goes over what they found (MAP, PMA)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import or_null, whole
from poolbench.heads.base import Head, wide
from poolbench.heads.queries import largest_divisor, linear, normalised, shares, softmax_flops, values


class AttentionLatent(Head):
    r"""Multi-head attention of a learned query over the positions, then a residual network of two layers, then a
    linear classifier.

    .. math:: o = O \big[\, V_h \textstyle\sum_j a_{hj} x_j + b_h \,\big]_h + b_o, \qquad
        g = o + M_2 \, \mathrm{GELU}(M_1 \, \mathrm{LN}(o)), \qquad
        a_h = \mathrm{softmax}_j \frac{q_h \cdot K_h x_j}{\sqrt{C / h}}

    with :math:`q` the query layer of a learned vector, dealt out to the ``heads`` with their rows of ``K`` and ``V``.
    Of several ``latents`` the results are averaged.

    This is the form of the published vision transformers that end in it (``map`` in timm). In the paper (PMA of the Set
    Transformer) the query is added to ``o``, a normalisation follows each of the two sums, and the network has one
    layer with ReLU; several vectors then go on side by side. The keys and values of the positions are not formed (see
    :mod:`poolbench.heads.queries`), which gives the same numbers for less arithmetic; a bias of the keys is left out,
    since it cancels. No position is told apart from another.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        latents: learned queries.
        heads: parallel attentions of each, a divisor of ``channels``; None: 8, or the largest divisor below that.
        mlp_ratio: width of the hidden layer, in multiples of the channels.
    Use: where the head may be a network of its own and one query for all images is enough; on transformers it is the
        usual learned head.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lee, Lee, Kim, Kosiorek, Choi and Teh, ICML 2019 (Set Transformer); in this form Zhai, Kolesnikov, Houlsby
        and Beyer, CVPR 2022 (Scaling Vision Transformers).
    """

    variants = ({"latents": 2, "mlp_ratio": 1},)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        latents: int = 1,
        heads: int | None = None,
        mlp_ratio: int = 4,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.checked("latents", latents, whole(1))
        self.checked("heads", heads, or_null(whole(1)))
        self.checked("mlp_ratio", mlp_ratio, whole(1))
        self.heads = largest_divisor(channels, 8) if heads is None else heads
        if channels % self.heads:
            raise ValueError(f"{self._name()}: heads must divide channels={channels}, got {heads!r}")
        self.latents = nn.Parameter(torch.empty(latents, channels))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wider = nn.Linear(channels, mlp_ratio * channels)
        self.back = nn.Linear(mlp_ratio * channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the latent vectors; layers draw themselves."""
        nn.init.normal_(self.latents, std=self.channels**-0.5)  # timm's is truncated, at two deviations

    def pool(self, x: Tensor) -> Tensor:
        with full_precision(x):  # rounded scores would be shares that are off by several per cent
            positions = wide(x).flatten(2)
            queries = linear(self.query, wide(self.latents)).unsqueeze(0)
            weights = shares(queries, positions, self.heads, self.key.weight)
            averages = weights @ positions.transpose(1, 2)
            found = linear(self.out, values(averages, self.value.weight, self.heads) + wide(self.value.bias))
            more = F.gelu(linear(self.wider, normalised(self.norm, found)))
            return (found + linear(self.back, more)).mean(1).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        latents, channels, width = len(self.latents), self.channels, self.wider.out_features
        # The query's scale, five biases, the normalisation (mean, differences, squares and their sum, three products
        # and sums, the deviation), GELU, the sum, the average. Matrix products are counted where they happen.
        each = channels + (4 * channels + width) + (7 * channels + 4) + width + channels + channels
        return latents * (self.heads * softmax_flops(size[0] * size[1]) + each)

    def extra_repr(self) -> str:
        return f"latents={len(self.latents)}, heads={self.heads}"
