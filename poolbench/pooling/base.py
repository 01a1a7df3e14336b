"""What every pool shares: its geometry, its checks, what it says of itself."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from poolbench.checks import Rule, checked, sides, whole
from poolbench.pooling.parts.tracing import as_leaf, recorded

# What an option of the windows' geometry may be given as: one number for both sides, or (rows, columns).
Sides = int | Sequence[int]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """``(rows, columns)`` of what a pool keeps of such an option: a number where both agree, else a pair."""
    return (value, value) if isinstance(value, int) else value


def area(value: int | tuple[int, int]) -> int:
    """Cells of a window of these sides."""
    rows, columns = pair(value)
    return rows * columns


def joined(rows: int, columns: int) -> int | tuple[int, int]:
    """The reverse of :func:`pair`."""
    return rows if rows == columns else (rows, columns)


def half_before(kernel_size: int | tuple[int, int]) -> int | tuple[int, int]:
    """The border by which a window of this size lies around the pixel where its step stands."""
    rows, columns = pair(kernel_size)
    return joined((rows - 1) // 2, (columns - 1) // 2)


def one_column(pool: "Pool") -> bool:
    """Whether each column is pooled by itself: then a learned filter has no left and right."""
    return pair(pool.kernel_size)[1] == pair(pool.stride)[1] == 1


class Pool(nn.Module):
    """Base of the local operators: windows of ``kernel_size`` pixels every ``stride`` pixels.

    A pool maps ``H`` to ``H // stride`` for every ``H >= stride``, whatever its window, so that two pools of one stride
    give maps of one size; only a window larger than the padded map by a stride or more is refused. Windows start at
    ``i * stride - padding``; where the last ones reach over the border they are clipped to the map, and rows and
    columns that no window needs are left out.

    A subclass writes ``pool(x)``. It is given what :meth:`forward` has checked: maps ``(N, C, H, W)`` of at least one
    image, of ``channels`` channels, in a floating point dtype.

    A class that says ``rectangles`` takes each of the three options as a number or as a pair ``(rows, columns)``, and
    keeps it as a number where both agree. Such a class serves maps ``(N, C, L)`` too: ``create_pool(name, channels,
    dims=1)`` makes it with windows of one row and sets ``dims``; ``pool(x)`` then gets ``(N, C, 1, L)``. Its sizes, as
    those of ``output_size`` and ``flops``, are ``(1, L)``.

    Args:
        channels: channels ``C`` of the input.
        kernel_size: sides of the window, in pixels, at least 1.
        stride: step between windows, in pixels, at least 1; None means the window's sides.
        padding: pixels by which the first window starts outside the map, at most half a window. Padded cells never
            count: the maximum ignores them, the average divides by the cells inside.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``; with ``dims=1``, ``(N, C, L) -> (N, C, L // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, the sizes for a map that is too small, and
        what it got where that is no map of ``channels`` channels.
    """

    pool: Callable[[Tensor], Tensor]  # no more than named here: a subclass may keep a module of this name

    # What an operator says of itself, with its initial weights, in evaluation mode. poolbench.testing holds it to it,
    # and ours also to not having what they do not claim. A subclass overrides what is different for it; what depends
    # on options is set on the instance. None: it depends on the weights, and is not checked.
    mixes_channels: bool = False  # does one output channel see more than one input channel?
    treats_channels_alike: bool = True  # does permuting the channels permute the output?
    random: bool = False  # does the training output depend on a random draw?
    random_evaluation: bool = False  # and the output in evaluation?
    keeps_constants: bool = True  # is a constant non-negative map kept (away from padding)?
    bounded: bool | None = False  # does the output stay between the least and the largest value of the map?
    odd: bool | None = False  # f(-x) = -f(x)
    homogeneous: bool | None = False  # f(a x) = a f(x) for a > 0
    follows_offset: bool | None = False  # f(x + b) = f(x) + b
    keeps_sign: bool | None = False  # x >= 0 gives f(x) >= 0
    mirrors: bool | None = False  # does it commute with a horizontal mirror of maps of which nothing is cropped?
    stationary: bool = True  # does moving the input by a stride move the output by a pixel?
    onnx: bool = True  # does torch.onnx export it, with the same values in onnxruntime?
    dynamic_sizes: bool = True  # also with a height and width that are open? Others refuse that

    # Whether windows, steps and borders may differ in rows and columns; if not, why.
    rectangles: bool = False
    why_square: str = "its class does not say that it takes rectangles"
    dims: int = 2  # of a map: rows and columns; 1: columns alone

    # Further sets of options with which the contract is tested, beside the defaults.
    variants: ClassVar[tuple[dict[str, Any], ...]] = ()

    # Names of parameters that all pools of one net share; who builds the net ties them.
    shared_in_net: tuple[str, ...] = ()

    # Where an operator that draws takes its numbers from; None is torch's global generator.
    generator: torch.Generator | None = None

    def __init__(self, channels: int, kernel_size: Sides = 2, stride: Sides | None = None, padding: Sides = 0):
        super().__init__()
        self.channels = self.checked("channels", channels, whole(1))
        self.kernel_size = self.sides("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else self.sides("stride", stride)
        self.padding = self.sides("padding", padding, _half(self.kernel_size))
        window, step, border = (pair(one)[1] for one in (self.kernel_size, self.stride, self.padding))
        if self.mirrors and 2 * border != window - step:
            self.mirrors = False  # seen in a mirror the windows stand elsewhere

    def forward(self, input: Tensor) -> Tensor:
        """``pool(input)`` of a map that is checked; no images at all give no images, with gradients as torch's layers.

        ``torch.fx`` is shown one call of this module.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input)
        if not isinstance(input, Tensor):
            raise ValueError(f"{self._name()}: it takes a tensor {_AXES[self.dims]}, got {type(input).__name__}")
        if input.dim() != self.dims + 2:
            raise ValueError(
                f"{self._name()}: it takes maps {_AXES[self.dims]} of {self.dims + 2} dimensions, "
                f"got {tuple(input.shape)}"
            )
        if not input.is_floating_point():
            raise ValueError(f"{self._name()}: it takes maps of a floating point dtype, got {input.dtype}")
        if not torch.jit.is_tracing() and input.shape[1] != self.channels:  # a trace has no numbers for sizes
            raise ValueError(
                f"{self._name()}: it was made for maps of {self.channels} channels, got {input.shape[1]}: "
                f"{tuple(input.shape)}"
            )
        x = input.unsqueeze(2) if self.dims == 1 else input
        # What is recorded stands for batches of any size.
        y = self._pool_nothing(x) if not recorded() and input.shape[0] == 0 else self.pool(x)
        return y.squeeze(2) if self.dims == 1 else y

    def _pool_nothing(self, input: Tensor) -> Tensor:
        """``(0, C, H', W')`` for ``(0, C, H, W)``: what is left of one map of zeros without that map. In evaluation
        mode: no statistic moves and nothing is drawn."""
        modes = [(module, module.training) for module in self.modules()]
        for module, _ in modes:
            module.training = False
        try:
            return self.pool(torch.cat([input, input.new_zeros(1, *input.shape[1:])])).narrow(0, 0, 0)
        finally:
            for module, mode in modes:
                module.training = mode

    @property
    def ratio(self) -> float | tuple[float, float]:
        """By how much the sides of a map shrink: a number, or ``(rows, columns)`` where these differ; of maps
        ``(N, C, L)`` that of their length."""
        rows, columns = pair(self.stride)
        return float(columns) if rows == columns or self.dims == 1 else (float(rows), float(columns))

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(H', W')`` for a map of ``size`` ``(H, W)``. Raises: ValueError for a map that it cannot serve."""
        (height, width), (down, right) = size, pair(self.stride)
        if height < down or width < right:
            raise ValueError(
                f"{self._name()}: {self._map(size)} is smaller than stride {self._told(self.stride)}: "
                "nothing would be left of it"
            )
        # A window may reach over the border by less than a stride (3x3 on 2x2), but not hang mostly outside.
        (high, wide), (top, left) = pair(self.kernel_size), pair(self.padding)
        if high > height + 2 * top + down - 1 or wide > width + 2 * left + right - 1:
            raise ValueError(
                f"{self._name()}: kernel_size {self._told(self.kernel_size)} is larger than the "
                f"{self._map(size).removeprefix('a ')}"
            )
        return height // down, width // right

    def flops(self, size: tuple[int, int]) -> int | None:
        """Floating point operations for one image of ``C`` maps of ``size``, two for a multiply-add; None where the
        operator does not say."""
        height, width = self.output_size(size)
        each = self.flops_per_window()
        return None if each is None else self.channels * height * width * each

    def flops_per_window(self) -> int | None:
        """Operations for one output value. Subclasses say theirs; None: they do not, and its nets are not counted."""
        return None

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def checked(self, option: str, value: Any, rule: Rule) -> Any:
        """``value`` of an option, as ``rule`` of :mod:`poolbench.checks` allows it.

        Raises: ValueError naming this pool, the option, its value and what is allowed.
        """
        return checked(f"{self._name()}: {option}", value, rule)

    def sides(self, option: str, value: Any, rule: Rule | None = None) -> int | tuple[int, int]:
        """``value`` of an option that may be ``(rows, columns)`` if the class has ``rectangles``: a number where both
        agree, else a pair.

        Args:
            rule: what is allowed; None: whole numbers of at least 1.
        Raises: ValueError as :meth:`checked`, and why only one number is allowed where two were given.
        """
        rule = rule or sides(1)
        several = isinstance(value, Sequence) and not isinstance(value, str)
        if not self.rectangles:
            one = rule.words.partition(", or two of them")[0]
            why = f" (it takes one number here, because {self.why_square})" if several else ""
            rule = Rule(lambda given, allowed=rule.allowed: not several and allowed(given), f"{one}{why}")
        self.checked(option, value, rule)
        return joined(value[0], value[1]) if several else value

    def _name(self) -> str:
        return f"pool {type(self).__name__}"

    def _told(self, value: int | tuple[int, int]) -> int | tuple[int, int]:
        """An option as it was given."""
        return pair(value)[1] if self.dims == 1 else value

    def _map(self, size: tuple[int, int]) -> str:
        return f"a map of length {size[1]}" if self.dims == 1 else f"a map of {size[0]}x{size[1]} pixels"


_AXES = {1: "(N, C, L)", 2: "(N, C, H, W)"}


def _half(kernel_size: int | tuple[int, int]) -> Rule:
    """A border of at most half a window."""
    if isinstance(kernel_size, int):
        half = f" (half of kernel_size {kernel_size})"
        words = f"{whole(0, kernel_size // 2, half).words}, or two of them (rows, columns)"
    else:
        words = f"whole numbers of at least 0 and at most half of kernel_size {kernel_size} (rows, columns)"
    both = sides(0)

    def allowed(value: Any) -> bool:
        return both.allowed(value) and all(
            border <= window // 2 for border, window in zip(pair(value), pair(kernel_size), strict=True)
        )

    return Rule(allowed, words)


def is_open(x: Tensor) -> bool:
    """Whether ``x`` is exported with a height or width that is left open: what is done must not depend on it."""
    return torch.compiler.is_exporting() and any(isinstance(side, torch.SymInt) for side in x.shape[-2:])


def _first(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns, by their numbers: of a slice an export asks whether it leaves anything out."""
    rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
    return x.index_select(-2, rows).index_select(-1, columns)


