"""Second-order pooling: how the channels vary together over the map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import full_precision
from poolbench.checks import one_of, whole
from poolbench.heads.base import Head, plus, wide


class Bilinear(Head):
    r"""Products of channels averaged over the map, normalised, then a linear classifier.

    With :math:`X` the :math:`d \times HW` matrix of the features, :math:`d` = ``dimension``:

    .. math:: S = \frac{1}{HW} X J X^\top, \quad J = I - \frac{1}{HW} 1 1^\top, \quad G = S^{1/2}

    ``normalisation="sqrt"`` (iSQRT-COV): the upper triangle of the covariance's square root, :math:`d (d + 1) / 2`
    values. The root is found by Newton-Schulz iterations: from :math:`Y = S / \mathrm{tr} S`, :math:`Z = I` repeat
    :math:`Y \leftarrow Y (3I - ZY) / 2`, :math:`Z \leftarrow (3I - ZY) Z / 2`, then
    :math:`G \approx \sqrt{\mathrm{tr} S} \, Y`. Where a map has fewer cells than channels, :math:`S` has directions
    of no variance, in which a true root has an infinite slope; few iterations keep it finite.

    ``normalisation="signed_sqrt"`` (B-CNN): :math:`B = X X^\top / HW`, of each value the signed root
    :math:`\mathrm{sign}(b) \sqrt{|b| + 10^{-8}}`, all :math:`d^2` divided by their L2 norm. A vector of length 1
    trains slowly from scratch; the paper starts from trained nets.

    All but the reduction is computed in float32, whatever the precision of training.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        normalisation: ``"sqrt"`` or ``"signed_sqrt"``.
        dimension: channels ``d`` to which a 1x1 convolution with batch normalisation and ReLU brings the map; None
            leaves it out.
        iterations: of Newton-Schulz, at least 1; the paper's 5.
    Use: fine-grained classes, told apart by which features occur together; the vector is long.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1; a covariance, so ``"sqrt"``, needs two cells.
    Raises: ValueError naming the option for a value that is not allowed, or for a map of one cell.
    Source: Li, Xie, Wang and Gao, CVPR 2018 (iSQRT-COV); Lin, RoyChowdhury and Maji, ICCV 2015 (B-CNN).
    """

    variants = (
        {"normalisation": "signed_sqrt", "dimension": 5},
        {"dimension": None},
        {"dimension": 4, "iterations": 1},
    )

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        normalisation: str = "sqrt",
        dimension: int | None = 64,
        iterations: int = 5,
    ):
        self.checked("normalisation", normalisation, one_of("sqrt", "signed_sqrt"))
        self.checked("iterations", iterations, whole(1))
        root = normalisation == "sqrt"
        d = channels if dimension is None else self.checked("dimension", dimension, whole(1))
        super().__init__(
            channels,
            num_classes,
            size,
            hidden,
            features=d * (d + 1) // 2 if root else d * d,
            least_cells=2 if root else 1,
            because="a single one has no covariance; normalisation='signed_sqrt' takes it",
        )
        self.normalisation, self.dimension, self.iterations = normalisation, d, iterations
        self.reduction = nn.Identity()
        if dimension is not None:
            conv = nn.Conv2d(channels, d, 1, bias=False)
            self.reduction = nn.Sequential(conv, nn.BatchNorm2d(d), nn.ReLU(inplace=True))

    def pool(self, x: Tensor) -> Tensor:
        reduced = self.reduction(x)
        with full_precision(x):  # autocast would take matrix products to half precision
            features = wide(reduced).flatten(2)
            pooled = self._root(features) if self.normalisation == "sqrt" else self._signed_root(features)
        return pooled.to(reduced.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        d, cells = self.dimension, size[0] * size[1]
        if self.normalisation == "signed_sqrt":
            return 9 * d * d  # division; sign, absolute value, sum, root, product; square, addition, division
        # Mean and difference; division; trace, its root; division by it, difference and half in each iteration; scale.
        return 2 * d * cells + d * d + d + d * d + 2 * self.iterations * d * d + d * (d + 1) // 2

    def _root(self, x: Tensor) -> Tensor:
        """``(N, d, M) -> (N, d (d + 1) / 2)``."""
        x = x - x.mean(2, keepdim=True)
        covariance = x @ x.mT / x.shape[2]
        # In a map that is the same everywhere nothing varies, and nothing may be divided by 0.
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-12)
        root = newton_schulz(covariance / trace.view(-1, 1, 1), self.iterations)
        # Made anew, not kept: weights that are loaded into memory without content would not bring it.
        rows, columns = torch.triu_indices(self.dimension, self.dimension, device=x.device)
        return root.flatten(1).index_select(1, rows * self.dimension + columns) * trace.sqrt().unsqueeze(1)

    def _signed_root(self, x: Tensor) -> Tensor:
        """``(N, d, M) -> (N, d * d)``."""
        products = (x @ x.mT / x.shape[2]).flatten(1)
        return F.normalize(products.sign() * plus(products.abs(), 1e-8).sqrt())


def newton_schulz(a: Tensor, iterations: int) -> Tensor:
    """Approximate square roots of symmetric matrices ``(N, d, d)`` with eigenvalues in [0, 1], by matrix products
    alone."""
    identity = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    step = (3 * identity - a) / 2
    y, z = a @ step, step
    for left in reversed(range(iterations - 1)):
        step = (3 * identity - z @ y) / 2
        y = y @ step
        z = step @ z if left else z  # the last one has no use
    return y
