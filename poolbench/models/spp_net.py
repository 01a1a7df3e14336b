"""Convolutions under a spatial pyramid, which one net can train on images of several sizes."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from poolbench.checks import TRUTH, checked, whole, wholes
from poolbench.models.sites import Sites, Trunk
from poolbench.models.stages import Filters, stage


class SppNet(Trunk):
    """Stages of 3x3 convolutions with ReLU, a pool between stages, and a pyramid of 4x4, 2x2 and 1x1 bins on top.

    The paper's nets are of ImageNet's size; this one is made for small images as theirs are: the pyramid takes the
    place of the last pool, so the fully connected layers see ``21 * C`` values whatever the image's size, of 8x8
    positions at 32 pixels and 6x6 at 26. Without ``batch_norm`` it has 2,524,490 parameters, and 2,065,738 with bins of
    3x3, 2x2 and 1x1.

    The paper trains at two sizes in turn, an epoch each, the same crop resized (``trainer=multi_size``): errors of its
    7-layer net on ImageNet (top 1, 10 views) are 32.01 % without a pyramid, 30.36 with one, 29.68 with one and two
    sizes. Its fully connected layers have dropout 0.5, as those of the head have.

    The paper's nets have no batch normalisation, and start at a rate of 0.01. This one has it unless told otherwise:
    at a rate of 0.1, as our other nets like it, it is at chance without. From 0.03 down both train.

    Args:
        pool: makes the pool of each site.
        widths: channels of each stage.
        depth: convolutions a stage.
        batch_norm: normalise before each ReLU of the trunk.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: to train on and test with images of several sizes without a layer that minds.
    Source: He, Zhang, Ren and Sun, ECCV 2014 (arXiv:1406.4729), at the scale of CIFAR.
    """

    native_head = ("spp", {"levels": (4, 2, 1), "hidden": (256,)})

    def __init__(self, pool: Sites, widths: Sequence[int] = (64, 128, 256), depth: int = 2, batch_norm: bool = True):
        super().__init__()
        checked("model spp_net: widths", widths, wholes())
        checked("model spp_net: depth", depth, whole(1))
        checked("model spp_net: batch_norm", batch_norm, TRUTH)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, width in enumerate(widths, start=1):
            pools = pool.until(2.0**number, channels=width, native="max") if number < len(widths) else []
            stages[f"stage{number}"] = stage(channels, [Filters(width, 3)] * depth, pools, batch_norm)
            channels = width
        self.features = nn.Sequential(stages)
        self.channels = channels
