"""Maximum and average of each window, mixed by a gate that looks at the window."""

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, max_windows, one_column, pair, weigh_windows
from poolbench.pooling.parts.images import over_images
from poolbench.pooling.parts.infinite import blend, seen_finite, within


class GatedPool2d(Pool):
    r"""A learned gate decides for each window how much of its maximum and how much of its average is given.

    .. math:: y = s \max_{i \in R} x_i + (1 - s) \frac{1}{|R|} \sum_{i \in R} x_i, \quad s = \sigma(w \cdot x_R)

    Where ``mixed`` gives one share to all windows, here it responds to what is in them. The gate has the weights of one
    window and no bias; all positions share them. With large activations it saturates: best after a normalisation. The
    authors' code shares the weights over channels too and starts them from a normal distribution.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        per: ``"layer"`` as in the authors' code, or ``"channel"`` for weights of each channel's own.
        std: standard deviation of the weights at the start; with 0 it starts as half and half.
    Use: as mixed, when the best share depends on what is in the window; a handful of weights.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lee, Gallagher and Tu, AISTATS 2016 (responsive max-average pooling).
    """

    rectangles = bounded = keeps_sign = True
    variants = ({"per": "channel", "kernel_size": 3, "padding": 1}, {"std": 0.0})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        per: str = "layer",
        std: float = 0.1,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.per = self.checked("per", per, one_of("layer", "channel"))
        self.std = float(self.checked("std", std, number(least=0)))
        count = channels if per == "channel" else 1
        self.gate = nn.Parameter(torch.empty(count, 1, *pair(self.kernel_size)))
        self.treats_channels_alike = per == "layer" or std == 0
        self.mirrors = one_column(self)
        if std == 0:
            self.homogeneous = self.follows_offset = True
            window, step, border = (pair(one)[1] for one in (self.kernel_size, self.stride, self.padding))
            self.mirrors = 2 * border == window - step
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the gate's weights as at the start."""
        nn.init.normal_(self.gate, std=self.std)

    def pool(self, x: Tensor) -> Tensor:
        # A few images at a time, since what torch would keep for the backward pass is several times the input.
        return over_images(self._mix, x, shared=(self.gate,))[0]

    def _mix(self, x: Tensor, gate: Tensor) -> tuple[Tensor]:
        share, low, high = self._share(x, gate), average_windows(x, self), max_windows(x, self)
        y = torch.lerp(low, high, share)
        return (y if seen_finite(y) else blend(low, high, self._share(within(x), gate)),)

    def _share(self, x: Tensor, gate: Tensor) -> Tensor:
        return weigh_windows(x, gate[:, 0], self).sigmoid().to(x.dtype)  # autocast gives it another

    def flops_per_window(self) -> int:
        # Comparisons; additions and a division; the gate and its sigmoid (3); a difference and a multiply-add.
        return 4 * area(self.kernel_size) - 1 + 3 + 3

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, per={self.per!r}, std={self.std}"
