"""A convolution with a step in place of pooling: the net learns how to shrink its maps."""

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import TRUTH
from poolbench.pooling.base import Pool, Sides, area, half_before, is_open, leading, one_column, pair


class StridedConv2d(Pool):
    r"""Learned downsampling: a full ``C -> C`` convolution of 3x3 every 2 pixels, then normalisation and ReLU.

    .. math:: y = \mathrm{relu}(\mathrm{norm}(W *_s x))

    Unlike pooling it mixes the channels, adds ``kernel_size**2 C**2`` weights and a layer of depth: compare it with a
    net that spends the same on a convolution beside a pool (ConvPool-CNN) before crediting the downsampling.

    Args:
        channels: channels ``C`` of the input and the output.
        kernel_size, stride: filter and step in pixels; the border is padded by zeros, ``(kernel_size - 1) // 2``.
        norm: batch normalisation after the convolution, which then has no bias. The paper has none and others could
            not train its nets without.
        activation: ReLU at the end; with ``norm=False, activation=False`` the operator is linear.
    Use: where weights and arithmetic are no object; compare it with a net that spends the same elsewhere before
        crediting the downsampling.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; an odd last row and column is left out.
    Raises: ValueError for sizes that are not allowed or a map that is too small.
    Source: Springenberg, Dosovitskiy, Brox and Riedmiller, ICLR workshop 2015 (All-CNN).
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    variants = (
        {"norm": False},
        {"norm": False, "activation": False, "kernel_size": 4},
        {"kernel_size": (3, 2), "stride": (2, 1)},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 3,
        stride: Sides | None = 2,
        norm: bool = True,
        activation: bool = True,
    ):
        super().__init__(channels, kernel_size, stride)
        self.checked("norm", norm, TRUTH)
        self.checked("activation", activation, TRUTH)
        self.padding = half_before(self.kernel_size)
        self.conv = nn.Conv2d(channels, channels, self.kernel_size, self.stride, self.padding, bias=not norm)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()
        self.mirrors = one_column(self)
        self.homogeneous, self.keeps_sign, self.odd = norm, activation, norm and not activation

    def pool(self, x: Tensor) -> Tensor:
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        sides = list(zip(pair(self.kernel_size), pair(self.stride), pair(self.padding), strict=True))
        if is_open(x):
            bottom, right = (max(0, window - step - 2 * border) for window, step, border in sides)
            return self.activation(self.norm(leading(self.conv(F.pad(x, (0, right, 0, bottom))), height, width)))
        bottom, right = (
            max(0, (n - 1) * step + window - 2 * border - side)
            for n, side, (window, step, border) in zip((height, width), x.shape[-2:], sides, strict=True)
        )
        if bottom or right:  # an even filter at stride 1 is one row and column short
            x = F.pad(x, (0, right, 0, bottom))
        y = self.conv(x)
        if y.shape[-2:] != (height, width):  # an odd last row or column, where torch would start one more window
            # The normalisation copies by itself; without one a copy is due.
            y = leading(y, height, width) if isinstance(self.norm, nn.Identity) else y[..., :height, :width]
        return self.activation(self.norm(y))

    def flops_per_window(self) -> int:
        # Multiply-adds, a bias or normalisation (folded to one multiply-add), a comparison.
        multiply_adds = 2 * area(self.kernel_size) * self.channels
        norm = 2 if isinstance(self.norm, nn.BatchNorm2d) else 1
        return multiply_adds + norm + isinstance(self.activation, nn.ReLU)

    def extra_repr(self) -> str:
        return ""
