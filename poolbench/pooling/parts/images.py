"""Formulas over whole maps, worked out a few images at a time so that what lies between input and output stays in the
processor's cache, and recomputed in the backward pass instead of stored. What looks at one window only has
:mod:`poolbench.pooling.parts.windows`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from poolbench.pooling.parts.infinite import transformed
from poolbench.pooling.parts.tracing import recorded
from poolbench.pooling.parts.windows import CHUNK_BYTES, _wide, is_channels_last


def over_images(
    formula: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    per_image: Sequence[Tensor] = (),
    shared: Sequence[Tensor] = (),
    fast: Callable[..., tuple[Tensor, ...]] | None = None,
    slope: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """``formula(x, *per_image, *shared)`` of every image.

    Args:
        formula: gives one or more tensors whose first axis is the batch. No image may see another; it must be
            differentiable by torch and must not write into its arguments. It sees float32 or better.
        x: the maps ``(N, C, H, W)``.
        per_image: further tensors with one entry per image along axis 0 (no gradient), as drawn positions are.
        shared: tensors that all images share, as parameters are; their gradients are worked out too.
        fast: called instead of ``formula`` where torch need not differentiate it.
        slope: called as ``slope(gradients, x, *per_image, *shared)`` with one gradient or None for each output, gives
            the gradient of ``x``, where that is faster than differentiating ``formula`` by torch. Only without
            ``shared``.
    Returns: what ``formula`` gives; maps, which have four dimensions, in the dtype and memory format of ``x``.
    """
    plan = _Plan(formula, fast or formula, slope, len(per_image))
    # Function transforms see through the plain formula too.
    if recorded() or transformed(x):
        return plan.plain(x, *per_image, *shared)
    return _OverImages.apply(plan, x, *per_image, *shared)


def module_over_images(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, for one that treats every image by itself and keeps no statistics: what lies between is not kept
    for the backward pass but worked out again, so it takes little memory."""
    if torch.jit.is_tracing():
        return module(x)  # it knows the parameters by the module that they belong to
    names, values = zip(*module.named_parameters(), strict=True)

    def formula(x: Tensor, *values: Tensor) -> tuple[Tensor]:
        return (functional_call(module, dict(zip(names, values, strict=True)), (x,)),)

    return over_images(formula, x, shared=values)[0]


@dataclass
class _Plan:
    """One call: what to do with the images."""

    formula: Callable[..., tuple[Tensor, ...]]
    fast: Callable[..., tuple[Tensor, ...]]
    slope: Callable[..., Tensor] | None
    per_image: int

    def plain(self, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        shared = [one.to(_wide(x.dtype)) for one in others[self.per_image :]]
        results = self.formula(x.to(_wide(x.dtype)), *others[: self.per_image], *shared)
        return tuple(_like(one, x) for one in results)

    def parts(self, x: Tensor) -> list[slice]:
        """Slices of the batch that fit into the cache."""
        image = x[:1].numel() * torch.finfo(_wide(x.dtype)).bits // 8
        images = len(x) if x.device.type != "cpu" else CHUNK_BYTES * torch.get_num_threads() // max(1, image)
        step = max(1, images)
        return [slice(start, start + step) for start in range(0, len(x), step)]


class _OverImages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        ctx.plan = plan
        ctx.save_for_backward(x, *others)
        ctx.set_materialize_grads(False)
        wide, count = _wide(x.dtype), plan.per_image
        shared = [one.to(wide) for one in others[count:]]
        results: list[Tensor] = []
        for part in plan.parts(x):
            found = plan.fast(x[part].to(wide), *(one[part] for one in others[:count]), *shared)
            if not results:
                results = [_like(one.new_empty(len(x), *one.shape[1:]), x) for one in found]
            for result, one in zip(results, found, strict=True):
                result[part] = one
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan, (x, *others), wanted = ctx.plan, ctx.saved_tensors, ctx.needs_input_grad[1:]
        given = [one for one in gradients if one is not None]
        if not given:
            return (None,) * (2 + len(others))
        if torch.is_grad_enabled() or any(transformed(one) for one in given):
            # Somebody wants derivatives of these derivatives, or many at once.
            with torch.enable_grad():
                found = _differentiate(plan.plain(x, *others), (x, *others), gradients, wanted, create_graph=True)
            return (None, *found)
        wide, count = _wide(x.dtype), plan.per_image
        whole = torch.empty_like(x) if wanted[0] else None
        sums = [torch.zeros_like(one, dtype=wide) if yes else None for one, yes in zip(others, wanted[1:], strict=True)]
        for part in plan.parts(x):
            ours = [g if g is None else g[part].to(wide if g.dim() == 4 else g.dtype) for g in gradients]
            x_part, drawn = x[part].to(wide), [one[part] for one in others[:count]]
            if plan.slope is not None and not any(wanted[1:]):
                found = [plan.slope(ours, x_part, *drawn)]
            else:
                rest = [
                    one.detach().to(wide).requires_grad_() if yes else one
                    for one, yes in zip([*drawn, *others[count:]], wanted[1:], strict=True)
                ]
                with torch.enable_grad():
                    leaf = x_part.detach().requires_grad_(wanted[0])
                    found = _differentiate(plan.formula(leaf, *rest), (leaf, *rest), ours, wanted)
            if whole is not None:
                whole[part] = 0 if found[0] is None else found[0]
            for total, one in zip(sums, found[1:] or [None] * len(others), strict=True):
                if total is not None and one is not None:
                    total.add_(one)
        return (None, whole, *(None if s is None else s.to(o.dtype) for s, o in zip(sums, others, strict=True)))


def _differentiate(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Gradients of the inputs that are wanted, None for the rest."""
    pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if g is not None and y.requires_grad]
    of = [one for one, yes in zip(inputs, wanted, strict=True) if yes]
    if not pairs:
        return [None] * len(inputs)
    ys, gs = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(ys, of, gs, create_graph=create_graph, allow_unused=True))
    return [next(found) if yes else None for yes in wanted]


def _like(y: Tensor, x: Tensor) -> Tensor:
    """A map ``y`` in the dtype and memory format of ``x``; other tensors as they are."""
    if y.dim() != 4:
        return y
    return y.to(x.dtype).contiguous(
        memory_format=torch.channels_last if is_channels_last(x) else torch.contiguous_format
    )
