"""SimPool: the average of the map asks, the positions answer by how near they are to it."""

from collections.abc import Sequence

from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import number, or_null
from poolbench.heads.base import Head, wide
from poolbench.heads.queries import linear, normalised, shares, softmax_flops

_EPS = 1e-6  # of the normalisation, and what the least value becomes


class SimPool(Head):
    r"""Weighted power mean of the normalised positions, the map's average the query, then a linear classifier.

    .. math:: g_c = \Big(\sum_j a_j v_{cj}^\gamma\Big)^{1/\gamma}, \qquad
        a = \mathrm{softmax}_j \frac{(Q \bar x) \cdot (K z_j)}{\sqrt C}, \qquad
        v_{cj} = z_{cj} - \min_k z_{ck} + 10^{-6}

    with :math:`z_j` the channels of position :math:`j`, normalised to mean 0 and deviation 1 with a scale and a shift
    a channel that are learned (layer normalisation), and :math:`\bar x` the plain average. Without ``gamma`` it is
    :math:`\sum_j a_j z_j`. There are no values' weights and no layer after it.

    The authors take off the least value of the whole batch; here it is each channel's least in each image, as in the
    form that joined timm, so that no image sees the others. The authors' :math:`10^{-6}` in the normalisation is kept.
    No key is formed: :math:`K' Q \bar x` is multiplied with the positions, which gives the same numbers.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        gamma: :math:`\gamma`, a number from 0.1 to 6, or None; the authors take 2 for convolutional nets and 1.25 for
            transformers.
    Use: where objects fill a part of the image and few weights shall find it; its shares show where it looked.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1; with ``gamma`` at least two cells.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Psomas, Kakogeorgiou, Karantzalos and Avrithis, ICCV 2023.
    """

    variants = ({"gamma": None}, {"gamma": 1.25})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        gamma: float | None = 2.0,
    ):
        # At most 6: the least value to that power is 1e-36, and float32 ends at 1e-38.
        self.gamma = self.checked("gamma", gamma, or_null(number(least=0.1, most=6)))
        super().__init__(
            channels,
            num_classes,
            size,
            hidden,
            features=channels,
            least_cells=1 if gamma is None else 2,
            because="nothing is left of one pixel when each channel's least value is taken off; gamma=None takes any",
        )
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.query, self.key = (nn.Linear(channels, channels, bias=False) for _ in range(2))

    def pool(self, x: Tensor) -> Tensor:
        with full_precision(x):
            wider = wide(x).flatten(2)
            z = normalised(self.norm, wider.transpose(1, 2))
            query = linear(self.query, wider.mean(2).unsqueeze(1))
            weights = shares(query, z.transpose(1, 2), 1, self.key.weight)
            if self.gamma is None:
                return (weights @ z).flatten(1).to(x.dtype)
            v = z - (z.amin(1, keepdim=True) - _EPS)
            return (weights @ v.pow(self.gamma)).flatten(1).pow(1 / self.gamma).to(x.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        cells, channels = size[0] * size[1], self.channels
        # The average; mean, differences, squares and their sum, three products and sums, and the deviation; the query's
        # scale. The matrix products are counted where they happen.
        common = channels * cells + cells * (7 * channels + 4) + channels + softmax_flops(cells)
        if self.gamma is None:
            return common
        return common + channels * (cells - 1 + 1 + 2 * cells + 1)  # the least, differences to it, powers, root
