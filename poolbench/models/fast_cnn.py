"""A small net that learns fast: the reference for comparisons in which hundreds of cells have to be trained."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poolbench.accelerator import doubled
from poolbench.checks import TRUTH, checked, whole, wholes
from poolbench.models.mirrored import MirroredConv2d, MirroredNorm2d, MirroredPatches2d, MirroredSum
from poolbench.models.sites import Sites, Trunk

_PATCH = 2  # side of the patches that the first layer sees, in pixels
_CHUNK = 100  # images whose patches are looked at together
_FLOOR = 5e-4  # added to the variance of a direction, or those in which patches hardly differ would be all noise


class FastCNN(Trunk):
    r"""A whitened first layer, then few wide stages with a pool after the first convolution of each.

    The first layer is a 2x2 convolution whose 24 filters are the principal components of 2x2 patches of training
    images, divided by their standard deviation, each with both signs; it is found before the first step and not
    trained, its bias apart. A stage is convolution, pool, normalisation, GELU, then (``depth - 1`` times) convolution,
    normalisation, GELU: all but its first convolution work on the pooled map, and the normalisation after the pool
    takes up whatever factor an operator has. A second pool of a stage (ratio sqrt 2) stands after its next convolution.

    With ``mirror`` it gives an image and its mirror image the same answer: the second half of a map's channels is what
    the first half would be for the mirror image. That takes half the weights and half the multiplications of a usual
    net of as many channels, but more passes over memory, so the time saved is less. A pool that tells left from right,
    or that cuts off a column (as 2x2 windows do at 32 pixels), leaves a difference.

    The recipes beside it are part of it: ``conf/trainer/fast*.yaml``, ``conf/optimizer/fast.yaml``. Small images first,
    full size in the end, Muon on the filters, label smoothing, alternating flips; all chosen on a validation split.

    Args:
        pool: makes the pool of each site.
        widths: channels of each stage.
        depth: 3x3 convolutions of each stage.
        whiten: set the first layer from training images; false: draw and train it as any other.
        mirror: give an image and its mirror image the same answer; asks for ``whiten`` and even ``widths``.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: the net for comparing pools by the hundred: the most accuracy for the computation of all that are here.
    Source: ours, after Jordan, arXiv:2404.00498, 2024 (airbench), and Page, "How to train your ResNet", 2018;
        ``mirror`` after Cohen and Welling, ICML 2016 (arXiv:1602.07576).
    """

    def __init__(
        self,
        pool: Sites,
        widths: Sequence[int] = (48, 96, 192),
        depth: int = 2,
        whiten: bool = True,
        mirror: bool = False,
    ):
        super().__init__()
        checked("model fast_cnn: widths", widths, wholes())
        checked("model fast_cnn: depth", depth, whole(1))
        self.whiten = checked("model fast_cnn: whiten", whiten, TRUTH)
        self.mirror = checked("model fast_cnn: mirror", mirror, TRUTH)
        if mirror and not whiten:
            raise ValueError("model fast_cnn: mirror=true needs whiten=true: its first layer is found, not trained")
        if mirror and any(width % 2 for width in widths):
            raise ValueError(f"model fast_cnn: widths must be even with mirror=true, got {list(widths)}")
        channels = 2 * 3 * _PATCH**2
        first = MirroredPatches2d(3) if mirror else nn.Conv2d(3, channels, _PATCH)
        first.weight.requires_grad_(not whiten)
        stages: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(OrderedDict(conv=first, gelu=nn.GELU())))
        for number, width in enumerate(widths, start=1):
            pools = pool.until(2.0**number, channels=width, native="max")
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, depth + 1):
                layers[f"conv{layer}"] = self._convolution(channels, width, first=number == layer == 1)
                for index, one in enumerate(pools):
                    if 1 + index * depth // len(pools) == layer:  # spread evenly, the first one first
                        layers[f"pool{index + 1}"] = one
                norm = MirroredNorm2d if mirror else nn.BatchNorm2d
                layers[f"norm{layer}"] = norm(width, momentum=0.4)  # quick: there are few steps
                layers[f"gelu{layer}"] = nn.GELU()
                channels = width
            stages[f"stage{number}"] = nn.Sequential(layers)
        if mirror:
            stages["sum"] = MirroredSum()
            channels //= 2
        self.features = nn.Sequential(stages)
        self.channels = channels

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the first layer from training images ``(N, 3, H, W)`` as the model takes them."""
        if not self.whiten:
            return
        first = self.features.stem.conv
        channels, moments, count = first.weight.shape[1], 0.0, 0
        for some in images.float().split(_CHUNK):  # all patches at once would be hundreds of megabytes
            patches = some.unfold(2, _PATCH, 1).unfold(3, _PATCH, 1).permute(1, 4, 5, 0, 2, 3)
            patches = doubled(patches.reshape(channels * _PATCH**2, -1))
            moments, count = moments + patches @ patches.T, count + patches.shape[1]
        every = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
        if self.mirror:
            left, right = every.reshape(channels * _PATCH, _PATCH, -1).unbind(1)
            first.set_filters(*(_white(moments / count, (left + sign * right) * math.sqrt(0.5)) for sign in (1, -1)))
        else:
            white = _white(moments / count, every)
            first.weight.copy_(torch.cat([white, -white]))
        first.bias.zero_()

    def _convolution(self, channels: int, width: int, first: bool) -> nn.Module:
        if not self.mirror:
            return nn.Conv2d(channels, width, 3, padding=1, bias=False)
        alone = channels // 2 if first else 0  # half of the patches' filters are symmetric
        return MirroredConv2d(alone, (channels - alone) // 2, width // 2)


def _white(moments: Tensor, basis: Tensor) -> Tensor:
    """Filters ``(M, C, 2, 2)`` along the principal components within ``basis``, ``(M, C * 4)``, of patches with second
    ``moments``, each divided by its standard deviation."""
    variances, directions = torch.linalg.eigh(basis @ moments @ basis.T)
    return ((directions / (variances + _FLOOR).sqrt()).T @ basis).reshape(len(basis), -1, _PATCH, _PATCH)
