"""Formulas over the cells of a window, worked out a few images at a time so that what lies between input and output
stays in the processor's cache, and recomputed in the backward pass instead of stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.pooling.base import Pool, is_open, pair
from poolbench.pooling.parts.infinite import may_look, seen_finite, transformed
from poolbench.pooling.parts.tracing import recorded

# Of the maps, per thread. Found by timing: at half and at double this the operators are up to a tenth slower, at 16
# times this (out of the cache) twice as slow.
CHUNK_BYTES = 1 << 20


def over_windows(
    pool: Pool,
    combine: Callable[..., Tensor],
    maps: Sequence[Tensor],
    others: Sequence[Tensor] = (),
    slope: Callable[..., Sequence[Tensor | None]] | None = None,
    limits: Callable[..., Tensor] | None = None,
) -> Tensor:
    """``combine`` of every window of ``pool``.

    Args:
        pool: whose ``kernel_size`` (of K cells), ``stride`` and ``padding`` the windows have.
        combine: called as ``combine(inside, *windows, *others)``. Each of ``windows`` holds the cells of all windows
            along axis 0, ``(K, ...)``, row by row; cells outside the map are 0 and ``inside`` ``(K, ...)`` is False
            there; ``inside`` is None where all windows lie in the map. Gives the pooled map, ``(...)``. Where the
            channels lie among the further axes depends on the memory format: reduce over axis 0 and broadcast, nothing
            else. It must be differentiable by torch, must not write into its arguments, and sees float32 or better.
        maps: the maps ``(N, C, H, W)`` that are cut into windows, the pool's input first; their channels may be 1.
        others: further tensors: pooled maps and parameters, in the form ``([K,] N or 1, C or 1, H' or 1, W' or 1)``,
            or with one element; their gradients are worked out too.
        slope: called as ``slope(gradient, inside, *windows, *others)``, gives one gradient (or None) for each of the
            windows and the others, where that is faster than differentiating ``combine`` by torch. Shapes that
            broadcast to the argument's are fine, and so is more than one element per element, which are summed.
        limits: called as ``combine``, which it replaces where that gives something that is not finite (and where
            nobody may look): what the formula tends to where cells are infinite. For finite cells it is ``combine``.
    Returns: ``(N, C, H', W')`` of the input's dtype and memory format.
    """
    x = maps[0]
    plan = _Plan(
        combine,
        slope,
        limits,
        pair(pool.kernel_size),
        pair(pool.stride),
        pair(pool.padding),
        (x.shape[-2], x.shape[-1]),
        pool.output_size((x.shape[-2], x.shape[-1])),
        len(maps),
        is_channels_last(x),
        is_open(x),
    )
    # Function transforms see through the plain formula too.
    if recorded() or transformed(x):
        return plan.plain(*maps, *others)
    return _OverWindows.apply(plan, *maps, *others)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of ``x`` ``(N, C, H, W)`` lie side by side in memory, cropped maps included."""
    return x.stride(1) == 1 and not x.is_contiguous()


