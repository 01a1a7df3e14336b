"""Krizhevsky's nets for CIFAR-10 of 2011, the first that GPUs trained in minutes: overlapping pools of two kinds."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from poolbench.checks import checked, one_of
from poolbench.models.sites import Sites, Trunk, map_sizes
from poolbench.pooling import create_pool
from poolbench.pooling.parts.tracing import as_leaf

_POOLS = {"max": partial(create_pool, "overlapping"), "average": partial(create_pool, "overlapping", mode="average")}


class _Stage(NamedTuple):
    """A 5x5 convolution: its filters, what the pool was, and what follows it in which order."""

    width: int
    pool: str
    order: str


class _Variant(NamedTuple):
    """One of the files: stages, filters of the locally connected layers, the head's hidden layers, the deviation of its
    initial weights, and the normalisation."""

    stages: Sequence[_Stage]
    local: Sequence[int] = ()
    hidden: Sequence[int] = ()
    head_std: float = 0.01
    norm: Callable[[int], nn.Module] | None = None


_VARIANTS = {
    "80sec": _Variant(
        stages=(_Stage(32, "max", "pool relu"), _Stage(32, "average", "relu pool"), _Stage(64, "average", "relu pool")),
        hidden=(64,),
        head_std=0.1,
    ),
    "18pct": _Variant(
        stages=(
            _Stage(32, "max", "pool relu norm"),
            _Stage(32, "average", "relu pool norm"),
            _Stage(64, "average", "relu pool"),
        ),
        norm=lambda channels: ResponseNorm(channels, size=3, scale=5e-5, across=False),
    ),
    "13pct": _Variant(stages=(_Stage(64, "max", "relu pool"),) * 2, local=(32, 32)),
    "11pct": _Variant(
        stages=(_Stage(64, "max", "relu pool norm"), _Stage(64, "max", "relu norm pool")),
        local=(64, 32),
        norm=lambda channels: ResponseNorm(channels, size=9, scale=0.001, across=True),
    ),
}
_PIXELS = 64  # the deviation of CIFAR's pixels from their mean, of 0 to 255


class CudaConvNet(Trunk):
    """Two or three 5x5 convolutions with 3x3 pools every 2 pixels, then a fully or two locally connected layers.

    ======== ======= ============ ============= ===================================================
    variant  error % parameters   image         what it has
    ======== ======= ============ ============= ===================================================
    80sec    26      145,578      32x32         a maximum, two averages, a hidden layer of 64
    18pct    18      89,578       32x32         the same pools, each map normalised, no hidden layer
    13pct    13      1,116,490    24x24         two maxima, two locally connected layers
    11pct    11      2,112,970    24x24         the same, wider, normalised across the maps
    ======== ======= ============ ============= ===================================================

    Errors and parameters are those on CIFAR-10, the first two without augmentation, the others with random crops of
    24x24 and flips, tested on 10 views. All of SGD with rate 0.001 and momentum 0.9 in batches of 128; the longest took
    about 500 epochs. In ``80sec`` and ``18pct`` the first pool stands before the ReLU, which is the same for a maximum
    and not for others. The first normalisation of ``11pct`` follows its pool, the second precedes it.

    ``init="paper"`` draws as the files say, with a deviation of 0.0001 in the first layer, 0.01 in the other
    convolutions, 0.04 in the locally connected layers and 0.1 (``80sec``) or 0.01 on top. There pixels went from 0 to
    255; for images of unit deviation the first is 64 times as large here, which gives the same maps. They
    are faint: in 60 steps of SGD with rate 0.01 the loss hardly moved, where with ``"he"`` it fell from 2.3 to 1.8. The
    rate of 0.1 that normalised nets take is too much for these.

    Args:
        pool: makes the pool of each site.
        input_size: ``(H, W)`` of the images in pixels, to which locally connected layers are tied.
        variant: ``"80sec"``, ``"18pct"``, ``"13pct"`` or ``"11pct"``.
        init: ``"he"`` or ``"paper"``.
    Shape: ``(N, 3, H, W) -> (N, K)`` with ``(H, W) = input_size``; ``80sec`` and ``18pct`` take any ``H``, ``W`` that
        the pools leave something of under a head that does.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map of another size.
    Use: to ask how pools fare where they were first compared: in shallow nets without batch normalisation.
    Source: Krizhevsky, cuda-convnet, 2011; ``11pct`` and ``13pct`` in Krizhevsky, Sutskever and Hinton, NIPS 2012,
        section 3.3.
    """

    def __init__(self, pool: Sites, input_size: tuple[int, int], variant: str = "80sec", init: str = "he"):
        super().__init__()
        chosen = _VARIANTS[checked("model cuda_convnet: variant", variant, one_of(*_VARIANTS))]
        paper = checked("model cuda_convnet: init", init, one_of("he", "paper")) == "paper"
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, (width, original, order) in enumerate(chosen.stages, start=1):
            std = None if not paper else 1e-4 * _PIXELS if number == 1 else 0.01
            layers: OrderedDict[str, nn.Module] = OrderedDict(conv=_Conv(channels, width, std))
            for part in order.split():
                if part == "pool":
                    pools = pool.until(2.0**number, channels=width, native=_POOLS[original])
                    layers |= {f"pool{index}": one for index, one in enumerate(pools, start=1)}
                elif part == "relu":
                    layers[part] = nn.ReLU()  # not in place: a pool before it may need its output for its gradient
                elif chosen.norm is not None:
                    layers[part] = chosen.norm(width)
            blocks[f"stage{number}"] = nn.Sequential(layers)
            channels = width
        if chosen.local:
            size = map_sizes(nn.Sequential(blocks), input_size)[-1][1]
        for number, width in enumerate(chosen.local, start=len(chosen.stages) + 1):
            local = LocallyConnected2d(channels, width, size, std=0.04 if paper else None)
            blocks[f"stage{number}"] = nn.Sequential(OrderedDict(local=local, relu=nn.ReLU(inplace=True)))
            channels = width
        self.features = nn.Sequential(blocks)
        self.channels = channels
        self.native_head = ("flatten", {"hidden": chosen.hidden})
        self.head_std = chosen.head_std if paper else None
        self.original_head = False

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        self.original_head = True
        return super().make_native_head(num_classes, size)

    def reset_parameters(self) -> None:
        """The paper's initial weights of the head, over those that it drew itself."""
        if self.head_std is not None and self.original_head:
            for layer in self.head.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=self.head_std)
                    nn.init.zeros_(layer.bias)


