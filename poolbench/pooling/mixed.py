"""Maximum and average of each window, mixed by a share that is learned, given or drawn."""

import math

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, max_windows
from poolbench.pooling.parts.infinite import blend


class MixedPool2d(Pool):
    r"""A share ``a`` of the maximum and the rest of the average.

    .. math:: y = a \max_{i \in R} x_i + (1 - a) \frac{1}{|R|} \sum_{i \in R} x_i

    Lee, Gallagher and Tu learn ``a``; here as the sigmoid of a free number, so that it stays between 0 and 1 as theirs
    does. Their control is half and half without any learning, ``weight="fixed"``. Yu et al. draw it: in training each
    channel (or the layer) takes either the maximum or the average, by a new draw in every forward pass, and in
    evaluation the one that was drawn more often in training (a rule that we have from accounts of their paper).
    Training and evaluation differ only there.

    One share for a whole net is a matter of the net, which alone knows all its pools: our models tie those with
    ``per="net"``, and :meth:`share_with` does so for pools in a net of your own.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        weight: ``"learned"``, ``"fixed"`` or ``"random"``.
        share: ``a``: where the learning starts (then not 0 or 1), the fixed share, or the probability of drawing the
            maximum.
        per: ``"layer"`` or ``"channel"``: what has a share, or a draw, of its own; ``"net"``: one learned share for
            all pools of a model.
    Use: when it is open whether maximum or average serves better: one number finds out, at twice the cost of either. A
        fixed half is a strong control.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lee, Gallagher and Tu, AISTATS 2016; random: Yu, Wang, Chen and Wei, RSKT 2014.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"per": "channel", "kernel_size": 3, "padding": 1},
        {"weight": "fixed", "share": 0.25},
        {"weight": "random", "per": "channel"},
        {"weight": "random"},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        weight: str = "learned",
        share: float = 0.5,
        per: str = "layer",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.weight = self.checked("weight", weight, one_of("learned", "fixed", "random"))
        self.share = float(self.checked("share", share, number(least=0, most=1)))
        self.per = self.checked("per", per, one_of("layer", "channel", "net"))
        if weight == "learned" and share in (0, 1):
            raise ValueError(f"{self._name()}: a learned share must start between 0 and 1, got {share!r}")
        if weight != "learned" and per == "net":
            raise ValueError(f"{self._name()}: per='net' is for weight='learned', got weight={weight!r}")
        self.shared_in_net = ("logit",) if per == "net" else ()
        if weight == "fixed" and share == 0:
            self.odd = True
        count = channels if per == "channel" else 1
        if weight == "learned":
            self.logit = nn.Parameter(torch.empty(count))
        elif weight == "random":
            self.random = True
            self.register_buffer("drawn_max", torch.empty(count))
            self.register_buffer("drawn", torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned share back to where it starts; forget what was drawn."""
        if self.weight == "learned":
            nn.init.constant_(self.logit, math.log(self.share / (1 - self.share)))
        elif self.weight == "random":
            self.drawn_max.zero_()
            self.drawn.zero_()

    def share_with(self, other: "MixedPool2d") -> None:
        """Learn one share with ``other``: one for a whole net once all its pools do so with the first. Raises:
        ValueError unless both learn one for the layer."""
        for one in (self, other):
            if one.weight != "learned" or one.per == "channel":
                raise ValueError(
                    f"{one._name()}: only pools with weight='learned' and per='layer' or 'net' can share, "
                    f"got weight={one.weight!r}, per={one.per!r}"
                )
        self.logit = other.logit

    def pool(self, x: Tensor) -> Tensor:
        top, mean = max_windows(x, self), average_windows(x, self)
        if self.weight == "fixed":
            return blend(mean, top, self.share)
        return blend(mean, top, self._weight(x).to(x.dtype).view(1, -1, 1, 1))

    def _weight(self, x: Tensor) -> Tensor:
        if self.weight == "learned":
            return self.logit.sigmoid()
        if not self.training:
            # Never drawn, or as often: what is more probable, the maximum if both are.
            often = (2 * self.drawn_max - self.drawn) / self.drawn.clamp(min=1)
            return often >= 0 if self.share >= 0.5 else often > 0
        draw = torch.rand(self.drawn_max.shape, device=x.device, generator=self.generator) < self.share
        with torch.no_grad():
            self.drawn_max += draw
            self.drawn += 1
        return draw

    def flops_per_window(self) -> int:
        # Comparisons; additions and a division; a difference and a multiply-add.
        return 2 * area(self.kernel_size) - 1 + 3

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight={self.weight!r}, share={self.share}, per={self.per!r}"
