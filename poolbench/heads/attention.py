"""Attention pooling: a learned query decides how much each position counts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import number, one_of, whole
from poolbench.heads.base import Head, wide


class Attention(Head):
    r"""Average over the positions, weighted by the softmax of learned scores, then a linear classifier.

    .. math:: g = \sum_{ij} \frac{e^{w \cdot x_{ij}}}{\sum_{kl} e^{w \cdot x_{kl}}} \, x_{ij}

    ``kind="query"``: the formula. It starts at :math:`w = 0`, the global average, and with large :math:`w` picks one
    position. With ``heads`` each of as many groups of channels has its own scores, of all channels.

    ``kind="gated"``: in place of :math:`w \cdot x_{ij}` the scores

    .. math:: s_{ij} = w \cdot \big(\tanh(V x_{ij} + b) \odot \sigma(U x_{ij} + c)\big)

    of ``dimension`` units, each opened or closed by a gate, so that they need not be linear in what a position holds.
    The layers start as torch draws them, as in the authors' code. A bias of the scores is left out, since it cancels.

    ``kind="class"``: class attention. A learned vector, the class token, passes through ``blocks``. In each it attends
    to itself and to all positions, goes through a layer of four times the width and back, and both results are added
    to it, scaled channel by channel; the positions stay what they are. After a last normalisation it is the vector.
    No position is told apart from another, so any size works; a bias of the keys is left out, since it cancels.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        kind: ``"query"``, ``"gated"`` or ``"class"``.
        heads: parallel attentions, a divisor of ``channels``.
        blocks: of class attention; the paper's 2.
        layer_scale: where the channelwise scales of a block start, above 0; the paper's 0.1 for nets up to depth 18.
        dimension: units of the gated layer; the authors' code has 128.
    Use: where few positions hold what matters and they are not the strongest ones; ``gated`` where which they are takes
        more than one direction to tell, ``class`` where the head may be a network of its own.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Ilse, Tomczak and Welling, ICML 2018 (attention as pooling, gated in their equation 9; the query is its
        simplest form); class attention: Touvron, Cord, Sablayrolles, Synnaeve and Jegou, ICCV 2021 (CaiT).
    """

    variants = (
        {"kind": "class"},
        {"kind": "class", "blocks": 1, "layer_scale": 1.0},
        {"kind": "gated", "dimension": 5},
    )

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        kind: str = "query",
        heads: int = 1,
        blocks: int = 2,
        layer_scale: float = 0.1,
        dimension: int = 128,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.kind = self.checked("kind", kind, one_of("query", "gated", "class"))
        self.heads = self.checked("heads", heads, whole(1))
        self.checked("blocks", blocks, whole(1))
        self.checked("layer_scale", layer_scale, number(least=0, open=True))
        self.checked("dimension", dimension, whole(1))
        if channels % heads:
            raise ValueError(f"{self._name()}: heads must divide channels={channels}, got {heads!r}")
        if kind == "query":
            self.score = nn.Linear(channels, heads, bias=False)
        elif kind == "gated":
            self.content, self.gate = (nn.Linear(channels, dimension) for _ in range(2))
            self.score = nn.Linear(dimension, heads, bias=False)
        else:
            self.token = nn.Parameter(torch.empty(channels))
            self.blocks = nn.ModuleList(_ClassBlock(channels, heads, layer_scale) for _ in range(blocks))
            self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the query as the average; draw the class token. Layers draw themselves."""
        if self.kind == "query":
            nn.init.zeros_(self.score.weight)
        elif self.kind == "class":
            nn.init.normal_(self.token, std=0.02)  # the authors' is truncated, at 100 deviations

    def pool(self, x: Tensor) -> Tensor:
        positions = x.flatten(2).transpose(1, 2)
        if self.kind != "class":
            with full_precision(x):  # rounded scores would be shares that are off by several per cent
                wider = wide(positions)
                scores = F.linear(self._seen(wider), wide(self.score.weight))
                return _average(scores.transpose(1, 2), wider).to(x.dtype)
        token = self.token.to(x.dtype).expand(x.shape[0], 1, -1)
        for block in self.blocks:
            token = block(token, positions)
        return self.norm(token).flatten(1)

    def _seen(self, positions: Tensor) -> Tensor:
        """What is scored: the positions ``(N, P, C)`` themselves, or what the gated layer makes of them."""
        if self.kind == "query":
            return positions
        content, gate = (F.linear(positions, wide(of.weight), wide(of.bias)) for of in (self.content, self.gate))
        return content.tanh() * gate.sigmoid()

    def flops(self, size: tuple[int, int]) -> int:
        # The softmax: comparisons for the peak, differences to it, exponentials, additions, divisions.
        cells = size[0] * size[1]
        if self.kind != "class":
            # Of the gated layer two biases, two functions, a product.
            gated = 5 * self.content.out_features * cells if self.kind == "gated" else 0
            return self.heads * (5 * cells - 2) + gated
        # The token is one position more; the query, the two scales, the two sums.
        return len(self.blocks) * (self.heads * (5 * (cells + 1) - 2) + 5 * self.channels)


class _ClassBlock(nn.Module):
    """One block of class attention: ``(N, 1, C)`` and ``(N, HW, C)`` ``-> (N, 1, C)``."""

    def __init__(self, channels: int, heads: int, scale: float):
        super().__init__()
        self.heads, self.start = heads, scale
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.scale1, self.scale2 = (nn.Parameter(torch.empty(channels)) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for scale in (self.scale1, self.scale2):
            nn.init.constant_(scale, self.start)

    def forward(self, token: Tensor, positions: Tensor) -> Tensor:
        all_positions = self.norm1(torch.cat([token, positions], 1))
        query = self.query(all_positions[:, :1]).unflatten(2, (self.heads, -1))
        key = self.key(all_positions).unflatten(2, (self.heads, -1))
        scores = torch.einsum("nqhd,nphd->nhp", query * query.shape[3] ** -0.5, key)
        found = self.out(_average(scores, self.value(all_positions)))
        token = token + self.scale1 * found.unsqueeze(1)
        return token + self.scale2 * self.mlp(self.norm2(token))


def _average(scores: Tensor, values: Tensor) -> Tensor:
    """Average of values ``(N, P, C)`` over ``P`` by the softmax of scores ``(N, h, P)``, each of the ``h`` for its
    group of channels: ``(N, C)``."""
    groups = values.unflatten(2, (scores.shape[1], -1))
    return torch.einsum("nhp,nphd->nhd", scores.softmax(2), groups).flatten(1)
