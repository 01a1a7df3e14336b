"""Subsampling: keep every second pixel unseen, or LeNet's layer of that name, a trained average through a tanh."""

import torch
from torch import Tensor, nn

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, pair
from poolbench.pooling.parts.windows import over_windows


class Subsample2d(Pool):
    r"""No pooling: one pixel of each block is kept. By ``mode`` also LeNet's: a trained sum of each block.

    ``"decimate"`` keeps the top left pixel of each ``stride x stride`` block. After a convolution it
    equals giving that convolution the stride, at ``stride**2`` times its cost; three of four pixels learn nothing from
    it. The control that shows what a window adds.

    .. math:: y_{ij} = x_{si,\,sj}

    ``"lenet"``, the subsampling layer of the first convolutional nets: the sum of each block, with one trained factor
    and one trained bias a channel, through a squashing function. It starts as the average (before the squashing).

    .. math:: y_c = \tanh\Big(b_c + \beta_c \sum_{i \in R} x_{c,i}\Big)

    Args:
        channels: channels ``C`` of the input.
        stride: step, and side of the block, in pixels.
        mode: ``"decimate"`` or ``"lenet"``.
        activation: of the mode ``"lenet"``: ``"tanh"`` or ``"none"``.
    Use: as a control: what a window adds over plain dropping. ``mode="lenet"`` is for reproducing the first
        convolutional nets.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError for a value that is not allowed or a map that is too small.
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998 (LeNet-5), in the form of Scherer, Müller
        and Behnke, ICANN 2010; decimation as a net without pooling: Springenberg et al., ICLR workshop 2015
        (Strided-CNN).
    """

    rectangles = odd = keeps_sign = True
    variants = ({"stride": 3}, {"mode": "lenet"}, {"mode": "lenet", "activation": "none", "stride": 3})

    def __init__(self, channels: int, stride: Sides = 2, mode: str = "decimate", activation: str = "tanh"):
        self.checked("mode", mode, one_of("decimate", "lenet"))
        stride = self.sides("stride", stride)
        super().__init__(channels, kernel_size=1 if mode == "decimate" else stride, stride=stride)
        self.mode = mode
        self.activation = self.checked("activation", activation, one_of("tanh", "none"))
        squashed = mode == "lenet" and activation == "tanh"
        self.keeps_constants = self.bounded = self.homogeneous = self.follows_offset = not squashed
        self.mirrors = mode == "lenet" or pair(self.stride)[1] == 1
        if mode == "lenet":
            self.factor = nn.Parameter(torch.empty(channels))
            self.bias = nn.Parameter(torch.empty(channels))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put the trained factor and bias back to the average."""
        if self.mode == "lenet":
            nn.init.constant_(self.factor, 1 / area(self.kernel_size))
            nn.init.zeros_(self.bias)

    def pool(self, x: Tensor) -> Tensor:
        if self.mode == "decimate":
            return over_windows(self, _only_cell, (x,), slope=_to_only_cell)
        factor = (self.factor * area(self.kernel_size)).view(1, -1, 1, 1)
        y = torch.addcmul(self.bias.view(1, -1, 1, 1), average_windows(x, self), factor)
        return (y.tanh() if self.activation == "tanh" else y).to(x.dtype)

    def flops_per_window(self) -> int:
        if self.mode == "decimate":
            return 0
        # Additions, factor and bias; a tanh by two exponentials, a sum, a difference, a quotient.
        return area(self.kernel_size) - 1 + 2 + (5 if self.activation == "tanh" else 0)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, mode={self.mode!r}"


def _only_cell(inside: Tensor | None, windows: Tensor) -> Tensor:
    return windows[0]


def _to_only_cell(gradient: Tensor, inside: Tensor | None, windows: Tensor) -> tuple[Tensor]:
    return (gradient[None],)
