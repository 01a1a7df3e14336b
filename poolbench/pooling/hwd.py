"""Haar's wavelet transform, then a learned mix of its bands: nothing is lost before the weights choose."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import TRUTH
from poolbench.pooling.base import Pool


class HaarDownsample2d(Pool):
    r"""The four bands of Haar's transform side by side as ``4 C`` channels, a 1x1 convolution to ``C``, norm, ReLU.

    .. math:: y = \mathrm{relu}(\mathrm{norm}(W\,[\mathrm{LL}, \mathrm{HL}, \mathrm{LH}, \mathrm{HH}](x)))

    Of the cells ``a, b`` above ``c, d`` the bands are ``(a + b + c + d) / 2``, the difference of columns
    ``(a - b + c - d) / 2``, of rows ``(a + b - c - d) / 2``, and ``(a - b - c + d) / 2``. The transform is
    orthogonal, so with its 1x1 convolution it is any 2x2 convolution of stride 2 with other coordinates for its
    weights, and is computed as one: the function class is that of ``space_to_depth``, what differs is where training
    starts and which way it goes. Train and eval differ by the batch normalisation only.

    Args:
        channels: channels ``C`` of the input and the output.
        norm: batch normalisation after the convolution, which then has no bias (it would be taken out again; the
            author's code leaves it in).
        activation: ReLU at the end; with ``norm=False, activation=False`` the operator is linear.
    Use: as a lossless control whose weights start in wavelet coordinates.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Xu, Liao, Zhang, Li, He and Wu, Pattern Recognition 143:109819, 2023.
    """

    why_square = "its bands are those of 2x2 blocks"
    mixes_channels = True
    treats_channels_alike = False
    keeps_constants = False
    variants = ({"norm": False, "activation": False},)

    def __init__(self, channels: int, norm: bool = True, activation: bool = True):
        super().__init__(channels)
        self.checked("norm", norm, TRUTH)
        self.checked("activation", activation, TRUTH)
        self.conv = nn.Conv2d(4 * channels, channels, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()
        self.homogeneous, self.keeps_sign, self.odd = norm, activation, norm and not activation

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))
        return self.activation(self.norm(F.conv2d(x, self._filters(), self.conv.bias, stride=2)))

    def _filters(self) -> Tensor:
        """The 2x2 filters ``(C, C, 2, 2)`` that the bands and the 1x1 convolution amount to."""
        weight = self.conv.weight
        signs = weight.new_tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
        bands = weight.view(weight.shape[0], 4, -1)
        return torch.einsum("obi,bt->oit", bands, signs).unflatten(2, (2, 2))

    def flops_per_window(self) -> int:
        # Multiply-adds of the 2x2 filters; a bias or normalisation (folded to one multiply-add), a comparison.
        norm = 2 if isinstance(self.norm, nn.BatchNorm2d) else 1
        return 2 * 4 * self.channels + norm + isinstance(self.activation, nn.ReLU)

    def extra_repr(self) -> str:
        return ""
