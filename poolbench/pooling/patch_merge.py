"""Patch merging: the 2x2 neighbours of a pixel, normalised over channels, through one linear layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pooling.base import Pool, Sides, area, one_column
from poolbench.pooling.convnext_down import normalise_channels
from poolbench.pooling.space_to_depth import stack_cells


class PatchMerge2d(Pool):
    r"""The cells of each window side by side as channels, layer normalisation over them, then a linear layer.

    .. math:: y = W\,\mathrm{LN}([x_{00};\, x_{10};\, x_{01};\, x_{11}])

    The downsampler of hierarchical transformers. There the linear layer doubles the channels; here it keeps their
    number, as every pool does, so it has ``stride**2 * C**2`` weights and no bias. Unlike batch normalisation the
    layer's own keeps no statistics: training and evaluation are alike. ``stride**2 * C`` multiply-adds a value.

    Args:
        channels: channels ``C`` of the input and the output.
        stride: side of the window and step, in pixels.
    Use: as the downsampler of hierarchical transformers, and as a control with layer normalisation.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; an odd last row and column is left out (the paper pads
        it with zeros).
    Raises: ValueError for a stride that is not allowed or a map that is too small.
    Source: Liu et al., ICCV 2021 (Swin Transformer).
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    odd = True
    variants = ({"stride": 3},)

    def __init__(self, channels: int, stride: Sides = 2):
        super().__init__(channels, self.sides("stride", stride))
        cells = area(self.stride) * channels
        self.mirrors = one_column(self)
        self.norm = nn.LayerNorm(cells)
        self.reduction = nn.Linear(cells, channels, bias=False)

    def pool(self, x: Tensor) -> Tensor:
        cells = normalise_channels(stack_cells(x, self), self.norm)
        return F.conv2d(cells, self.reduction.weight[:, :, None, None])  # a linear layer at every pixel

    def flops_per_window(self) -> int:
        cells = area(self.stride)
        # Mean, variance (3 each cell), shift, scale, weight and bias of the cells, shared by all channels: 8 a cell.
        return 2 * cells * self.channels + 8 * cells

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
