"""Residual nets for small images: ResNet-20 and its deeper kin."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import checked, whole, wholes
from poolbench.models.sites import Sites, Trunk


class ResNet(Trunk):
    """A 3x3 convolution, then stages of residual blocks; a pool stands at the entrance of every stage but the first.

    The published net, ``pool=native``, has no pool: it shrinks by stride 2 in the first convolution of a stage and by
    dropping pixels in its shortcut. With any other pool both branches of that block see one pooled map, so a random or
    chosen region is the same for both. Shortcuts without parameters (option A: the missing
    channels are zeros). ``depth = 2 * len(widths) * blocks + 2``: three blocks a stage make ResNet-20 with 269,722
    parameters.

    Args:
        pool: makes the pool of each site.
        widths: channels of each stage.
        blocks: residual blocks (two convolutions each) a stage: 3 for ResNet-20, 5 for 32, 7 for 44, 9 for 56.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: to see whether a finding holds beside shortcuts, in a net that was published without any pool.
    Source: He, Zhang, Ren and Sun, CVPR 2016, section 4.2.
    """

    def __init__(self, pool: Sites, widths: Sequence[int] = (16, 32, 64), blocks: int = 3):
        super().__init__()
        checked("model resnet: widths", widths, wholes())
        if any(after < before for before, after in pairwise(widths)):
            raise ValueError(f"model resnet: widths must not fall, since shortcuts only add channels, got {widths!r}")
        checked("model resnet: blocks", blocks, whole(1))
        channels = widths[0]
        stem = OrderedDict(conv=_conv(3, channels), norm=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem))
        for number, width in enumerate(widths, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            original = number > 1 and not pool.per_site and pool.native
            if number > 1 and not original:
                for index, one in enumerate(pool.until(2.0 ** (number - 1), channels), start=1):
                    layers[f"pool{index}"] = one
            for block in range(1, blocks + 1):
                layers[f"block{block}"] = _Block(channels, width, stride=2 if original and block == 1 else 1)
                channels = width
            stages[f"stage{number}"] = nn.Sequential(layers)
        self.features = nn.Sequential(stages)
        self.channels = channels


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _conv(channels, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = _conv(width, width), nn.BatchNorm2d(width)
        self.added, self.stride = width - channels, stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        x = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        shortcut = F.pad(x, (0, 0, 0, 0, 0, self.added)) if self.added else x
        return F.relu(y + shortcut, inplace=True)


class _conv(nn.Conv2d):  # noqa: N801 - reads as the function that it stands for
    """A 3x3 convolution without bias, initialised as He et al. do (ICCV 2015)."""

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__(channels, width, 3, stride=stride, padding=1, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
