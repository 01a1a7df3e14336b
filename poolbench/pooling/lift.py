"""Pooling by the lifting scheme: a learned, invertible split of a map into four bands, which are summed."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pooling.base import Pool, choice, cropped, positive_int


class LiftPool2d(Pool):
    r"""A lifting step along rows, then one along columns, and the sum of the four bands.

    .. math:: d = x_{odd} - P(x_{even}), \qquad s = x_{even} + U(d), \qquad y = LL + LH + HL + HH

    One pixel of each pair is predicted from the others and only the error ``d`` is kept, with which the other one is
    updated; whatever the learned ``P`` and ``U``, the step can be undone exactly (:meth:`split`, :meth:`merge`). Both
    are a convolution of ``kernel_size`` pixels of each channel by itself, ReLU, a 1x1 convolution and a tanh. They
    start at zero (as the authors' successor for video does), where the sum of the bands is the sum of the pixels: the
    level of a map grows fourfold, so a normalisation should follow. ``C`` multiply-adds for each of eight values that
    a pooled value is made of.

    The paper trains with two more losses, that of the predictions and that of the updates; :meth:`auxiliary_loss`
    gives them for an input, and is no part of what ``forward`` does. Training and evaluation are alike.

    Args:
        channels: channels ``C`` of the input.
        kernel_size: pixels that a prediction looks at, along its axis, odd.
        groups: of the 1x1 convolutions; ``C`` must be a multiple.
        bands: ``"sum"``, or ``"low"`` for ``LL`` alone.
    Use: where a learned, invertible split into bands is wanted in place of a fixed filter; put it after a
        normalisation, since its predictions are bounded.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Zhao and Snoek, ICLR 2021 (LiftPool).
    """

    # With its first weights it is linear; what it may become is another matter.
    mixes_channels = False
    keeps_constants = False
    odd = homogeneous = keeps_sign = True
    variants = ({"kernel_size": 3, "groups": 2},)

    def __init__(self, channels: int, kernel_size: int = 5, groups: int = 1, bands: str = "sum"):
        super().__init__(channels, kernel_size=2, stride=2)
        length = positive_int(self, "kernel_size", kernel_size)
        if length % 2 == 0:
            raise ValueError(f"{self._name()}: kernel_size must be odd, so that it has a middle, got {kernel_size}")
        self.groups = positive_int(self, "groups", groups)
        if channels % groups:
            raise ValueError(f"{self._name()}: groups must divide the {channels} channels, got {groups}")
        self.bands = choice(self, "bands", bands, ("sum", "low"))
        self.length = length
        if bands == "sum":
            self.mirrors = True
        else:  # it starts as the first pixel of each block
            self.keeps_constants = self.bounded = self.follows_offset = True
        for axis, size in (("columns", (1, length)), ("rows", (length, 1))):
            setattr(self, f"predict_{axis}", self._network(size))
            setattr(self, f"update_{axis}", self._network(size))
        self.reset_parameters()

    def _network(self, size: tuple[int, int]) -> nn.Sequential:
        channels, padding = self.channels, (size[0] // 2, size[1] // 2)
        return nn.Sequential(
            nn.Conv2d(channels, channels, size, padding=padding, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, groups=self.groups),
            nn.Tanh(),
        )

    def reset_parameters(self) -> None:
        """Predictions and updates start at zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == self.groups:
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        bands = self.split(x)
        return bands[0] if self.bands == "low" else bands[0] + bands[1] + bands[2] + bands[3]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The bands ``LL, LH, HL, HH`` of a map, each ``(N, C, H // 2, W // 2)``."""
        s, d = _step(*_halves(cropped(x, self), 3), self.predict_columns, self.update_columns)
        ll, hl = _step(*_halves(s, 2), self.predict_rows, self.update_rows)
        lh, hh = _step(*_halves(d, 2), self.predict_rows, self.update_rows)
        return ll, lh, hl, hh

    def merge(self, ll: Tensor, lh: Tensor, hl: Tensor, hh: Tensor) -> Tensor:
        """The map of even sides whose bands these are."""
        s = _undone(ll, hl, self.predict_rows, self.update_rows, 2)
        d = _undone(lh, hh, self.predict_rows, self.update_rows, 2)
        return _undone(s, d, self.predict_columns, self.update_columns, 3)

    def auxiliary_loss(self, x: Tensor, predict: float = 0.1, update: float = 0.01) -> Tensor:
        """Mean squares of the prediction errors and of what the updated pixels differ from their neighbours by,
        weighted, over both steps."""
        even, odd = _halves(cropped(x, self), 3)
        s, d = _step(even, odd, self.predict_columns, self.update_columns)
        losses = predict * d.square().mean() + update * F.mse_loss(s, odd)
        for half in (s, d):
            even, odd = _halves(half, 2)
            low, high = _step(even, odd, self.predict_rows, self.update_rows)
            losses = losses + (predict * high.square().mean() + update * F.mse_loss(low, odd)) / 2
        return losses

    def flops_per_window(self) -> int:
        # A network: its two convolutions with biases, a comparison, a tanh (5), an addition. Of the columns' two there
        # are two values for a pooled one, of the rows' too.
        network = 2 * self.length + 1 + 1 + 2 * self.channels // self.groups + 1 + 5 + 1
        return 8 * network + (3 if self.bands == "sum" else 0)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, kernel_size={self.length}, groups={self.groups}, bands={self.bands!r}"


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Every other row (``axis`` 2) or column (3), from the first and from the second on."""
    # Views of the memory in its own order: the gradients are put together again in one piece.
    if x.stride(1) == 1:
        laid = x.movedim(1, -1)
        return tuple(half.movedim(-1, 1) for half in laid.unflatten(axis - 1, (-1, 2)).unbind(axis))  # type: ignore[return-value]
    return x.unflatten(axis, (-1, 2)).unbind(axis + 1)  # type: ignore[return-value]


def _step(even: Tensor, odd: Tensor, predict: Callable, update: Callable) -> tuple[Tensor, Tensor]:
    detail = odd - predict(even)
    return even + update(detail), detail


def _undone(s: Tensor, d: Tensor, predict: Callable, update: Callable, axis: int) -> Tensor:
    even = s - update(d)
    odd = d + predict(even)
    return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)
