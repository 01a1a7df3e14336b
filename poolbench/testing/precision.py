"""What a pool gives in half precision, and what becomes of values that are not finite."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, new, run, start_draws

# Of how many roundings a result may be off: of the largest value in it, and of what one rounding of all inputs and
# weights does to it in full precision, since half precision rounds every layer's.
_ROUNDINGS, _SENSITIVITY = 12, 12
# Factors of maps in [0, 1): usual ones, large ones whose squares overflow float16, tiny ones whose squares vanish.
_SCALES = {"a map": 1.0, "values up to 2000": 2000.0, "values up to 1e-7": 1e-7, "a map of zeros": 0.0}


def low_precision(make: Maker) -> None:
    """In float16 and bfloat16, and under autocast to them, values and gradients are near those of float32."""
    for dtype in (torch.float16, torch.bfloat16):
        pool = new(make).to(dtype).train()
        exact = copy.deepcopy(pool).float()
        for what, scale in _SCALES.items():
            if dtype == torch.bfloat16 and scale < 1:
                continue  # it reaches as far down as float32
            start_draws(3)
            x = (torch.rand(2, CHANNELS, 8, 6) * scale).to(dtype)
            expected = _results(exact, x.float())
            allowed = _allowed(exact, x.float(), expected, dtype)
            for memory_format in (torch.contiguous_format, torch.channels_last):
                one = copy.deepcopy(pool)
                found = _results(one, x.to(memory_format=memory_format))
                if found["values"].dtype != dtype:
                    raise Failed(f"a {dtype} map gives {found['values'].dtype}")
                _near(found, expected, allowed, dtype, f"{what} in {dtype} ({memory_format})")
            if scale in (0, 2000):
                _near(_under_autocast(exact, x), expected, allowed, dtype, f"{what} under autocast to {dtype}")


def locality(make: Maker) -> None:
    """A NaN or an infinity reaches only outputs that look near it, as in a convolution."""
    pool = new(make)
    with torch.no_grad():
        for p in pool.parameters():  # some start at 0, and look at nothing yet
            p.add_(torch.randn_like(p) / 8)
        # What changes with the 5x5 cells around it may look at it.
        near, seen = (slice(None), slice(1, 2), slice(11, 16), slice(16, 21)), None
        for x in (torch.randn(1, CHANNELS, 32, 32), torch.rand(1, CHANNELS, 32, 32) + 0.5):
            y = run(pool, x)
            for change in (torch.rand(1, 1, 5, 5) - 0.5, 30.0, -30.0):
                other = x.clone()
                other[near] += change
                differs = run(pool, other) != y
                seen = differs if seen is None else seen | differs
        # And their neighbours, of which a change may by chance move nothing.
        seen = F.max_pool2d(seen.float(), 3, 1, 1) > 0
        if seen.amax((0, 1)).all():
            raise Skipped("each output looks at the whole map")
        for value in (torch.nan, torch.inf, -torch.inf):
            other = x.clone()
            other[0, 1, 13, 18] = value
            lost = ~run(pool, other).isfinite()
            if (lost & ~seen).any():
                words = f"of {seen.numel()} outputs {int(seen.sum())} look near a cell of {value}"
                raise Failed(f"{words}, but {int(lost.sum())} are not finite: products with 0 of a whole map?")


def _results(pool: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The values of a copy of ``pool`` and its gradients by the input and each parameter."""
    pool, x = copy.deepcopy(pool), x.detach().clone().requires_grad_()
    start_draws(0)
    y = pool(x)
    return {"values": y.detach(), **_gradients(pool, x, y)}


def _gradients(pool: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    start_draws(5)
    along = (torch.rand(y.shape) / 128).to(y.dtype)  # as of a mean
    named = {"input": x, **dict(pool.named_parameters())}
    of = torch.autograd.grad(y, list(named.values()), along, allow_unused=True)
    return {f"gradients by {name}": one for name, one in zip(named, of, strict=True) if one is not None}


def _under_autocast(exact: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The same behind a convolution that changes nothing."""
    pool, convolution = copy.deepcopy(exact), nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
    nn.init.dirac_(convolution.weight)
    leaf = x.float().requires_grad_()
    with torch.autocast("cpu", x.dtype):
        between = convolution(leaf)
        start_draws(0)
        y = pool(between)
    return {"values": y.detach(), **_gradients(pool, leaf, y)}


def _allowed(exact: nn.Module, x: Tensor, expected: dict[str, Tensor], dtype: torch.dtype) -> dict[str, float]:
    """By how much each result may be off."""
    info, moved = torch.finfo(dtype), dict.fromkeys(expected, 0.0)
    least = info.smallest_normal * info.eps  # the least number above 0
    for seed in range(2):
        rounded = copy.deepcopy(exact)
        start_draws(seed)
        with torch.no_grad():
            for p in rounded.parameters():
                p.mul_(1 + info.eps * (2 * torch.rand_like(p) - 1))
            other = x * (1 + info.eps * (2 * torch.rand_like(x) - 1)) + torch.rand_like(x) * least
        for name, one in _results(rounded, other).items():
            moved[name] = max(moved[name], (one - expected[name]).abs().max().item())
    sizes = {name: one.abs().max().item() for name, one in expected.items()}
    largest = max((size for name, size in sizes.items() if "gradients" in name), default=0.0)
    return {
        name: _ROUNDINGS * (info.eps * (largest if "gradients" in name else sizes[name]) + least)
        + _SENSITIVITY * moved[name]
        for name in expected
    }


def _near(
    found: dict[str, Tensor], expected: dict[str, Tensor], allowed: dict[str, float], dtype: torch.dtype, words: str
) -> None:
    for name, right in expected.items():
        # Beyond, infinity is right, and so it is where rounding may lead there: processors sum in several ways.
        within = right.abs() + allowed[name] < 0.9 * torch.finfo(dtype).max
        got = found[name].float()[within]
        if not got.isfinite().all():
            raise Failed(f"{words}: {name} are NaN or infinite")
        off = (got - right[within]).abs().max().item() if len(got) else 0.0
        if off > allowed[name]:
            raise Failed(f"{words}: {name} are off by {off:.2g}, where {allowed[name]:.2g} is rounding")
