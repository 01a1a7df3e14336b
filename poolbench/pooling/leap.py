"""Learned pooling: one linear filter a channel, learned with the rest of the net."""

import torch
from torch import Tensor, nn

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, pair, weigh_windows


class LeapPool2d(Pool):
    r"""A weighted sum of each window, with weights that each channel learns for itself.

    .. math:: y_c = \sum_{i \in R} w_{c,i} \, x_{c,i}

    Between average pooling, at which it starts (:math:`w = 1/|R|`), and any other linear filter of the window,
    subsampling included; the maximum is out of its reach. The same as a convolution of each channel by itself with that
    stride. The weights are free: they may become negative and need not sum to 1. Weight decay would shrink the signal,
    so the optimisers here do not decay them. A window at the border is scaled up by the share of its cells inside the
    map.

    The paper's abstract settles one linear combination a channel, shared by all positions and learned end to end, of
    which average pooling is the case of equal weights; that there is no bias and no normalisation, and the start, are
    our reading (the full text was not at hand).

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        per: ``"channel"`` as in the paper, ``"layer"`` for weights that all channels share.
    Use: when average pooling is to learn which cells count in which channel, for as good as no cost.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Sun, Song, Jiang, Pan and Pang, Neurocomputing 2017 (LEAP).
    """

    rectangles = bounded = odd = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"per": "layer", "kernel_size": 3},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    )

    def __init__(
        self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0, per: str = "channel"
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.per = self.checked("per", per, one_of("channel", "layer"))
        # With an axis of one input channel, as a filter of torch has it.
        self.weight = nn.Parameter(torch.empty(channels if per == "channel" else 1, 1, *pair(self.kernel_size)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to the average."""
        nn.init.constant_(self.weight, 1 / area(self.kernel_size))

    def pool(self, x: Tensor) -> Tensor:
        return weigh_windows(x, self.weight[:, 0], self).to(x.dtype)

    def flops_per_window(self) -> int:
        return 2 * area(self.kernel_size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, per={self.per!r}"
