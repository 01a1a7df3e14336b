"""ConvNeXt's downsampling layer: normalise over channels, then a 2x2 convolution with stride 2."""

import torch
from torch import Tensor, nn

from poolbench.checks import number
from poolbench.pooling.base import Pool, Sides, area, cropped, one_column


class ConvNextDownsample2d(Pool):
    r"""Layer normalisation of each pixel over its channels, then a convolution as wide as its step.

    .. math:: y = W *_s \mathrm{LN}(x) + b

    The same linear maps as ``space_to_depth`` and ``patch_merge`` can learn; here each pixel is normalised by itself.
    ``stride**2 * C`` multiply-adds a value.

    Args:
        channels: channels ``C`` of the input and the output.
        stride: side of the window and step, in pixels.
        eps: added to the variance of a pixel's channels.
    Use: as the downsampler of modern convolutional nets, and as a control that differs from the others by normalisation
        only.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; an odd last row and column is left out.
    Raises: ValueError for values that are not allowed or a map that is too small.
    Source: Liu et al., CVPR 2022 (ConvNeXt).
    """

    rectangles = mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    variants = ({"stride": 3},)

    def __init__(self, channels: int, stride: Sides = 2, eps: float = 1e-6):
        super().__init__(channels, self.sides("stride", stride))
        self.eps = float(self.checked("eps", eps, number(least=0, open=True)))
        self.mirrors = one_column(self)
        self.norm = nn.LayerNorm(channels, eps=self.eps)
        self.conv = nn.Conv2d(channels, channels, self.stride, self.stride)

    def pool(self, x: Tensor) -> Tensor:
        return self.conv(normalise_channels(cropped(x, self), self.norm))

    def flops_per_window(self) -> int:
        # Mean, variance, shift, scale, weight and bias of each cell: 8; a bias.
        return area(self.stride) * (2 * self.channels + 8) + 1

    def extra_repr(self) -> str:
        return f"stride={self.stride}, eps={self.eps}"


def normalise_channels(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer normalisation of each pixel of ``x`` ``(N, C, H, W)`` over its channels, in the memory format of ``x``."""
    if x.stride(1) == 1:
        return norm(x.movedim(1, -1)).to(x.dtype).movedim(-1, 1)
    # In full precision, as torch's own: in half, squares overflow and those of small numbers vanish.
    wide = torch.promote_types(x.dtype, torch.float32)
    maps, weight, bias = (one.to(wide) for one in (x, norm.weight.view(-1, 1, 1), norm.bias.view(-1, 1, 1)))
    centred = maps - maps.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + norm.eps).rsqrt()
    return torch.addcmul(bias, centred * scale, weight).to(x.dtype)
