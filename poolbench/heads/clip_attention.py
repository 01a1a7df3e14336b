"""CLIP's attention pool: the map's average, told apart from the positions by a learned table, attends to them all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import or_null, whole
from poolbench.heads.base import Head, wide
from poolbench.heads.queries import largest_divisor, linear, shares, softmax_flops, values

_GRID = (7, 7)  # CLIP's: maps of images of 224 pixels


class ClipAttention(Head):
    r"""One multi-head attention whose query is the average of the map, positions known by a learned table, then a
    linear classifier.

    .. math:: t_0 = \bar x + p_0, \quad t_j = x_j + p_j, \qquad
        g = \big[\, V_h \textstyle\sum_{j \ge 0} a_{hj} t_j + b_h \,\big]_h, \qquad
        a_h = \mathrm{softmax}_{j \ge 0} \frac{Q_h t_0 \cdot K_h t_j}{\sqrt{C / h}}

    with :math:`Q`, :math:`K` and :math:`V` dealt out to the ``heads`` by rows. CLIP projects the vector to the space
    that images and texts share; here the classifier is that projection.

    The table has a vector for the average and one for each position of a map of ``size``; without ``size`` it is made
    for 7x7, CLIP's. Maps of other sizes are served by the table resampled to them, bicubic and smoothed where it gets
    smaller, as timm does (CLIP itself refuses them). It is resampled by two small matrices, whose gradient is the same
    in every run; a graph that is compiled or exported holds them for all sizes. The keys and values of the positions
    are not formed (see :mod:`poolbench.heads.queries`), which gives the same numbers for less arithmetic; a bias of the
    keys is left out, since it cancels.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        heads: parallel attentions, a divisor of ``channels``; None: one for 64 channels, CLIP's, or fewer so that they
            divide ``channels``.
    Use: where it matters where something is and the head may have weights of its own; with it a net of CLIP ends.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger and Sutskever, ICML
        2021 (CLIP).
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        heads: int | None = None,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.checked("heads", heads, or_null(whole(1)))
        self.heads = largest_divisor(channels, channels // 64) if heads is None else heads
        if channels % self.heads:
            raise ValueError(f"{self._name()}: heads must divide channels={channels}, got {heads!r}")
        self.grid = _GRID if self.size is None else self.size
        self.table = nn.Parameter(torch.empty(1 + self.grid[0] * self.grid[1], channels))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table and the layers, as CLIP does; biases start at 0, as in timm."""
        for weight in (self.table, self.query.weight, self.key.weight, self.value.weight):
            nn.init.normal_(weight, std=self.channels**-0.5)
        for bias in (self.query.bias, self.value.bias):
            nn.init.zeros_(bias)

    def pool(self, x: Tensor) -> Tensor:
        with full_precision(x):  # rounded scores would be shares that are off by several per cent
            positions = wide(x).flatten(2)
            tokens = torch.cat([positions.mean(2, keepdim=True), positions], 2)
            tokens = tokens + self._table_for(x.shape[2], x.shape[3]).T
            weights = shares(linear(self.query, tokens[:, :, 0]).unsqueeze(1), tokens, self.heads, self.key.weight)
            averages = weights @ tokens.transpose(1, 2)
            found = values(averages, self.value.weight, self.heads) + wide(self.value.bias)
            return found.flatten(1).to(x.dtype)

    def _table_for(self, height: int, width: int) -> Tensor:
        """The table for a map of that size, ``(1 + height * width, C)``."""
        table = wide(self.table)
        # In a graph, where the size may be open, without asking: at the table's own size the matrices are those of 1.
        if not torch.compiler.is_compiling() and (height, width) == self.grid:
            return table
        rows, columns = (_resampling(*sides, table) for sides in zip(self.grid, (height, width), strict=True))
        cells = torch.einsum("yh,hwc->ywc", rows, table[1:].unflatten(0, self.grid))
        return torch.cat([table[:1], torch.einsum("xw,ywc->yxc", columns, cells).flatten(0, 1)])

    def flops(self, size: tuple[int, int]) -> int:
        cells, channels = size[0] * size[1], self.channels
        # The average and the table; the query's scale and the two biases. The matrix products are counted where they
        # happen.
        return channels * (cells + cells + 1) + 3 * channels + self.heads * softmax_flops(cells + 1)

    def extra_repr(self) -> str:
        return f"grid={self.grid}, heads={self.heads}"


def _resampling(old: int, new: int, like: Tensor) -> Tensor:
    """Weights of ``old`` cells of a line in each of ``new`` ones, ``(new, old)``: Keys's cubic, as wide as a new cell
    where those are larger than the old, and rescaled where it reaches beyond the line.

    Source: Keys, IEEE TASSP 1981, with a = -1/2; what torch and Pillow call bicubic with antialiasing.
    """
    centres = (torch.arange(new, dtype=like.dtype, device=like.device) + 0.5) * (old / new)
    cells = torch.arange(old, dtype=like.dtype, device=like.device) + 0.5
    reach = (2 * centres[:1]).clamp(min=1)  # a tensor: in a graph the number of cells may be open
    away = ((cells - centres.unsqueeze(1)) / reach).abs()
    near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
    weights = torch.where(away < 1, near, torch.where(away < 2, far, 0))
    return weights / weights.sum(1, keepdim=True)
