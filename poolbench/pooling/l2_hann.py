"""Root of the blurred squares: a norm of each neighbourhood that does not alias."""

import math

import torch
from torch import Tensor

from poolbench.accelerator import full_precision
from poolbench.checks import number
from poolbench.pooling.base import Pool, Sides, area, half_before, pair
from poolbench.pooling.blur_average import describe_blur
from poolbench.pooling.parts.filters import filtered


class L2HannPool2d(Pool):
    r"""Square, blur by a Hann window every ``stride`` pixels, root.

    .. math:: y = \sqrt{\sum_{i,j} h_i h_j \, x_{ij}^2 + \epsilon}, \qquad
        h_i \propto \sin^2 \frac{\pi i}{m + 1}, \; i = 1 \ldots m, \; \sum_i h_i = 1

    ``lp`` with ``p=2`` on windows that overlap and fade out at their ends, so that a shifted map gives a shifted
    output: made for perceptual metrics, in place of the maxima of a trained net. Numbers whose squares overflow
    (beyond 1e19 in float32) give infinity.

    Args:
        channels: channels ``C`` of the input.
        stride: step in pixels.
        filter_size: taps ``m`` of the window, 1 to 7; 3, the taps 1, 2, 1 over 4, are the authors'
            ``filter_size=5``, which counts two zeros at the ends.
        border: how the map goes on outside: ``"zero"`` as in the authors' code, ``"reflect"`` or ``"replicate"``. Where
            a map is too small to be reflected its outermost pixels are repeated.
        eps: added before the root, above 0: its slope at a map of zeros is finite then.
    Use: where maps are compared, as in perceptual losses; in training as ``lp``, with less aliasing. It gives
        magnitudes: signs are lost.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; the filter starts ``(filter_size - 1) // 2`` before
        each step.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Ding, Ma, Wang and Simoncelli, IEEE TPAMI 2022 (DISTS); Hénaff and Simoncelli, ICLR 2016.
    """

    rectangles = homogeneous = keeps_sign = True  # but for eps, which is too small to be seen
    variants = ({"filter_size": 4, "border": "reflect"}, {"stride": 3, "border": "replicate"})

    def __init__(
        self,
        channels: int,
        stride: Sides = 2,
        filter_size: Sides = 3,
        border: str = "zero",
        eps: float = 1e-12,
    ):
        super().__init__(channels, kernel_size=1, stride=stride)
        describe_blur(self, filter_size, border, before=0, window=1)
        self.eps = float(self.checked("eps", eps, number(least=0, open=True)))
        self.bounded = False  # what is negative comes out above 0

    def pool(self, x: Tensor) -> Tensor:
        high, across = pair(self.filter_size)
        before = half_before(self.filter_size)
        output = self.output_size((x.shape[-2], x.shape[-1]))
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        with full_precision(x):  # in half precision squares overflow
            total = filtered(wide.square(), (hann(high), hann(across)), self.stride, before, output, self.border)
        return (total + self.eps).sqrt().to(x.dtype)

    def flops_per_window(self) -> int:
        # Squares of the pixels, columns at the new rate, rows at the old one, the addition and the root.
        (high, across), (down, _) = pair(self.filter_size), pair(self.stride)
        return area(self.stride) + 2 * high + 2 * across * down + 2

    def extra_repr(self) -> str:
        return f"stride={self.stride}, filter_size={self.filter_size}, border={self.border!r}, eps={self.eps:g}"


def hann(size: int) -> list[float]:
    """``size`` taps of the window without its zeros at the ends, of sum 1."""
    taps = [math.sin(math.pi * i / (size + 1)) ** 2 for i in range(1, size + 1)]
    return [tap / sum(taps) for tap in taps]
