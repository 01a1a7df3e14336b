"""The VGG nets at CIFAR's size: 3x3 convolutions alone, deeper than wide, and five pools."""

import math
from collections import OrderedDict

from torch import nn

from poolbench.checks import checked, number, one_of
from poolbench.models.sites import Sites, Trunk

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # of each stage


class VGG(Trunk):
    """Five stages of 3x3 convolutions, each with batch normalisation and ReLU, and a pool at the end of each stage.

    The form that is usual for CIFAR: normalised, and one linear classifier in place of the paper's three fully
    connected layers. Images of 32x32 pixels end as 1x1, so the native head, an average, does nothing there; at other
    sizes it does. After stage ``i`` the side is about ``1 / 2**i`` of the image, whatever the ratio of the pool. The
    initial weights are torch's.

    The paper has no result on CIFAR. Errors on CIFAR-10 of depth 16 with flips and shifts of up to 4 pixels: 7.36 % (a
    widely used repository, the best epoch on the test set), 6.75 % with one more fully connected layer (Li et al., ICLR
    2017). Parameters for 10 classes: 9,231,114 (depth 11), 9,416,010 (13), 14,728,266 (16), 20,040,522 (19).

    Args:
        pool: makes the pool of each site.
        depth: layers with weights as the paper counts them, three of them fully connected there: 11, 13, 16 or 19.
        width: factor on the channels of all stages; 1 / 8 is for CPUs.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of: 32 pixels for those of
        ratio 2.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: where a plain deep net is wanted, with more pools than most, down to a single pixel.
    Source: Simonyan and Zisserman, ICLR 2015.
    """

    def __init__(self, pool: Sites, depth: int = 16, width: float = 1.0):
        super().__init__()
        convolutions = _CONVOLUTIONS[checked("model vgg: depth", depth, one_of(*_CONVOLUTIONS))]
        checked("model vgg: width", width, number(least=0, open=True))
        widths = [max(1, round(width * channels)) for channels in _WIDTHS]
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for stage, (filters, count) in enumerate(zip(widths, convolutions, strict=True), start=1):
            pools = pool.until(2.0**stage, channels=filters, native="max")
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, count + 1):
                layers[f"conv{layer}"] = nn.Conv2d(channels, filters, 3, padding=1)
                layers[f"norm{layer}"] = nn.BatchNorm2d(filters)
                layers[f"relu{layer}"] = nn.ReLU(inplace=True)
                channels = filters
                for index, one in enumerate(pools, start=1):
                    if math.ceil(index * count / len(pools)) == layer:  # spread evenly, the last at the end
                        layers[f"pool{index}"] = one
            stages[f"stage{stage}"] = nn.Sequential(layers)
        self.features = nn.Sequential(stages)
        self.channels = channels
