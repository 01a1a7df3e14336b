"""A small net of depthwise-separable convolutions, as phones have them."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from poolbench.checks import checked, whole, wholes
from poolbench.models.sites import Sites, Trunk


class SeparableNet(Trunk):
    """Stages of depthwise-separable convolutions with a pool in the first of each.

    A separable convolution is a 3x3 convolution of each channel by itself, then one of 1x1 over all channels, each with
    batch normalisation and ReLU. The pool stands after the 1x1 convolution, before its normalisation; a second pool of
    a stage (ratio sqrt 2) in its next separable convolution. With ``pool=subsample`` an evaluated net is the
    one whose depthwise convolutions have the stride, as MobileNet has it: all between the two places works pixel by
    pixel. There is little to a pixel here but its channels, so operators that mix channels cost as much as a layer.

    Args:
        pool: makes the pool of each site.
        stem: channels of the first convolution, 3x3 with stride 1.
        widths: channels of each stage.
        depth: separable convolutions of each stage.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: to see whether a finding on dense convolutions holds where they are depthwise.
    Source: ours, after Howard et al., arXiv:1704.04861, 2017 (MobileNet).
    """

    def __init__(self, pool: Sites, stem: int = 32, widths: Sequence[int] = (64, 128, 256), depth: int = 2):
        super().__init__()
        checked("model separable_net: stem", stem, whole(1))
        checked("model separable_net: widths", widths, wholes())
        checked("model separable_net: depth", depth, whole(1))
        first = OrderedDict(
            conv=nn.Conv2d(3, stem, 3, padding=1, bias=False), norm=nn.BatchNorm2d(stem), relu=nn.ReLU()
        )
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(first))
        channels = stem
        for number, width in enumerate(widths, start=1):
            pools = pool.until(2.0**number, channels=width, native="max")
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, depth + 1):
                layers[f"depthwise{layer}"] = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
                layers[f"depthwise_norm{layer}"] = nn.BatchNorm2d(channels)
                layers[f"depthwise_relu{layer}"] = nn.ReLU(inplace=True)
                layers[f"pointwise{layer}"] = nn.Conv2d(channels, width, 1, bias=False)
                for index, one in enumerate(pools):
                    if 1 + index * depth // len(pools) == layer:  # spread evenly, the first one first
                        layers[f"pool{index + 1}"] = one
                layers[f"norm{layer}"] = nn.BatchNorm2d(width)
                layers[f"relu{layer}"] = nn.ReLU(inplace=True)
                channels = width
            stages[f"stage{number}"] = nn.Sequential(layers)
        self.features = nn.Sequential(stages)
        self.channels = channels
