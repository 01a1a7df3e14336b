"""Blur, then every second pixel: average pooling without aliasing."""

from torch import Tensor

from poolbench.checks import one_of, sides
from poolbench.pooling.base import Pool, Sides, area, half_before, pair
from poolbench.pooling.parts.filters import BORDERS, binomial, filtered


class BlurAveragePool2d(Pool):
    r"""Binomial filter every ``stride`` pixels, in place of average pooling.

    .. math:: y = \sum_{i,j} a_i a_j x_{i,j}, \qquad a = (1, 1), (1, 2, 1), (1, 3, 3, 1), \ldots \text{ over their sum}

    A subsampled map must not hold frequencies above half of its new rate, or they return as others and jump when the
    image is shifted; the filter takes them out before. With ``filter_size`` 2 it is the 2x2 average, with 1
    subsampling. At an even size the output lies between pixels, so a map and its mirror image are treated alike.

    Args:
        channels: channels ``C`` of the input.
        stride: step in pixels.
        filter_size: taps ``m`` of the filter, 1 to 7, or ``(rows, columns)`` of them.
        border: how the map goes on outside: ``"reflect"``, ``"replicate"`` or ``"zero"``. Where a map is too small to
            be reflected its outermost pixels are repeated.
    Use: for antialiased averaging at the price of a plain pooling.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; the filter starts ``(filter_size - 1) // 2`` before
        each step.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Zhang, ICML 2019 (BlurPool).
    """

    rectangles = bounded = odd = homogeneous = follows_offset = keeps_sign = True
    variants = ({"filter_size": 3, "border": "zero"}, {"filter_size": 7, "border": "replicate"})

    def __init__(self, channels: int, stride: Sides = 2, filter_size: Sides = 4, border: str = "reflect"):
        super().__init__(channels, kernel_size=1, stride=stride)
        describe_blur(self, filter_size, border, before=0, window=1)

    def pool(self, x: Tensor) -> Tensor:
        return blur(x, self, self.output_size((x.shape[-2], x.shape[-1])))

    def flops_per_window(self) -> int:
        return blur_flops(self)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, filter_size={self.filter_size}, border={self.border!r}"


# What the three pools that blur share. A pool holds `filter_size` and `border`.


def describe_blur(pool: Pool, filter_size: Sides, border: str, before: int, window: int) -> None:
    """Check and set the two options, and what follows from them for the pool's account of itself; ``window`` is the
    width of what comes before the blur, which starts ``before`` pixels outside the map."""
    pool.filter_size = pool.sides("filter_size", filter_size, sides(1, 7))
    pool.border = pool.checked("border", border, one_of(*BORDERS))
    width = pair(pool.filter_size)[1]
    start, length = before + (width - 1) // 2, window + width - 1
    pool.mirrors = 2 * start == length - pair(pool.stride)[1]
    if border == "zero" and area(pool.filter_size) > 1:
        pool.rim = 2  # pixels that the zeros outside may reach
        pool.bounded = False


def blur(x: Tensor, pool: Pool, output: tuple[int, int], stride: int | tuple[int, int] | None = None) -> Tensor:
    """The binomial filter of ``pool``, with its step or another ``stride``."""
    high, wide = pair(pool.filter_size)
    taps = binomial(high), binomial(wide)
    step = pool.stride if stride is None else stride
    return filtered(x, taps, step, half_before(pool.filter_size), output, pool.border)


def blur_flops(pool: Pool, stride: int | tuple[int, int] | None = None) -> int:
    """Operations of the filter, with its step or another ``stride``, for one output value: columns at the new rate,
    rows at the old one."""
    (high, wide), (down, _) = pair(pool.filter_size), pair(pool.stride if stride is None else stride)
    return (2 * high if high > 1 else 0) + (2 * wide * down if wide > 1 else 0)