@dataclass
class _Plan:
    """One call: what to do with which windows. "Laid out" is a tensor with its axes in the order of the memory:
    ``(N, H, W, C)`` for channels_last, else ``(N, C, H, W)``."""

    combine: Callable[..., Tensor]
    slope: Callable[..., Sequence[Tensor | None]] | None
    limits: Callable[..., Tensor] | None
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    size: tuple[int, int]
    output_size: tuple[int, int]
    maps: int
    channels_last: bool
    open: bool  # exported with a height or width that is left open

    @property
    def needed(self) -> tuple[int, int]:
        """Rows and columns from the first window's start to the last one's end."""
        sides = zip(self.output_size, self.stride, self.kernel_size, strict=True)
        height, width = ((n - 1) * step + window for n, step, window in sides)
        return height, width

    @property
    def border(self) -> tuple[int, int]:
        """Rows and columns by which the last window passes the map's end, 0 where it does not."""
        sides = zip(self.needed, self.padding, self.size, strict=True)
        bottom, right = (max(0, n - before - side) for n, before, side in sides)
        return bottom, right

    @property
    def after(self) -> tuple[int, int]:
        """The most that a border may be, whatever the size."""
        sides = zip(self.kernel_size, self.stride, self.padding, strict=True)
        bottom, right = (max(0, window - step - before) for window, step, before in sides)
        return bottom, right

    @property
    def axes(self) -> tuple[int, int]:
        """Where rows and columns are, laid out."""
        return (1, 2) if self.channels_last else (2, 3)

    def lay_out(self, x: Tensor) -> Tensor:
        return x.movedim(-3, -1) if self.channels_last and x.dim() >= 4 else x

    def back(self, x: Tensor) -> Tensor:
        return x.movedim(-1, -3) if self.channels_last and x.dim() >= 4 else x

    def inside(self, device: torch.device) -> Tensor | None:
        """``(K, ...)``, laid out: which cells lie in the map; None where all do."""
        if not (any(self.padding) or any(self.after if self.open else self.border)):
            return None
        lines = []
        geometry = zip(self.output_size, self.size, self.kernel_size, self.stride, self.padding, strict=True)
        for n, side, window, step, before in geometry:
            cells = torch.arange(window, device=device)[:, None] - before
            cells = cells + torch.arange(n, device=device) * step
            lines.append((cells >= 0) & (cells < side))
        rows, columns = lines
        both = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)[:, None, None]
        return self.lay_out(both)

    def fitted(self, x: Tensor) -> Tensor:
        """The laid out map with its border, without the rows and columns that no window needs."""
        (top, left), (bottom, right) = self.padding, self.after if self.open else self.border
        if top or left or bottom or right:
            pad = [left, right, top, bottom]
            x = F.pad(x, [0, 0, *pad] if self.channels_last else pad)
        if self.open:
            return x
        for axis, n in zip(self.axes, self.needed, strict=True):
            if x.shape[axis] != n:
                x = x.narrow(axis, 0, n)
        return x

    def windows(self, x: Tensor) -> Tensor:
        """``(K, ...)``, laid out, a copy (with windows of one cell perhaps a view)."""
        x = self.fitted(x)
        for axis, window, step in zip(self.axes, self.kernel_size, self.stride, strict=True):
            x = x.unfold(axis, window, step)
        return x.movedim((-2, -1), (0, 1)).flatten(0, 1)

    def add_windows(self, windows: Tensor, out: Tensor) -> None:
        """The reverse of :meth:`windows`: sum ``(K, ...)`` into the laid out map ``out``."""
        windows = windows.unflatten(0, self.kernel_size)
        if self.kernel_size == self.stride and not any(self.padding) and not any(self.border):
            kept = out
            for axis, n in zip(self.axes, self.needed, strict=True):
                if out.shape[axis] != n:
                    out.narrow(axis, n, out.shape[axis] - n).zero_()  # an odd last row and column
                    kept = kept.narrow(axis, 0, n)
            for axis, window, step in zip(self.axes, self.kernel_size, self.stride, strict=True):
                kept = kept.unfold(axis, window, step)
            kept.movedim((-2, -1), (0, 1)).copy_(windows)
            return
        fitted = out
        if any(self.padding) or any(self.border):
            fitted = self.fitted(out.new_empty(()).expand(out.shape)).contiguous()
        fitted.zero_()
        rows, columns = self.axes
        height, width = ((n - 1) * step + 1 for n, step in zip(self.output_size, self.stride, strict=True))
        for i in range(self.kernel_size[0]):
            for j in range(self.kernel_size[1]):
                cells = fitted.narrow(rows, i, height).narrow(columns, j, width)
                for axis, step in zip(self.axes, self.stride, strict=True):
                    cells = cells.unfold(axis, 1, step).squeeze(-1)
                cells.add_(windows[i, j])
        if fitted is not out:
            out.zero_()
            kept = fitted
            for axis, n, before in zip(self.axes, self.size, self.padding, strict=True):
                kept = kept.narrow(axis, before, min(n, kept.shape[axis] - before))
            target = out
            for axis in self.axes:
                target = target.narrow(axis, 0, kept.shape[axis])
            target.copy_(kept)

    def plain(self, *tensors: Tensor) -> Tensor:
        """The whole batch at once, in operations that torch differentiates, transforms, compiles and exports."""
        x = tensors[0]
        wide = _wide(x.dtype)
        rows, _ = self.axes
        (down, right), (height, width) = self.stride, self.kernel_size
        last, end = ((n - 1) * step + 1 for n, step in zip(self.output_size, self.stride, strict=True))
        windows = []
        for one in tensors[: self.maps]:
            fitted = self.fitted(self.lay_out(one).to(wide))
            lead = (slice(None),) * rows
            cells = [
                fitted[(*lead, slice(i, i + last, down), slice(j, j + end, right))]
                for i in range(height)
                for j in range(width)
            ]
            windows.append(torch.stack(cells))
        others = [self.lay_out(one).to(wide) for one in tensors[self.maps :]]
        combine = self.limits or self.combine
        return self.back(combine(self.inside(x.device), *windows, *others)).to(x.dtype)

    def chunks(self, x: Tensor) -> list[slice]:
        """Slices of the batch that fit into the cache."""
        image = self.maps * x[:1].numel() * torch.finfo(_wide(x.dtype)).bits // 8
        images = len(x) if x.device.type != "cpu" else CHUNK_BYTES * torch.get_num_threads() // max(1, image)
        step = max(1, images)
        return [slice(start, start + step) for start in range(0, len(x), step)]


