"""Values that are not finite: whether there are any, and what formulas tend to where there are."""

import math

import torch
from torch import Tensor, nn

from poolbench.accelerator import capturing


def may_look(x: Tensor) -> bool:
    """Whether a formula may ask for values of ``x``: not while compiling, tracing or transforming, nor of tensors that
    have none (meta, fake) or stand for many."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in (Tensor, nn.Parameter) or x.is_meta:
        return False
    return not (transformed(x) or capturing(x))


def seen_finite(y: Tensor) -> bool:
    """Whether all of ``y`` is seen to be finite; False where nobody may look. It takes a pass over ``y`` and waits for
    the device. Numbers whose sum overflows do not count as finite."""
    wide = torch.promote_types(y.dtype, torch.float32)
    return may_look(y) and math.isfinite(y.detach().sum(dtype=wide).item())


def transformed(x: Tensor) -> bool:
    """Whether a transform of ``torch.func`` is at work, or ``x`` stands for many tensors, as in vectorised Jacobians.
    Torch has no public question for either."""
    return torch._C._are_functorch_transforms_active() or "Batched" in repr(torch._C._dispatch_keys(x))


def share_of(weight: Tensor | float, x: Tensor) -> Tensor:
    """``weight * x`` where nothing of infinity is nothing: what a formula tends to as ``x`` grows."""
    return weight * torch.where((torch.as_tensor(weight, device=x.device) == 0) & x.isinf(), 0, x)


def blend(low: Tensor, high: Tensor, share: Tensor | float) -> Tensor:
    """``share * high + (1 - share) * low``, infinities included, as ``torch.lerp`` gives for finite maps."""
    y = torch.lerp(low, high, share)
    if seen_finite(y):
        return y
    return torch.where(y.isfinite(), y, share_of(share, high) + share_of(1 - share, low))


def within(x: Tensor) -> Tensor:
    """``x`` with large numbers in place of infinities, of which a filter of weight 0 takes nothing."""
    most = torch.finfo(x.dtype).max ** 0.5
    return x.clamp(-most, most)