def refuse_open(x: Tensor, pool: Pool, why: str) -> None:
    """Raises: ValueError where :func:`is_open` of a pool that cannot be exported so, instead of wrong values."""
    if is_open(x):
        raise ValueError(f"{pool._name()}: height and width cannot be left open in an export: {why}")


def around(pool: Pool) -> tuple[int, int, int, int]:
    """Cells to pad so that whatever the size the last windows fit: at least a step falls to each output."""
    top, left = pair(pool.padding)
    bottom, right = (
        max(0, window - step - border)
        for window, step, border in zip(pair(pool.kernel_size), pair(pool.stride), (top, left), strict=True)
    )
    return (left, right, top, bottom)


def cropped(x: Tensor, pool: Pool) -> Tensor:
    """``x`` without the last rows and columns that make no whole step of ``pool``."""
    kept = pool.output_size((x.shape[-2], x.shape[-1]))
    height, width = (n * step for n, step in zip(kept, pair(pool.stride), strict=True))
    bottom, right = x.shape[-2] - height, x.shape[-1] - width
    if is_open(x):
        return _first(x, height, width)
    # The gradient of a slice would be in the default memory format, whatever that of x.
    return F.pad(x, (0, -right, 0, -bottom)) if bottom or right else x


def leading(y: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of ``y``: itself where it has no others, else a copy in one piece of memory."""
    if is_open(y):
        return _first(y, height, width)
    bottom, right = y.shape[-2] - height, y.shape[-1] - width
    return F.pad(y, (0, -right, 0, -bottom)) if bottom or right else y


def max_windows(x: Tensor, pool: Pool) -> Tensor:
    """Maximum of each window of ``pool``, ``(N, C, H, W) -> (N, C, H', W')``; cells outside never win."""
    if is_open(x):
        height, width = pool.output_size((x.shape[-2], x.shape[-1]))
        x = F.pad(x, around(pool), value=-math.inf)
        return leading(F.max_pool2d(x, pool.kernel_size, pool.stride), height, width)
    (height, width), missing, ceil_mode = _fit(pool, x.shape[-2:])
    if any(missing):
        x = F.pad(x, (0, missing[1], 0, missing[0]), value=-math.inf)
    y = F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, ceil_mode=ceil_mode)
    return leading(y, height, width)


def average_windows(x: Tensor, pool: Pool) -> Tensor:
    """Average of each window of ``pool`` over its cells inside the map, ``(N, C, H, W) -> (N, C, H', W')``."""
    if is_open(x):
        size = (x.shape[-2], x.shape[-1])
        y = leading(F.avg_pool2d(F.pad(x, around(pool)), pool.kernel_size, pool.stride), *pool.output_size(size))
        return y * (area(pool.kernel_size) / cells_inside(pool, size, x))
    (height, width), missing, ceil_mode = _fit(pool, x.shape[-2:])

    def average(map: Tensor) -> Tensor:
        return F.avg_pool2d(map, pool.kernel_size, pool.stride, pool.padding, ceil_mode, count_include_pad=False)

    if any(missing):
        pad = (0, missing[1], 0, missing[0])
        y = average(F.pad(x, pad)) / average(F.pad(torch.ones_like(x[:1, :1]), pad))
    else:
        y = average(x)
    return leading(y, height, width)


def sum_windows(x: Tensor, pool: Pool) -> Tensor:
    """Sum of each window of ``pool`` over its cells inside the map, ``(N, C, H, W) -> (N, C, H', W')``."""
    # By another divisor torch would sum at once, but ONNX knows only averages.
    return average_windows(x, pool) * cells_inside(pool, (x.shape[-2], x.shape[-1]), x)


def weigh_windows(x: Tensor, weight: Tensor, pool: Pool) -> Tensor:
    """Weighted sum of the cells of each window of ``pool``, ``(N, C, H, W) -> (N, C, H', W')``; ``weight`` is
    ``(C, k, k)`` with the sides of a window, or ``(1, k, k)`` for all channels. At the border a sum of fewer cells is
    scaled to all of them, so equal weights give a multiple of the average everywhere."""
    size, windows, steps, borders = x.shape[-2:], pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)
    height, width = pool.output_size((size[0], size[1]))
    weight = weight.to(x.dtype).expand(pool.channels, *windows).unsqueeze(1)
    cells = area(pool.kernel_size)
    if is_open(x):
        y = F.conv2d(F.pad(x, around(pool)), weight, None, steps, groups=pool.channels)
        return leading(y, height, width) * (cells / cells_inside(pool, (size[0], size[1]), x))
    # By how much the last windows pass the map.
    bottom, right = (
        max(0, (n - 1) * step + window - border - side)
        for n, step, window, border, side in zip((height, width), steps, windows, borders, size, strict=True)
    )
    (top, left), padding = borders, borders
    if bottom > top or right > left:  # a convolution pads both ends alike
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    y = leading(F.conv2d(x, weight, None, steps, padding, groups=pool.channels), height, width)
    if top or left or bottom or right:
        y = y * (cells / cells_inside(pool, (size[0], size[1]), x))
    return y


def cells_inside(pool: Pool, size: tuple[int, int], like: Tensor) -> Tensor:
    """``(1, 1, H', W')``: how many cells of each window of ``pool`` lie inside a map of ``size``, in the dtype and on
    the device of ``like``."""
    counts = []
    geometry = zip(
        pool.output_size(size), size, pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), strict=True
    )
    for n, side, window, step, border in geometry:
        first = torch.arange(n, dtype=like.dtype, device=like.device) * step - border
        counts.append((first + window).clamp(max=side) - first.clamp(min=0))
    return (counts[0][:, None] * counts[1])[None, None]


def _fit(pool: Pool, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """How torch's own pooling gives ``pool.output_size``: that size, rows and columns to add at the bottom and right
    (0 in all usual cases, since it copies the map), and ``ceil_mode``. A larger output is cropped by the caller: its
    further windows are not ours, its first ones are the same."""
    wanted = pool.output_size((size[0], size[1]))
    missing, ceil_mode = [0, 0], False
    windows, steps, borders = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)
    for axis in (0, 1):
        reach = size[axis] + 2 * borders[axis] - windows[axis]
        short = (wanted[axis] - 1) * steps[axis] - reach  # cells by which the last window passes the padded map
        if 0 < short < steps[axis]:
            ceil_mode = True  # torch clips such a window by itself
        elif short > 0:
            missing[axis] = short
    return wanted, (missing[0], missing[1]), ceil_mode
