"""What stands in a network where another pool was put: as large maps as before, by whatever pool."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from poolbench.models.survey import Window
from poolbench.pooling.parts.tracing import as_leaf


class SwappedPool2d(nn.Module):
    """Stands where a pooling module stood: its maps are as large as that one's.

    Args:
        pool: does the work.
        window: of the module that stood here; its stride is what ``pool`` shrinks by.
        kind: of the module that stood here.
    Shape: ``(N, C, H, W) -> (N, C, H', W')`` as ``window`` has it.
    """

    def __init__(self, pool: nn.Module, window: Window, kind: str):
        super().__init__()
        self.pool, self.swapped_window, self.swapped_kind = pool, window, kind

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, Proxy):
            return as_leaf(self, input)
        window = self.swapped_window
        return _pooled(self.pool, input, window.output_size(input.shape[-2:]), window.stride[0])

    def extra_repr(self) -> str:
        window = self.swapped_window
        return f"instead of {self.swapped_kind} {window.kernel[0]}x{window.kernel[1]}, stride {window.stride[0]}"


class _PooledConvolution:
    """What a convolution becomes: it steps by one pixel, and ``pool`` does what its stride did. A class of its own for
    each kind of convolution (:func:`pooled_kind`), so that names of weights, and what asks for an ``nn.Conv2d``, find
    what they did."""

    pool: nn.Module
    swapped_window: Window
    swapped_kind: str

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, Proxy):
            return as_leaf(self, input)
        y = super().forward(input)
        window = self.swapped_window
        # Not -(-a // b), which ONNX rounds the other way where sizes are open.
        target = tuple((side + step - 1) // step for side, step in zip(y.shape[-2:], window.stride, strict=True))
        if window.same:
            # TensorFlow's padding depends on the stride: what the original gave first is not always this map's first.
            top, left = (_first(side, axis, window) for axis, side in enumerate(input.shape[-2:]))
            y = F.pad(y, (-left, 0, -top, 0)) if top or left else y
        return _pooled(self.pool, y, target, window.stride[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self).__mro__[2],), self.__getstate__()


@cache
def pooled_kind(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    return type(f"Pooled{kind.__name__}", (_PooledConvolution, kind), {"__module__": __name__})


def _empty(kind: type[nn.Conv2d]) -> nn.Conv2d:
    """What pickle and copy fill."""
    pooled = pooled_kind(kind)
    return pooled.__new__(pooled)


def _first(side: int, axis: int, window: Window) -> int:
    """Where the map of stride 1 holds the first value of the original, with padding ``same`` in both."""
    reach = (window.kernel[axis] - 1) * window.dilation[axis]
    stride = window.stride[axis]
    padding = max(((side + stride - 1) // stride - 1) * stride + reach + 1 - side, 0)
    return reach // 2 - padding // 2


def _pooled(pool: nn.Module, x: Tensor, target: tuple[int, int], stride: int) -> Tensor:
    """``pool(x)`` of size ``target``: the map is extended or cropped where a step of ``stride`` misses it."""
    if min(target) >= 1:  # else nothing is left, and the pool says so
        height, width = (
            min(max(side, stride * steps), stride * (steps + 1) - 1)
            for side, steps in zip(x.shape[-2:], target, strict=True)
        )
        return _resized(pool(_resized(x, height, width)), *target)
    return pool(x)


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """``x`` without its last rows and columns, or with the last of them repeated."""
    missing = height - x.shape[-2], width - x.shape[-1]
    if min(missing) < 0:
        # The gradient of a slice would be in the default memory format, whatever that of x.
        x = F.pad(x, (0, min(0, missing[1]), 0, min(0, missing[0])))
    for axis, rows in zip((-2, -1), missing, strict=True):
        if rows > 0:  # F.pad could as well, but its gradient on GPUs has no deterministic form
            x = torch.cat([x, *[x.narrow(axis, x.shape[axis] - 1, 1)] * rows], dim=axis)
    return x
