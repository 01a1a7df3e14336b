"""A small VGG-like net: the reference for CPUs."""

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from poolbench.checks import checked, wholes
from poolbench.models.sites import Sites, Trunk


class ConvNet(Trunk):
    """Stages of 3x3 convolutions, each with batch normalisation and ReLU, and a pool at the end of each stage.

    After stage ``i`` the side of the map is about ``1 / 2**i`` of the image, whatever the ratio of the pool: a pool of
    ratio sqrt 2 gets two sites a stage (each after a convolution while there are enough), one of ratio 4 a site every
    second stage. A pool that does not shrink gets one site a stage.

    Args:
        pool: makes the pool of each site.
        widths: channels of each stage.
        depths: convolutions of each stage, as many numbers as ``widths``.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: where comparisons should be quick on a CPU: small, normalised, a pool at the end of every stage.
    Source: ours, in the manner of Simonyan and Zisserman, ICLR 2015 (VGG).
    """

    def __init__(self, pool: Sites, widths: Sequence[int] = (32, 64, 128), depths: Sequence[int] = (1, 1, 2)):
        super().__init__()
        checked("model convnet: widths", widths, wholes())
        checked("model convnet: depths", depths, wholes())
        if len(widths) != len(depths):
            raise ValueError(
                f"model convnet: depths must have one number per stage, as widths has: "
                f"got {len(depths)} numbers for {len(widths)} stages"
            )
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            pools = pool.until(2.0**number, channels=width, native="max")
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, depth + 1):
                layers[f"conv{layer}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                layers[f"norm{layer}"] = nn.BatchNorm2d(width)
                layers[f"relu{layer}"] = nn.ReLU(inplace=True)
                channels = width
                for index, one in enumerate(pools, start=1):
                    if math.ceil(index * depth / len(pools)) == layer:  # spread evenly, the last at the end
                        layers[f"pool{index}"] = one
            stages[f"stage{number}"] = nn.Sequential(layers)
        self.features = nn.Sequential(stages)
        self.channels = channels
