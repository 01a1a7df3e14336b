"""Layers that treat an image and its mirror image alike, so that a net of them answers the same to both.

The channels of a map ``(N, C, H, W)`` between such layers come in mirrored pairs: the second half holds what the first
half would be for the mirror image, mirrored back. A first map may have channels of another kind in front, which are
their own counterparts; they are said to be alone.

Source: Cohen and Welling, ICML 2016 (arXiv:1602.07576), for the group of two that mirroring makes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from poolbench.pooling.parts.tracing import as_leaf

_HALF = math.sqrt(0.5)  # sums and differences times this keep their length: both parts start alike and learn alike


class MirroredConv2d(nn.Module):
    """A 3x3 convolution without bias, to ``out`` mirrored pairs.

    Its weights make even parts of the output (sums over a pair) and odd ones (differences). Both see even and odd parts
    of the input in columns of three: those of like kind as they are and the sum of the neighbours on their left and
    right, those of the other kind as the difference of the neighbours. All other combinations would break the symmetry,
    so there are half the weights of a usual convolution, and half its multiplications.

    Args:
        alone, pairs: of the input, which has ``alone + 2 * pairs`` channels.
        out: pairs of the output.
    Shape: ``(N, alone + 2 * pairs, H, W) -> (N, 2 * out, H, W)``.
    """

    draws_in_turn = True  # see poolbench.models.sites.initialise

    def __init__(self, alone: int, pairs: int, out: int):
        super().__init__()
        even, odd = alone + pairs, pairs
        self.alone, self.pairs, self.out = alone, pairs, out
        self.even = nn.Parameter(torch.empty(out, 2 * even + odd, 3, 1))
        self.odd = nn.Parameter(torch.empty(out, 2 * odd + even, 3, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Half as many as those that torch would draw for 3x3 filters, so that the filters come out as large.
        bound = math.sqrt(2 / (9 * (self.alone + 2 * self.pairs)))
        for weight in (self.even, self.odd):
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        kinds = [self.alone + self.pairs, self.pairs]  # channels of the even and of the odd part
        alone, first, second = x.permute(0, 2, 3, 1).split([self.alone, self.pairs, self.pairs], dim=-1)
        parts = torch.cat([alone, first + second, first - second], dim=-1)
        # Whole rows in one piece: a loop over the few channels of a pixel at a time takes twice as long.
        rows = F.pad(parts.flatten(2), (sum(kinds), sum(kinds)))
        left, right = rows[..., : -2 * sum(kinds)], rows[..., 2 * sum(kinds) :]
        even, odd = parts.split(kinds, dim=-1)
        even_added, odd_added = (left + right).view_as(parts).split(kinds, dim=-1)
        even_subtracted, odd_subtracted = (left - right).view_as(parts).split(kinds, dim=-1)
        # Lengths are kept where two maps are added: factors for pairs and for results, and for neighbours below.
        of_even = self.even.new_full((kinds[0],), _HALF**2)
        of_even[: self.alone] = _HALF
        of_odd = of_even[self.alone :]
        evens = _columns(self.even, [even, even_added, odd_subtracted], [of_even, _HALF * of_even, _HALF * of_odd])
        odds = _columns(self.odd, [odd, odd_added, even_subtracted], [of_odd, _HALF * of_odd, _HALF * of_even])
        return torch.cat([evens + odds, evens - odds], dim=1)

    def extra_repr(self) -> str:
        return f"alone={self.alone}, pairs={self.pairs}, out={self.out}"


class MirroredNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics and weights of a mirrored pair shared; ``channels`` of both together.

    Shape: ``(N, C, H, W) -> (N, C, H, W)``, ``C`` even.
    """

    def __init__(self, channels: int, momentum: float = 0.1):
        super().__init__(channels // 2, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        n, c, h, w = x.shape
        # Beside each other in a wider map: in channels_last memory nothing is moved.
        beside = x.permute(0, 2, 3, 1).reshape(n, h, 2 * w, c // 2).permute(0, 3, 1, 2)
        return super().forward(beside).permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)


class MirroredPatches2d(nn.Conv2d):
    """A 2x2 convolution with filters that are their own mirror images, up to the sign, and each with both signs.

    The symmetric ones come first (their channels are alone), then the others, which mirroring turns into their
    negatives: mirrored pairs. Pairs share their bias.

    Args:
        channels: of the input.
    Shape: ``(N, channels, H, W) -> (N, 8 * channels, H - 1, W - 1)``: ``4 * channels`` alone, then as many in pairs.
    """

    draws_in_turn = True  # see poolbench.models.sites.initialise

    def __init__(self, channels: int):
        super().__init__(channels, 8 * channels, 2)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        symmetric, rest, *_ = self.weight.split(2 * self.in_channels)
        self.set_filters(symmetric + symmetric.flip(3), rest - rest.flip(3))

    @torch.no_grad()
    def set_filters(self, symmetric: Tensor, antisymmetric: Tensor) -> None:
        """Take filters ``(2 * channels, channels, 2, 2)`` of each kind."""
        self.weight.copy_(torch.cat([symmetric, -symmetric, antisymmetric, -antisymmetric]))

    def forward(self, x: Tensor) -> Tensor:
        alone, first, second = self.bias.tensor_split([self.out_channels // 2, self.out_channels * 3 // 4])
        shared = (first + second) / 2
        return self._conv_forward(x, self.weight, torch.cat([alone, shared, shared]))


class MirroredSum(nn.Module):
    """Adds the channels of each mirrored pair: what is left is mirrored where the image is, and changes no channel.

    Shape: ``(N, C, H, W) -> (N, C / 2, H, W)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first + second


def _columns(weight: Tensor, maps: list[Tensor], factors: list[Tensor]) -> Tensor:
    """Convolve ``maps`` ``(N, H, W, C)``, channels times ``factors`` ``(C,)``, with columns ``(out, all C, 3, 1)``."""
    together = torch.cat(maps, dim=-1).permute(0, 3, 1, 2)
    return F.conv2d(together, weight * torch.cat(factors)[:, None, None], padding=(1, 0))
