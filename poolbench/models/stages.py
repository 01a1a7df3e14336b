"""What plain nets are made of: convolutions with their ReLU, and the stages with a pool that they form."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class HeConv2d(nn.Conv2d):
    """A convolution with the initial weights of He et al. (ICCV 2015) for a ReLU of ``slope`` below 0, and no bias to
    start with."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        slope: float = 0.0,
    ):
        self.slope = slope  # before the base draws
        super().__init__(channels, width, kernel, stride=stride, padding=padding, bias=bias)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, a=self.slope, nonlinearity="leaky_relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Filters(NamedTuple):
    """The filters of a layer: how many, their side, step and border (None: what keeps the size) in pixels."""

    width: int
    kernel: int
    stride: int = 1
    padding: int | None = None


def stage(
    channels: int, filters: Sequence[Filters], pools: Sequence[nn.Module] = (), batch_norm: bool = False
) -> nn.Sequential:
    """Convolutions with ReLU, and ``pools`` spread evenly over them, the last at the end.

    Args:
        channels: of the map that comes in.
        filters: those of each convolution.
        pools: as ``Sites.until`` gives them.
        batch_norm: normalise before each ReLU; the convolutions then have no bias.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, one in enumerate(filters, start=1):
        padding = one.kernel // 2 if one.padding is None else one.padding
        layers[f"conv{number}"] = HeConv2d(channels, one.width, one.kernel, one.stride, padding, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(one.width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = one.width
        for index, pool in enumerate(pools, start=1):
            if math.ceil(index * len(filters) / len(pools)) == number:
                layers[f"pool{index}"] = pool
    return nn.Sequential(layers)
