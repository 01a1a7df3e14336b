"""A net that shrinks its maps gradually: a small convolution and a fractional pool, many times over."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import count

import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from poolbench.checks import TRUTH, Rule, checked, is_number, share, whole
from poolbench.models.sites import Sites, Trunk, ratio_of
from poolbench.models.stages import HeConv2d
from poolbench.pooling import create_pool
from poolbench.pooling.base import Pool
from poolbench.pooling.parts.tracing import as_leaf

_RATIO = Rule(lambda value: is_number(value) and 1 < value <= 2, "a number above 1 and at most 2")


class FractionalNet(Trunk):
    r"""``depth`` times a 2x2 convolution and a fractional max pool, then a 2x2 and a 1x1 convolution.

    In the paper's words :math:`(k n \mathrm{C2} - \mathrm{FMP} r)_l - \mathrm{C2} - \mathrm{C1}` with ``width`` k,
    ``depth`` l and ``ratio`` r: layer n has k n filters. Nothing is padded but the image, once: it lies in the middle
    of a field of zeros, as large as it takes for 1 pixel to be left in the end. A pool that shrinks more stands after
    fewer of the convolutions: one of ratio 2 after every second where ``ratio`` is root 2, after every third where it
    is the cube root of 2.

    - The defaults are the paper's net for MNIST, for colour images: a field of 36x36, 0.52 million parameters. Errors
      on MNIST: 0.44 % (one test), 0.34 % (12 tests averaged).
    - ``fractional_net_32c`` is the smaller of the author's nets for CIFAR-10: a field of 94x94, 3.2 million
      parameters.
    - ``fractional_net_160c`` is the larger one, 79 million parameters. Errors on CIFAR-10: 4.50 % (one test), 3.47 %
      (100 tests), after 810 epochs of batches of 50 with affine and colour distortions.

    Repeated tests, in which the pools draw again, are
    :func:`~poolbench.pooling.fractional_max.average_over_draws`. Dropout rises in a line from nothing after the first
    layer to ``dropout`` after the last, whole channels at a time as in the author's code (there for a batch, here for
    each image).

    Args:
        pool: makes the pool of each site; natively a fractional maximum of ``ratio``, pseudorandom and overlapping.
        width: filters of the first layer, and what each further one has more.
        depth: pooled layers.
        ratio: by how much the side shrinks from one pooled layer to the next, above 1 and at most 2.
        field: side of the padded image in pixels; None: 1 pixel is left in the end (by some pools a few).
        dropout: share of the channels that are dropped after the last layer.
        slope: of the leaky ReLU below 0.
        batch_norm: normalise before each ReLU, which the paper does not: without, a rate of 0.1 overflows and one of
            0.01 to 0.03 trains.
    Shape: ``(N, 3, H, W) -> (N, K)``, ``H``, ``W`` up to ``field``.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for an image that is too large.
    Use: where maps should shrink in many small steps; made for fractional pools, slow for its number of weights.
    Source: Graham, arXiv:1412.6071, 2014, and the author's code, SparseConvNet.
    """

    def __init__(
        self,
        pool: Sites,
        width: int = 32,
        depth: int = 6,
        ratio: float = 1.4142135623730951,
        field: int | None = None,
        dropout: float = 0.0,
        slope: float = 0.333,
        batch_norm: bool = False,
    ):
        super().__init__()
        checked("model fractional_net: width", width, whole(1))
        checked("model fractional_net: depth", depth, whole(1))
        checked("model fractional_net: dropout", dropout, share())
        checked("model fractional_net: slope", slope, share())
        checked("model fractional_net: batch_norm", batch_norm, TRUTH)
        checked("model fractional_net: ratio", ratio, _RATIO)
        native = partial(create_pool, "fractional_max", ratio=ratio)
        layers: OrderedDict[str, nn.Module] = OrderedDict(field=nn.Identity())  # until its size is known
        channels, pooled = 3, []
        for number in range(1, depth + 3):
            filters = width * number
            kernel = 2 if number < depth + 2 else 1
            dropped, before = dropout * (number - 1) / (depth + 1), dropout * max(0, number - 2) / (depth + 1)
            one: OrderedDict[str, nn.Module] = OrderedDict()
            one["conv"] = HeConv2d(channels, filters, kernel, bias=not batch_norm, slope=slope, dropped=before)
            if batch_norm:
                one["norm"] = nn.BatchNorm2d(filters)
            one["relu"] = nn.LeakyReLU(slope, inplace=True)
            one["dropout"] = nn.Dropout2d(dropped)
            pools = pool.until(ratio**number, channels=filters, native=native) if number <= depth else []
            one |= {f"pool{index}": each for index, each in enumerate(pools, start=1)}
            pooled.append([(each, ratio_of(each, filters)) for each in pools])
            layers[f"layer{number}"] = nn.Sequential(one)
            channels = filters
        # One field for all pools, but where one would leave nothing of it.
        least = next(side for side in count(_field(depth, ratio)) if _last(side, pooled[:-1]))
        if field is None:
            field = least
        elif not _last(checked("model fractional_net: field", field, whole(1)), pooled[:-1]):
            raise ValueError(
                f"model fractional_net: field must be large enough for {depth} layers and their pools, "
                f"as {least} pixels are, got {field}"
            )
        layers["field"] = Field(field)
        self.features = nn.Sequential(layers)
        self.channels = channels


class Field(nn.Module):
    """Puts images into the middle of a square of zeros, in which the net has room to shrink them.

    Args:
        side: of the square, in pixels.
    Shape: ``(N, C, H, W) -> (N, C, side, side)``.
    Raises: ValueError for an image that is larger than that.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        down, right = self.side - x.shape[-2], self.side - x.shape[-1]
        if down < 0 or right < 0:
            raise ValueError(
                f"model fractional_net: an image of {x.shape[-2]}x{x.shape[-1]} pixels is larger than the field of "
                f"{self.side}x{self.side}: give a larger field, or more depth"
            )
        return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))

    def extra_repr(self) -> str:
        return f"side={self.side}"


def _field(depth: int, ratio: float) -> int:
    """Side of which ``depth`` 2x2 convolutions with fractional pools, and one without, leave 1 pixel."""
    side = 2
    for _ in range(depth):
        # The author's rule: what the pool rounds to `side`, and at least 1 pixel more; then the convolution.
        side = max(math.floor(ratio * side + 0.5), side + 1) + 1
    return side


def _last(side: int, pooled: Sequence[Sequence[tuple[nn.Module, float]]]) -> int:
    """What 2x2 convolutions, each with these pools (and their ratios) after it, leave of ``side``; 0: nothing."""
    for pools in pooled:
        side -= 1
        for pool, ratio in pools:
            try:
                # A stranger's pool may round down.
                side = pool.output_size((side, side))[0] if isinstance(pool, Pool) else math.floor(side / ratio)
            except ValueError:
                return 0
        if side < 1:
            return 0
    return side
