"""Softmax attention over each window: a map of scores tells which pixels speak for it."""

import torch
from torch import Tensor, nn

from poolbench.checks import whole
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.lip import softmax_average


class AttentionPool2d(Pool):
    r"""Average of each window weighted by the softmax of learned scores that many channels share.

    .. math:: y_c = \frac{\sum_{i \in R} e^{g_i} x_{c,i}}{\sum_{i \in R} e^{g_i}}, \qquad g = w_{\mathrm{group}(c)} * x

    A convolution gives ``G`` score maps, one for every ``C / G`` channels. With one group a pixel is kept or dropped
    with all its channels, unlike in :class:`~poolbench.pooling.lip.LipPool2d`, where each channel has its own
    weights. The scores have no bias, which the softmax would take out. Training and evaluation are alike.

    No one paper has this very form: it is attention pooling, which was proposed for whole sets, over windows.
    Involution (CVPR 2021) filters windows by weights read off the map too, but does not normalise them.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        groups: ``G``, of which ``channels`` is a multiple.
        score_kernel_size: side of the scores' convolution, an odd number of pixels.
    Use: when one learned map of importance should weigh all channels, as for salient regions; cheaper than a full
        importance net.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Ilse, Tomczak and Welling, ICML 2018, for sets.
    """

    rectangles = mixes_channels = bounded = follows_offset = keeps_sign = mirrors = True
    treats_channels_alike = False
    variants = ({"groups": 2, "kernel_size": 3, "padding": 1}, {"score_kernel_size": 3})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        groups: int = 1,
        score_kernel_size: int = 1,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.groups = self.checked("groups", groups, whole(1))
        if channels % groups:
            raise ValueError(f"{self._name()}: groups must divide the {channels} channels, got {groups}")
        if self.checked("score_kernel_size", score_kernel_size, whole(1)) % 2 == 0:
            raise ValueError(f"{self._name()}: score_kernel_size must be odd, got {score_kernel_size}")
        self.score = nn.Conv2d(channels, groups, score_kernel_size, padding=score_kernel_size // 2, bias=False)
        if score_kernel_size > 1:
            self.follows_offset = self.mirrors = False  # the border of zeros; a filter has a left and a right

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))  # before the convolution meets a map that cannot be served
        scores = self.score(x)
        if self.groups in (1, self.channels):
            return softmax_average(self, x, scores)
        parts = zip(x.split(self.channels // self.groups, 1), scores.split(1, 1), strict=True)
        return torch.cat([softmax_average(self, one, score) for one, score in parts], 1)

    def flops_per_window(self) -> int:
        # Of the scores, at each of the cells that fall to an output: multiply-adds, shared by the group.
        scores = area(self.stride) * 2 * self.channels * area(self.score.kernel_size)
        # Of the softmax: a comparison, a shift, an exponential, a sum and a division a cell, shared too.
        shared = scores + area(self.kernel_size) * 5 - 2
        return round(shared * self.groups / self.channels) + 2 * area(self.kernel_size) - 1

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, groups={self.groups}"
