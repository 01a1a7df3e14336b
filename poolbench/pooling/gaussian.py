"""Gaussian blur, then every second pixel: the plain way to shrink an image without aliasing."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import number, one_of
from poolbench.pooling.base import Pool, Sides, area, around, half_before, is_open, leading, pair, refuse_open

SMALLEST_SIGMA = 1e-3


class GaussianPool2d(Pool):
    r"""Gaussian filter every ``stride`` pixels, of fixed or learned width.

    .. math:: y = \sum_{i,j} a_i a_j x_{i,j}, \qquad a_i \propto e^{-i^2 / 2 \sigma^2}, \quad \sum_i a_i = 1

    Cut to ``kernel_size`` pixels and normalised after the cut. With an even window the output pixels lie between input
    pixels (``i`` = -1.5, -0.5, 0.5, 1.5 for four), so that step 2 treats left and right alike; with an odd one they
    lie on every second input pixel. Tends to subsampling (odd) or the 2x2 average (even) as ``sigma`` falls, and to
    the average of the window as it grows. Four pixels with ``sigma`` = 0.954 have the ratio 1:3:3:1 of BlurPool.

    The border is filled by reflection, as for :class:`~poolbench.pooling.blur_average.BlurAveragePool2d`, or where the
    map is too small for it by repeating the outermost pixels. Training and evaluation are alike.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride: filter and step in pixels; the filter starts ``(kernel_size - 1) // 2`` before the step.
        sigma: standard deviation in pixels, at least 0.001; where the learning starts if it is learned.
        learnable: ``False``, ``"layer"`` (one ``sigma`` for all channels) or ``"channel"`` (one each), kept above
            0.001.
        padding_mode: ``"reflect"`` or ``"replicate"``.
    Use: as plain antialiased downsampling; with a learned width the net chooses its own blur.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Burt and Adelson, IEEE Transactions on Communications 1983 (the Gaussian pyramid).
    """

    rectangles = bounded = odd = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "learnable": "channel", "padding_mode": "replicate"},
        {"learnable": "layer"},
        {"kernel_size": (4, 3), "stride": (2, 1)},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 4,
        stride: Sides | None = 2,
        sigma: float = 1.0,
        learnable: bool | str = False,
        padding_mode: str = "reflect",
    ):
        super().__init__(channels, kernel_size, stride, half_before(self.sides("kernel_size", kernel_size)))
        self.start = float(self.checked("sigma", sigma, number(least=SMALLEST_SIGMA, open=bool(learnable))))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        self.padding_mode = self.checked("padding_mode", padding_mode, one_of("reflect", "replicate"))
        self.dynamic_sizes = self._never_too_small()
        if learnable:
            self.rho = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()

    def _never_too_small(self) -> bool:
        """Whether a map that it takes always has enough rows and columns to be reflected."""
        sides = zip(pair(self.kernel_size), pair(self.stride), pair(self.padding), strict=True)
        return all(max(before, window - step - before) < step for window, step, before in sides)

    def reset_parameters(self) -> None:
        """Put a learned ``sigma`` back to where it starts."""
        if self.learnable:
            with torch.no_grad():
                self.rho.fill_(math.log(math.expm1(self.start - SMALLEST_SIGMA)))  # the inverse of softplus

    @property
    def sigma(self) -> Tensor | float:
        """The standard deviation: a number, or where it is learned a tensor ``(1,)`` or ``(C,)``."""
        return SMALLEST_SIGMA + F.softplus(self.rho) if self.learnable else self.start

    def pool(self, x: Tensor) -> Tensor:
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        if is_open(x):
            if not self._never_too_small():
                refuse_open(x, self, "of maps too small to be reflected the outermost pixels are repeated")
            x = F.pad(x, around(self), mode=self.padding_mode)
            return leading(F.conv2d(x, self._filter(x), stride=self.stride, groups=self.channels), height, width)
        (k_rows, k_columns), (top, left), (down, across) = map(pair, (self.kernel_size, self.padding, self.stride))
        bottom = (height - 1) * down + k_rows - top - x.shape[-2]  # below 0: rows that no filter sees
        right = (width - 1) * across + k_columns - left - x.shape[-1]
        sides = (left, max(0, right), top, max(0, bottom))
        if any(sides):
            small = max(top, bottom) >= x.shape[-2] or max(left, right) >= x.shape[-1]
            x = F.pad(x, sides, mode="replicate" if small else self.padding_mode)
        # One filter of k x k instead of a row and a column: at 4 pixels torch is a tenth faster with it.
        y = F.conv2d(x, self._filter(x), stride=self.stride, groups=self.channels)
        return leading(y, height, width)

    def _filter(self, x: Tensor) -> Tensor:
        """``(C, 1, k, k)``, worked out in float32 or better."""
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        sigma = self.sigma.to(wide) if self.learnable else torch.full((1,), self.start, dtype=wide, device=x.device)
        rows, columns = (self._taps(side, sigma) for side in pair(self.kernel_size))
        both = rows[:, :, None] * columns[:, None, :]
        return both[:, None].expand(self.channels, 1, -1, -1).to(x.dtype)

    def _taps(self, side: int, sigma: Tensor) -> Tensor:
        """``(sigmas, side)``."""
        place = torch.arange(side, dtype=sigma.dtype, device=sigma.device) - (side - 1) / 2
        # A softmax, since the powers themselves all vanish for a small sigma and an even window.
        return (-((place / sigma[:, None]) ** 2) / 2).softmax(1)

    def flops_per_window(self) -> int:
        return 2 * area(self.kernel_size)

    def extra_repr(self) -> str:
        text = f"sigma={self.start}, learnable={self.learnable}, padding_mode={self.padding_mode!r}"
        return f"kernel_size={self.kernel_size}, stride={self.stride}, {text}"
