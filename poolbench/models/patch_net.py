"""A small net that cuts the image into patches first, and mixes places and channels in turn."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from poolbench.checks import Rule, checked, is_whole, whole, wholes
from poolbench.models.sites import Sites, Trunk

_ODD = Rule(lambda value: is_whole(value, 1) and value % 2 == 1, "an odd whole number of at least 1")


class PatchNet(Trunk):
    """A convolution that cuts the image into patches, then stages of mixing blocks, a pool before each but the first.

    A block is a depthwise convolution with GELU and batch normalisation, added to what came in, then a 1x1 convolution
    with the same. Between two stages the pool shrinks the map of the stage before, and a 1x1 convolution widens what is
    left; several pools of a small ratio stand in a row. ``pool=convnext_down`` is ConvNeXt's layer. The patches
    themselves are no site: they have 3 channels.

    Args:
        pool: makes the pool of each site.
        patch: side of the patches in pixels.
        widths: channels of each stage.
        depth: blocks of each stage.
        kernel: side of the depthwise convolutions in pixels, odd.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the patches and the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: to see whether a finding on nets that begin with small convolutions holds where they begin with patches.
    Source: ours; blocks after Trockman and Kolter, TMLR 2023 (ConvMixer), stages after Liu et al., CVPR 2022
        (ConvNeXt).
    """

    def __init__(
        self,
        pool: Sites,
        patch: int = 2,
        widths: Sequence[int] = (64, 128, 256),
        depth: int = 2,
        kernel: int = 5,
    ):
        super().__init__()
        checked("model patch_net: patch", patch, whole(1))
        checked("model patch_net: widths", widths, wholes())
        checked("model patch_net: depth", depth, whole(1))
        checked("model patch_net: kernel", kernel, _ODD)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, width in enumerate(widths, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if number == 1:
                layers["patches"] = nn.Conv2d(channels, width, patch, patch)
            else:
                for index, one in enumerate(pool.until(2.0 ** (number - 1), channels, native="max"), 1):
                    layers[f"pool{index}"] = one
                layers["widen"] = nn.Conv2d(channels, width, 1)
            layers |= {"gelu": nn.GELU(), "norm": nn.BatchNorm2d(width)}
            for block in range(1, depth + 1):
                layers[f"block{block}"] = _Block(width, kernel)
            stages[f"stage{number}"] = nn.Sequential(layers)
            channels = width
        self.features = nn.Sequential(stages)
        self.channels = channels


class _Block(nn.Module):
    """Mixes places, then channels."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.gelu = nn.GELU()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.gelu(self.depthwise(x)))
        return self.norm2(self.gelu(self.pointwise(x)))
