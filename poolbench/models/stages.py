"""What plain nets are made of: convolutions with their ReLU, and the stages with a pool that they form."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class HeConv2d(nn.Conv2d):
    """A convolution with the initial weights of He et al. (ICCV 2015) for a ReLU of ``slope`` below 0, and a bias of 0.

    Dropout of a share ``dropped`` in front of it raises the mean square of what comes in; the weights are the smaller.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        slope: float = 0.0,
        dropped: float = 0.0,
    ):
        self.slope, self.dropped = slope, dropped  # before the base draws
        super().__init__(channels, width, kernel, stride=stride, padding=padding, bias=bias)

    def reset_parameters(self) -> None:
        scale = math.sqrt(2 * (1 - self.dropped) / (1 + self.slope**2))
        nn.init.normal_(self.weight, std=scale / math.sqrt(self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Filters(NamedTuple):
    """The filters of a layer: how many, their side, step and border (None: what keeps the size) in pixels."""

    width: int
    kernel: int
    stride: int = 1
    padding: int | None = None


def stage(
    channels: int,
    filters: Sequence[Filters],
    pools: Sequence[nn.Module] = (),
    batch_norm: bool = False,
    dropped: float = 0.0,
) -> nn.Sequential:
    """Convolutions with ReLU, and ``pools`` spread evenly over them, the last at the end.

    Args:
        channels: of the map that comes in.
        filters: those of each convolution.
        pools: as ``Sites.until`` gives them.
        batch_norm: normalise before each ReLU; the convolutions then have no bias.
        dropped: share of the values that dropout in front of the stage sets to 0.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, one in enumerate(filters, start=1):
        padding = one.kernel // 2 if one.padding is None else one.padding
        layers[f"conv{number}"] = HeConv2d(
            channels,
            one.width,
            one.kernel,
            one.stride,
            padding,
            not batch_norm,
            dropped=dropped if number == 1 else 0.0,
        )
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(one.width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        channels = one.width
        for index, pool in enumerate(pools, start=1):
            if math.ceil(index * len(filters) / len(pools)) == number:
                layers[f"pool{index}"] = pool
    return nn.Sequential(layers)
