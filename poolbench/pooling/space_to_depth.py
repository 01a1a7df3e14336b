"""Every pixel is kept: the 2x2 neighbours become channels, and a 1x1 convolution brings their number back."""

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, cropped, one_column, pair


class SpaceToDepth2d(Pool):
    r"""The cells of each window side by side as channels, then a 1x1 convolution, normalisation and ReLU.

    .. math:: y = \mathrm{relu}(\mathrm{norm}(W\,[x_{00};\, x_{10};\, x_{01};\, x_{11}]))

    Nothing is lost before the learned part: the control for every operator that drops or averages. Its linear part is
    that of a ``stride x stride`` convolution with that stride, so a difference to ``convnext_down``, ``patch_merge`` or
    ``hwd`` is one of normalisation and start. ``stride**2 * C`` multiply-adds a value.

    The order of the paper's code, normalise and activate before the convolution, is ``order="norm_first"``.

    Args:
        channels: channels ``C`` of the input and the output.
        stride: side of the window and step, in pixels.
        order: ``"conv_first"`` (convolution, normalisation, ReLU) or ``"norm_first"`` (normalisation, ReLU,
            convolution).
    Use: as the lossless control for all that drops or averages, and in nets for small objects.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; an odd last row and column is left out.
    Raises: ValueError for values that are not allowed or a map that is too small.
    Source: Sunkara and Luo, ECML PKDD 2022 (SPD-Conv).
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    homogeneous = True
    variants = ({"order": "norm_first"}, {"stride": 3}, {"stride": (2, 1)})

    def __init__(self, channels: int, stride: Sides = 2, order: str = "conv_first"):
        super().__init__(channels, self.sides("stride", stride))
        self.order = self.checked("order", order, one_of("conv_first", "norm_first"))
        cells = area(self.stride) * channels
        self.conv = nn.Conv2d(cells, channels, 1, bias=order == "norm_first")
        self.norm = nn.BatchNorm2d(channels if order == "conv_first" else cells)
        self.activation = nn.ReLU(inplace=True)
        self.mirrors = one_column(self)
        self.keeps_sign = order == "conv_first"
        self.homogeneous = order == "conv_first"

    def pool(self, x: Tensor) -> Tensor:
        if self.order == "norm_first":
            return self.conv(self.activation(self.norm(stack_cells(x, self))))
        # The 1x1 convolution of the stacked cells is this one of the map, which need not be copied then.
        if self.stride == 1:  # the turned weights would look like channels_last
            return self.activation(self.norm(self.conv(x)))
        rows, columns = pair(self.stride)
        weight = self.conv.weight.view(self.channels, columns, rows, self.channels).permute(0, 3, 2, 1)
        y = F.conv2d(cropped(x, self), weight, stride=self.stride)
        return self.activation(self.norm(y))

    def flops_per_window(self) -> int:
        cells = area(self.stride)
        # A normalisation is folded to one multiply-add; a comparison.
        rest = 3 if self.order == "conv_first" else 3 * cells + 1
        return 2 * cells * self.channels + rest

    def extra_repr(self) -> str:
        return f"stride={self.stride}, order={self.order!r}"


def stack_cells(x: Tensor, pool: Pool) -> Tensor:
    """``(N, C, H, W) -> (N, K * C, H', W')``: the first cells of all windows, then the cells below them, column by
    column, as SPD-Conv and Swin order them; in the memory format of ``x``."""
    height, width = pool.output_size((x.shape[-2], x.shape[-1]))
    (n, c), (down, right), x = x.shape[:2], pair(pool.stride), cropped(x, pool)
    if x.stride(1) == 1:
        cells = x.movedim(1, -1).unflatten(2, (width, right)).unflatten(1, (height, down))
        return cells.permute(0, 1, 3, 4, 2, 5).reshape(n, height, width, down * right * c).movedim(-1, 1)
    cells = x.unflatten(3, (width, right)).unflatten(2, (height, down))
    return cells.permute(0, 5, 3, 1, 2, 4).reshape(n, -1, height, width)
