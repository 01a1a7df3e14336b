"""Downsampling with a learned stride: a low-pass in the frequency domain whose cut-off is a parameter."""

import math

import torch
from torch import Tensor, nn

from poolbench.accelerator import widest
from poolbench.checks import TRUTH, number
from poolbench.pooling.base import Pool, refuse_open
from poolbench.pooling.parts.filters import separable


class DiffStride2d(Pool):
    r"""Spectral pooling with a soft cut-off whose place, the stride, is learned.

    .. math:: y = \mathcal{F}^{-1}\big(\mathrm{crop}(m \cdot \mathcal{F}(x))\big), \qquad
        m_k = \mathrm{clip}\Big(\frac{e(S) - |k|}{R}, 0, 1\Big)

    Frequencies up to the edge ``e(S)``, which falls as ``1 / S``, pass, the last ``R`` of them less and less; through
    that ramp the real numbers ``S``, one for rows and one for columns, get their gradient.

    With ``match_size``, for fair comparison, the output has the size of any other pool's and the ramp ends half a
    frequency beyond the highest that this size can hold, so at its start the operator is a soft spectral pooling; a
    learned ``S`` below ``stride`` lets the whole band pass, a larger one blurs. Without it, as in the paper, what the
    ramp leaves above 0 is kept: ``e = H / (2 S) + R``, sides of ``2 ceil(e)``, 32 -> 24 -> 20 -> 18 at stride 2, so the
    net computes on larger maps than its control. The output size then follows the learned number, which a compiler or
    an export cannot hold in one graph.

    However far a stride wanders, the lowest or the highest frequency is held on the ramp, so that it has a gradient
    and can come back; only a ramp of 1 or less may fall between two frequencies.

    Different from the authors' code: positions are ``|k|`` on both axes (there -1 counts as 0, and columns get one
    more); transforms keep the level of a map (there it grows by the ratio of the areas); with ``match_size`` the ramp
    is at most three quarters of the band; a stride below 1 is used as 1 (there all are set to ``H / (H - R)`` or more
    in every pass).

    Args:
        channels: channels ``C`` of the input.
        stride: where ``S`` starts, at least 1; a whole number with ``match_size``.
        smoothness: ``R`` > 0, length of the ramp in frequencies.
        shared: one stride for rows and columns.
        learnable: whether the strides are learned.
        match_size: keep the output at ``H // stride``.
    Use: to let the net learn how strongly to low-pass at each site; without ``match_size`` it changes map sizes, so
        compare the cost too.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``, or as above.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Riad, Teboul, Grangier and Zeghidour, ICLR 2022 (DiffStride).
    """

    why_square = "both of its strides are learned from one start"
    odd = homogeneous = follows_offset = True
    dynamic_sizes = False
    variants = ({"shared": True, "smoothness": 1.0}, {"learnable": False})

    def __init__(
        self,
        channels: int,
        stride: float = 2.0,
        smoothness: float = 4.0,
        shared: bool = False,
        learnable: bool = True,
        match_size: bool = True,
    ):
        super().__init__(channels, kernel_size=1, stride=1)
        self.match_size = self.checked("match_size", match_size, TRUTH)
        self.start = float(self.sides("stride", stride, number()))
        if self.start < 1 or (match_size and not self.start.is_integer()):
            kind, why = ("whole number", ", with match_size") if match_size else ("number", "")
            raise ValueError(f"{self._name()}: stride must be a {kind} of at least 1, got {stride!r}{why}")
        self.smoothness = float(self.checked("smoothness", smoothness, number(least=0, open=True)))
        self.shared = self.checked("shared", shared, TRUTH)
        self.learnable = self.checked("learnable", learnable, TRUTH)
        if match_size:
            self.stride = int(stride)
        else:
            self.stationary = self.onnx = False
        strides = torch.empty(1 if shared else 2)
        if learnable:
            self.strides = nn.Parameter(strides)
        else:
            self.register_buffer("strides", strides)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put the strides back to where they start."""
        nn.init.constant_(self.strides, self.start)

    @property
    def ratio(self) -> float | None:
        return self.start if self.match_size else None

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.match_size:
            return super().output_size(size)
        if min(size) < 2:
            raise ValueError(f"{self._name()}: a map of {size[0]}x{size[1]} pixels has no frequency but one")
        strides = self.strides.detach().to(widest(self.strides.device)).clamp(min=1).expand(2).tolist()
        height, width = (
            max(2, min(side, 2 * math.ceil(side / (2 * stride) + self.smoothness)))
            for side, stride in zip(size, strides, strict=True)
        )
        return height, width

    def pool(self, x: Tensor) -> Tensor:
        refuse_open(x, self, "its transforms are matrices made for the size")
        size = (x.shape[-2], x.shape[-1])
        outputs = self.output_size(size)
        strides = _held(self.strides, 1.0)
        rows, columns = (
            self._matrix(side, n, stride) for side, n, stride in zip(size, outputs, strides.expand(2), strict=True)
        )
        return separable(x, rows, columns)

    def _matrix(self, side: int, n: int, stride: Tensor) -> Tensor:
        """``(n, side)``: transform, mask, cut and transform back of a row."""
        wide = torch.float64 if stride.dtype == torch.float64 else torch.float32
        dtype, device = widest(stride.device), stride.device
        k = torch.arange(n // 2 + 1, dtype=dtype, device=device)
        weight = torch.full_like(k, 2.0)
        weight[0] = 1.0
        if n % 2 == 0:
            weight[-1] = 1.0  # the average of its two halves
        after, before = (2 * math.pi * torch.arange(m, dtype=dtype, device=device)[:, None] * k / m for m in (n, side))
        both = torch.stack([after.cos(), after.sin()]), torch.stack([before.cos(), before.sin()])
        after, before = (waves.to(wide) for waves in both)
        kept = (weight.to(wide) * self._mask(k.to(wide), side, n, stride.to(wide))) / side
        return ((after * kept) @ before.transpose(1, 2)).sum(0)

    def _mask(self, k: Tensor, side: int, n: int, stride: Tensor) -> Tensor:
        if self.match_size:
            edge = (n // 2 + 0.5) * self.start / stride
            ramp = min(self.smoothness, 0.75 * (n // 2 + 0.5))
        else:
            edge, ramp = side / (2 * stride) + self.smoothness, self.smoothness
        # The lowest or the highest frequency stays just on the ramp, or nothing could bring the stride back.
        edge = _held(edge, 1 + 0.001 * ramp, n // 2 + 0.999 * ramp)
        # The level of a map passes whatever is learned.
        return torch.where(k == 0, 1, ((edge - k) / ramp).clamp(0, 1))

    def flops(self, size: tuple[int, int]) -> int:
        """Of two small matrix products."""
        height, width = self.output_size(size)
        return self.channels * 2 * (height * size[0] * size[1] + height * width * size[1])

    def extra_repr(self) -> str:
        text = f"learnable={self.learnable}, match_size={self.match_size}"
        return f"stride={self.start:g}, smoothness={self.smoothness:g}, shared={self.shared}, {text}"


def _held(x: Tensor, least: float, most: float | None = None) -> Tensor:
    """``x`` held at or above ``least`` and at or below ``most``; the gradient passes all the same."""
    return x + (x.clamp(least, most) - x).detach()
