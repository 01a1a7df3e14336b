"""Gaussian blur, then every second pixel: the plain way to shrink an image without aliasing."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import number, one_of, whole
from poolbench.pooling.base import Pool, is_open, leading, refuse_open

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

    bounded = odd = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = ({"kernel_size": 3, "learnable": "channel", "padding_mode": "replicate"}, {"learnable": "layer"})

    def __init__(
        self,
        channels: int,
        kernel_size: int = 4,
        stride: int | None = 2,
        sigma: float = 1.0,
        learnable: bool | str = False,
        padding_mode: str = "reflect",
    ):
        super().__init__(channels, kernel_size, stride, (self.checked("kernel_size", kernel_size, whole(1)) - 1) // 2)
        self.start = float(self.checked("sigma", sigma, number(least=SMALLEST_SIGMA, open=bool(learnable))))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        self.padding_mode = self.checked("padding_mode", padding_mode, one_of("reflect", "replicate"))
        self.dynamic_sizes = max(self.padding, self.kernel_size - self.stride - self.padding) < self.stride
        if learnable:
            self.rho = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()

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
        k, s, pad = self.kernel_size, self.stride, self.padding
        if is_open(x):
            after = max(0, k - s - pad)
            if max(pad, after) >= s:
                refuse_open(x, self, "of maps too small to be reflected the outermost pixels are repeated")
            x = F.pad(x, (pad, after, pad, after), mode=self.padding_mode)
            return leading(F.conv2d(x, self._filter(x), stride=s, groups=self.channels), height, width)
        bottom = (height - 1) * s + k - pad - x.shape[-2]  # below 0: rows that no filter sees
        right = (width - 1) * s + k - pad - x.shape[-1]
        sides = (pad, max(0, right), pad, max(0, bottom))
        if any(sides):
            small = pad >= min(x.shape[-2:]) or bottom >= x.shape[-2] or right >= x.shape[-1]
            x = F.pad(x, sides, mode="replicate" if small else self.padding_mode)
        # One filter of k x k instead of a row and a column: at 4 pixels torch is a tenth faster with it.
        y = F.conv2d(x, self._filter(x), stride=s, groups=self.channels)
        return leading(y, height, width)

    def _filter(self, x: Tensor) -> Tensor:
        """``(C, 1, k, k)``, worked out in float32 or better."""
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        sigma = self.sigma.to(wide) if self.learnable else torch.full((1,), self.start, dtype=wide, device=x.device)
        place = torch.arange(self.kernel_size, dtype=wide, device=x.device) - (self.kernel_size - 1) / 2
        # A softmax, since the powers themselves all vanish for a small sigma and an even window.
        taps = (-((place / sigma[:, None]) ** 2) / 2).softmax(1)
        both = taps[:, :, None] * taps[:, None, :]
        return both[:, None].expand(self.channels, 1, -1, -1).to(x.dtype)

    def flops_per_window(self) -> int:
        return 2 * self.kernel_size**2

    def extra_repr(self) -> str:
        text = f"sigma={self.start}, learnable={self.learnable}, padding_mode={self.padding_mode!r}"
        return f"kernel_size={self.kernel_size}, stride={self.stride}, {text}"