class ResponseNorm(nn.Module):
    r"""Divides by the strength of the neighbourhood, within each map or across the maps at each position.

    .. math:: y = x \left(1 + \frac{\alpha}{n} \sum_{i \in R} x_i^2\right)^{-0.75}

    ``R`` are the ``n`` cells of a square around the position, or the ``n`` maps around the map; those beyond the border
    are zero.

    Args:
        channels: channels ``C`` of the input.
        size: side of the square in pixels, or number of maps; odd.
        scale: ``alpha`` > 0.
        across: across the maps, as in :func:`torch.nn.functional.local_response_norm`.
    Shape: ``(N, C, H, W) -> (N, C, H, W)``.
    Source: Krizhevsky, cuda-convnet, 2011 (``rnorm`` and ``cmrnorm``).
    """

    def __init__(self, channels: int, size: int, scale: float, across: bool):
        super().__init__()
        self.size, self.scale, self.across = size, scale, across

    def forward(self, x: Tensor) -> Tensor:
        squares = x.square()
        if self.across:
            # A product with a matrix takes a quarter of the time of torch's own pooling over the channels. It is made
            # anew, not kept: weights that are loaded into memory without content would not bring it.
            index = torch.arange(x.shape[1], device=x.device)
            near = ((index[:, None] - index).abs() <= self.size // 2).to(x.dtype) / self.size
            mean = F.conv2d(squares, near[:, :, None, None])
        else:
            mean = F.avg_pool2d(squares, self.size, stride=1, padding=self.size // 2)
        return x * (1 + self.scale * mean).pow(-0.75)

    def extra_repr(self) -> str:
        return f"size={self.size}, scale={self.scale}, across={self.across}"


class LocallyConnected2d(nn.Module):
    """A convolution whose filters differ from position to position.

    Args:
        channels: channels ``C`` of the input.
        width: filters ``F`` at each position.
        size: ``(H, W)`` of the map in pixels.
        kernel: side of the filters in pixels, odd; the map is padded by half of it.
        std: deviation of the initial weights; None: He's.
    Shape: ``(N, C, H, W) -> (N, F, H, W)`` with ``(H, W) = size``.
    Raises: ValueError for a map of another size.
    """

    def __init__(self, channels: int, width: int, size: tuple[int, int], kernel: int = 3, std: float | None = None):
        super().__init__()
        self.size, self.kernel, self.std = size, kernel, std
        positions = size[0] * size[1]
        self.weight = nn.Parameter(torch.empty(positions, channels * kernel**2, width))
        self.bias = nn.Parameter(torch.empty(positions * width))  # flat, as those that no optimiser lets decay
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=(2 / self.weight.shape[1]) ** 0.5 if self.std is None else self.std)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        if x.shape[-2:] != self.size:
            raise ValueError(
                f"model cuda_convnet: its locally connected layers were built for maps of "
                f"{self.size[0]}x{self.size[1]} pixels and got {x.shape[-2]}x{x.shape[-1]}"
            )
        patches = F.unfold(x, self.kernel, padding=self.kernel // 2).permute(2, 0, 1)  # positions first
        y = torch.baddbmm(self.bias.view(len(self.weight), 1, -1), patches, self.weight)
        return y.permute(1, 2, 0).reshape(len(x), self.weight.shape[2], *self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}, kernel={self.kernel}"


class _Conv(nn.Conv2d):
    """A 5x5 convolution without bias to start with; initial weights of deviation ``std``, He's if None."""

    def __init__(self, channels: int, width: int, std: float | None):
        self.std = std  # before the base draws
        super().__init__(channels, width, 5, padding=2)

    def reset_parameters(self) -> None:
        if self.std is None:
            nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        else:
            nn.init.normal_(self.weight, std=self.std)
        nn.init.zeros_(self.bias)