class _OverWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:
        ctx.plan = plan
        x = tensors[0]
        ctx.parts = plan.chunks(x)
        ctx.infinite = set()  # which of them have something infinite
        ctx.save_for_backward(*tensors)
        wide, inside = _wide(x.dtype), plan.inside(x.device)
        laid = [plan.lay_out(one) for one in tensors]
        height, width = plan.output_size
        shape = (len(x), x.shape[1], height, width)
        memory_format = torch.channels_last if plan.channels_last else torch.contiguous_format
        out = plan.lay_out(torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format))

        def arguments(part: slice) -> list[Tensor]:
            windows = [plan.windows(one[part].to(wide)) for one in laid[: plan.maps]]
            return [*windows, *(_part(one, part, len(x)).to(wide) for one in laid[plan.maps :])]

        for part in ctx.parts:
            out[part] = plan.combine(inside, *arguments(part))
        if plan.limits is not None and may_look(out) and not seen_finite(out):
            for number, part in enumerate(ctx.parts):
                finite = out[part].isfinite()
                if not finite.all():
                    ctx.infinite.add(number)
                    out[part] = torch.where(finite, out[part], plan.limits(inside, *arguments(part)))
        return plan.back(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan, tensors, wanted = ctx.plan, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or transformed(gradient):
            # Somebody wants derivatives of these derivatives, or many at once.
            with torch.enable_grad():
                # Views, since where one of the tensors was made from another its gradient must not count twice.
                views = [one.view_as(one) for one in tensors]
                y = plan.plain(*views)
                of = [one for one, yes in zip(views, wanted, strict=True) if yes]
                found = iter(torch.autograd.grad(y, of, gradient, create_graph=True, allow_unused=True))
            return (None, *(next(found) if yes else None for yes in wanted))
        x = tensors[0]
        wide, inside = _wide(x.dtype), plan.inside(x.device)
        laid, gradient = [plan.lay_out(one) for one in tensors], plan.lay_out(gradient)
        results: list[Tensor | None] = [None] * len(tensors)
        for index, (one, yes) in enumerate(zip(laid, wanted, strict=True)):
            if yes:  # filled part by part, or summed in full precision
                whole = index < plan.maps or _has_batch(one, len(x))
                results[index] = torch.empty_like(one) if whole else torch.zeros_like(one, dtype=wide)
        for number, part in enumerate(ctx.parts):
            windows = [plan.windows(one[part].to(wide)) for one in laid[: plan.maps]]
            others = [_part(one, part, len(x)).to(wide) for one in laid[plan.maps :]]
            combine, slope = (plan.limits, None) if number in ctx.infinite else (plan.combine, plan.slope)
            slopes = _slopes(combine, slope, gradient[part].to(wide), inside, [*windows, *others], wanted)
            for index, (slope, result) in enumerate(zip(slopes, results, strict=True)):
                if result is None:
                    continue
                if index < plan.maps:
                    if slope is None:
                        result[part].zero_()
                    else:
                        shape = windows[index].shape
                        wider = slope.numel() > shape.numel()
                        plan.add_windows(slope.sum_to_size(shape) if wider else slope.expand(shape), result[part])
                elif _has_batch(result, len(x)):
                    target = _part(result, part, len(x))
                    target.copy_(0 if slope is None else slope.sum_to_size(target.shape))
                elif slope is not None:
                    result.add_(slope.sum_to_size(result.shape))
        return (None, *(None if r is None else plan.back(r).to(t.dtype) for r, t in zip(results, tensors, strict=True)))


def _slopes(
    combine: Callable[..., Tensor],
    slope: Callable[..., Sequence[Tensor | None]] | None,
    gradient: Tensor,
    inside: Tensor | None,
    arguments: list[Tensor],
    wanted: Sequence[bool],
) -> Sequence[Tensor | None]:
    """Gradients for the arguments of ``combine``."""
    if slope is not None:
        return slope(gradient, inside, *arguments)
    with torch.enable_grad():
        leaves = [one.detach().requires_grad_(yes) for one, yes in zip(arguments, wanted, strict=True)]
        y = combine(inside, *leaves)
        of = [one for one, yes in zip(leaves, wanted, strict=True) if yes]
        found = iter(torch.autograd.grad(y, of, gradient, allow_unused=True) if y.requires_grad else [None] * len(of))
    return [next(found) if yes else None for yes in wanted]


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What to compute in: sums and powers of half precision lose too much."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _has_batch(laid: Tensor, batch: int) -> bool:
    return laid.dim() >= 4 and batch > 1 and laid.shape[-4] == batch


def _part(laid: Tensor, part: slice, batch: int) -> Tensor:
    return laid[(..., part, slice(None), slice(None), slice(None))] if _has_batch(laid, batch) else laid
