"""Pooling by the lifting scheme: a learned, invertible split of a map into four bands, which are summed."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import one_of, whole
from poolbench.pooling.base import Pool, cropped
from poolbench.pooling.parts.infinite import transformed
from poolbench.pooling.parts.tracing import recorded


class LiftPool2d(Pool):
    r"""A lifting step along rows, then one along columns, and the sum of the four bands.

    .. math:: d = x_{\mathrm{odd}} - P(x_{\mathrm{even}}), \qquad s = x_{\mathrm{even}} + U(d), \qquad
        y = \mathrm{LL} + \mathrm{LH} + \mathrm{HL} + \mathrm{HH}

    One pixel of each pair is predicted from the others and only the error ``d`` is kept, with which the other one is
    updated; whatever the learned ``P`` and ``U``, the step can be undone exactly (:meth:`split`, :meth:`merge`). Both
    are a convolution of ``kernel_size`` pixels of each channel by itself, ReLU, a 1x1 convolution and a tanh. They
    start at zero (as in the authors' code for video), where the sum of the bands is the sum of the pixels: the level
    of a map grows fourfold, so a normalisation should follow. A pooled value is made of eight values of such networks,
    each of ``kernel_size + 1`` multiply-adds and a tanh; what lies between is kept for the backward pass, five times
    the map.

    The authors' repository for images holds no code. Their answers there settle that one ``P`` and one ``U`` serve
    the step along rows and both steps along columns, with ``kernel_size * C + C`` weights each, which is a 1x1
    convolution of each channel by itself (``groups = C``); the start and the weights of the losses are ours.

    The paper trains with two more losses, that of the predictions and that of the updates; :meth:`auxiliary_loss`
    gives them for an input, and is no part of what ``forward`` does. Training and evaluation are alike.

    Args:
        channels: channels ``C`` of the input.
        kernel_size: pixels that a prediction looks at, along its axis, odd.
        groups: of the 1x1 convolutions, a divisor of ``C``; None: ``C``. With fewer the channels are mixed.
        bands: ``"sum"``, or ``"low"`` for ``LL`` alone.
    Use: where a learned, invertible split into bands is wanted in place of a fixed filter; put it after a
        normalisation, since its predictions are bounded.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Zhao and Snoek, ICLR 2021 (LiftPool).
    """

    why_square = "one filter serves rows and columns"
    # With its first weights it is linear; what it may become is another matter.
    keeps_constants = False
    odd = homogeneous = keeps_sign = True
    variants = ({"kernel_size": 3, "groups": 1},)

    def __init__(self, channels: int, kernel_size: int = 5, groups: int | None = None, bands: str = "sum"):
        super().__init__(channels, kernel_size=2, stride=2)
        length = self.sides("kernel_size", kernel_size)
        if length % 2 == 0:
            raise ValueError(f"{self._name()}: kernel_size must be odd, so that it has a middle, got {kernel_size}")
        self.groups = channels if groups is None else self.checked("groups", groups, whole(1))
        if channels % self.groups:
            raise ValueError(f"{self._name()}: groups must divide the {channels} channels, got {groups}")
        self.bands = self.checked("bands", bands, one_of("sum", "low"))
        self.length = length
        if bands == "sum":
            self.mirrors = True
        else:  # it starts as the first pixel of each block
            self.keeps_constants = self.bounded = self.follows_offset = True
        self.lifting = _Lifting(channels, length, self.groups, bands)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Predictions and updates start at zero."""
        for network in (self.lifting.predict, self.lifting.update):
            nn.init.zeros_(network.mix.weight)
            nn.init.zeros_(network.mix.bias)

    def pool(self, x: Tensor) -> Tensor:
        # Not a few images at a time, as others here: the gradients of filters of one channel would take twice as long.
        return self.lifting(cropped(x, self))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The bands ``LL, LH, HL, HH`` of a map, each ``(N, C, H // 2, W // 2)``."""
        return self.lifting.split(cropped(x, self))

    def merge(self, ll: Tensor, lh: Tensor, hl: Tensor, hh: Tensor) -> Tensor:
        """The map of even sides whose bands these are."""
        s, d = (self.lifting.undone(low, high, 2) for low, high in ((ll, hl), (lh, hh)))
        return self.lifting.undone(s, d, 3)

    def auxiliary_loss(self, x: Tensor, predict: float = 0.1, update: float = 0.01) -> Tensor:
        """Mean squares of the prediction errors and of what the updated pixels differ from their neighbours by,
        weighted, over both steps."""
        even, odd = _halves(cropped(x, self), 3)
        s, d = self.lifting.step(even, odd, 3)
        losses = predict * d.square().mean() + update * F.mse_loss(s, odd)
        for half in (s, d):
            even, odd = _halves(half, 2)
            low, high = self.lifting.step(even, odd, 2)
            losses = losses + (predict * high.square().mean() + update * F.mse_loss(low, odd)) / 2
        return losses

    def flops_per_window(self) -> int:
        # A network: its two convolutions with biases, a comparison, a tanh (5), an addition. A pooled value is made of
        # two values of each of the two networks along rows, and of as many along columns.
        network = 2 * self.length + 1 + 1 + 2 * self.channels // self.groups + 1 + 5 + 1
        return 8 * network + (3 if self.bands == "sum" else 0)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, kernel_size={self.length}, groups={self.groups}, bands={self.bands!r}"


class _Lifting(nn.Module):
    """The two steps; gives the sum of the bands, or the low one."""

    def __init__(self, channels: int, length: int, groups: int, bands: str):
        super().__init__()
        self.bands = bands
        self.predict = _Network(channels, length, groups)
        self.update = _Network(channels, length, groups)

    def forward(self, x: Tensor) -> Tensor:
        bands = self.split(x)
        return bands[0] if self.bands == "low" else bands[0] + bands[1] + bands[2] + bands[3]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s, d = self.step(*_halves(x, 3), 3)
        ll, hl = self.step(*_halves(s, 2), 2)
        lh, hh = self.step(*_halves(d, 2), 2)
        return ll, lh, hl, hh

    def step(self, even: Tensor, odd: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """The updated and the predicted half along ``axis``: 2 for columns, 3 for rows of pixels."""
        detail = odd - self.predict(even, axis)
        return even + self.update(detail, axis), detail

    def undone(self, s: Tensor, d: Tensor, axis: int) -> Tensor:
        """The reverse of :meth:`step`, both halves in their places."""
        even = s - self.update(d, axis)
        odd = d + self.predict(even, axis)
        return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)


class _Network(nn.Module):
    """What predicts or updates: the same weights along either axis."""

    def __init__(self, channels: int, length: int, groups: int):
        super().__init__()
        self.look = nn.Conv2d(channels, channels, (1, length), groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1, groups=groups)

    def forward(self, x: Tensor, axis: int) -> Tensor:
        y = self._looked(x, axis).relu()
        if self.mix.groups < y.shape[1]:
            return self.mix(y).tanh()
        # One number a channel: torch's convolution for that is slow.
        return torch.addcmul(self.mix.bias.view(-1, 1, 1), y, self.mix.weight.view(-1, 1, 1)).tanh()

    def _looked(self, x: Tensor, axis: int) -> Tensor:
        weight, bias, groups = self.look.weight, self.look.bias, self.look.groups
        half, upright = weight.shape[-1] // 2, weight.reshape(len(weight), 1, -1, 1)
        if axis == 2:
            return F.conv2d(x, upright, bias, padding=(half, 0), groups=groups)
        plainly = not torch.is_grad_enabled() or recorded() or transformed(x)
        if plainly or half < 2 or x.stride(1) != 1:
            return F.conv2d(x, weight, bias, padding=(0, half), groups=groups)
        # Every row as an image of one column: torch takes four times as long for the gradient of a filter that lies and
        # is longer than 3.
        columns = x.movedim(1, -1).flatten(0, 1).unsqueeze(2).movedim(-1, 1)
        y = F.conv2d(columns, upright, bias, padding=(half, 0), groups=groups)
        return y.movedim(1, -1).squeeze(2).unflatten(0, (x.shape[0], x.shape[2])).movedim(-1, 1)


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Every other row (``axis`` 2) or column (3), from the first and from the second on."""
    # Views of the memory in its own order: the gradients are put together again in one piece.
    if x.stride(1) == 1:
        even, odd = x.movedim(1, -1).unflatten(axis - 1, (-1, 2)).unbind(axis)
        return even.movedim(-1, 1), odd.movedim(-1, 1)
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return even, odd
