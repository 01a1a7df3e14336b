"""What every pool shares: its geometry, its checks, what it says of itself."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pool(nn.Module):
    """Base of the local operators: windows of ``kernel_size`` pixels every ``stride`` pixels.

    A pool maps ``H`` to ``H // stride`` for every ``H >= stride``, whatever its window, so that two pools of one stride
    give maps of one size; only a window larger than the padded map by a stride or more is refused. Windows start at
    ``i * stride - padding``; where the last ones reach over the border they are clipped to the map, and rows and
    columns that no window needs are left out.

    Args:
        channels: channels ``C`` of the input.
        kernel_size: side of the square window, in pixels, at least 1.
        stride: step between windows, in pixels, at least 1; None means the window's side.
        padding: pixels by which the first window starts outside the map, at most half a window. Padded cells never
            count: the maximum ignores them, the average divides by the cells inside.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    """

    # What the contract tests check. A subclass overrides what is different for it.
    mixes_channels: ClassVar[bool] = False  # does one output channel see more than one input channel?
    random: ClassVar[bool] = False  # does the training output depend on a random draw?
    keeps_constants: ClassVar[bool] = True  # is a constant non-negative map kept (away from padding)?

    def __init__(self, channels: int, kernel_size: int = 2, stride: int | None = None, padding: int = 0):
        super().__init__()
        self.channels = positive_int(self, "channels", channels)
        self.kernel_size = positive_int(self, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else positive_int(self, "stride", stride)
        if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding <= self.kernel_size // 2:
            raise ValueError(
                f"{self._name()}: padding must be a whole number from 0 to {self.kernel_size // 2} "
                f"(half of kernel_size {self.kernel_size}), got {padding!r}"
            )
        self.padding = padding

    @property
    def ratio(self) -> float:
        """By how much the side of a map shrinks."""
        return float(self.stride)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(H', W')`` for a map of ``size`` ``(H, W)``. Raises: ValueError for a map that it cannot serve."""
        for side in size:
            if side < self.stride:
                raise ValueError(
                    f"{self._name()}: a map of {size[0]}x{size[1]} pixels is smaller than stride {self.stride}: "
                    "nothing would be left of it"
                )
            # A window may reach over the border by less than a stride (3x3 on 2x2), but not hang mostly outside.
            if self.kernel_size > side + 2 * self.padding + self.stride - 1:
                raise ValueError(
                    f"{self._name()}: kernel_size {self.kernel_size} is larger than the map of "
                    f"{size[0]}x{size[1]} pixels"
                )
        return size[0] // self.stride, size[1] // self.stride

    def flops(self, size: tuple[int, int]) -> int:
        """Floating point operations for one image of ``C`` maps of ``size``, two for a multiply-add."""
        height, width = self.output_size(size)
        return self.channels * height * width * self.flops_per_window()

    def flops_per_window(self) -> int:
        """Operations for one output value. Subclasses say theirs."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def _name(self) -> str:
        return f"pool {type(self).__name__}"


def positive_int(owner: nn.Module, option: str, value: int) -> int:
    """``value`` if it is a whole number above 0. Raises: ValueError naming owner, option and value."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"pool {type(owner).__name__}: {option} must be a whole number of at least 1, got {value!r}")
    return value


def max_windows(x: Tensor, pool: Pool) -> Tensor:
    """Maximum of each window of ``pool``, ``(N, C, H, W) -> (N, C, H', W')``; cells outside never win."""
    (height, width), missing, ceil_mode = _fit(pool, x.shape[-2:])
    if any(missing):
        x = F.pad(x, (0, missing[1], 0, missing[0]), value=-math.inf)
    y = F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, ceil_mode=ceil_mode)
    return y[..., :height, :width]


def average_windows(x: Tensor, pool: Pool) -> Tensor:
    """Average of each window of ``pool`` over its cells inside the map, ``(N, C, H, W) -> (N, C, H', W')``."""
    (height, width), missing, ceil_mode = _fit(pool, x.shape[-2:])

    def average(map: Tensor) -> Tensor:
        return F.avg_pool2d(map, pool.kernel_size, pool.stride, pool.padding, ceil_mode, count_include_pad=False)

    if any(missing):
        pad = (0, missing[1], 0, missing[0])
        y = average(F.pad(x, pad)) / average(F.pad(torch.ones_like(x[:1, :1]), pad))
    else:
        y = average(x)
    return y[..., :height, :width]


def sum_windows(x: Tensor, pool: Pool) -> Tensor:
    """Sum of each window of ``pool`` over its cells inside the map, ``(N, C, H, W) -> (N, C, H', W')``."""
    (height, width), missing, ceil_mode = _fit(pool, x.shape[-2:])
    if any(missing):
        x = F.pad(x, (0, missing[1], 0, missing[0]))
    y = F.avg_pool2d(x, pool.kernel_size, pool.stride, pool.padding, ceil_mode, divisor_override=1)
    return y[..., :height, :width]


def _fit(pool: Pool, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """How torch's own pooling gives ``pool.output_size``: that size, rows and columns to add at the bottom and right
    (0 in all usual cases, since it copies the map), and ``ceil_mode``. A larger output is cropped by the caller: its
    further windows are not ours, its first ones are the same."""
    wanted = pool.output_size((size[0], size[1]))
    missing, ceil_mode = [0, 0], False
    for axis in (0, 1):
        reach = size[axis] + 2 * pool.padding - pool.kernel_size
        short = (wanted[axis] - 1) * pool.stride - reach  # cells by which the last window passes the padded map
        if 0 < short < pool.stride:
            ceil_mode = True  # torch clips such a window by itself
        elif short > 0:
            missing[axis] = short
    return wanted, (missing[0], missing[1]), ceil_mode
