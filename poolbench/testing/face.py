"""What the checks share: how they make a pool, run it, and say that it broke a promise."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Maker = Callable[[int], nn.Module]  # from the number of channels to a new pool

CHANNELS = 4


class Failed(AssertionError):
    """The pool does not keep a promise; the text says which, with what input, and by how much."""


class Skipped(Exception):
    """The check does not apply to the pool; the text says why."""


_CLAIMS = ("bounded", "odd", "homogeneous", "follows_offset", "keeps_sign", "mirrors")  # which are no duty


def start_draws(seed: int) -> None:
    """Start anew the streams that pools draw from."""
    if torch.get_default_device().type == "cpu":
        # torch.manual_seed also notes the stack of calls, for accelerators that are not in use yet: that takes longer
        # than a small pool.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def new(make: Maker, channels: int = CHANNELS, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A pool with weights that are the same in every check, in evaluation mode."""
    start_draws(1)
    return make(channels).to(dtype).eval()


def run(pool: Callable[[Tensor], Tensor], x: Tensor, seed: int = 0) -> Tensor:
    start_draws(seed)  # for pools that draw
    return pool(x)


def takes(pool: nn.Module, size: tuple[int, int]) -> bool:
    try:
        pool.output_size(size)
    except ValueError:
        return False
    except (AttributeError, TypeError):
        pass
    return True


def steps(pool: nn.Module) -> tuple[int, int] | None:
    """The pool's whole steps down and along the map, None if it does not say them."""
    stride = getattr(pool, "stride", None)
    pair = tuple(stride) if isinstance(stride, tuple | list) else (stride, stride)
    return pair if len(pair) == 2 and all(isinstance(one, int) for one in pair) else None


def distinct(*shape: int) -> Tensor:
    """Numbers of both signs with no two near each other or near 0, where maxima and norms have kinks."""
    start_draws(3)
    count = torch.Size(shape).numel()
    values = (torch.randperm(count) + 1).double() / count * 2 - 1
    return (values + 0.5 / count).view(shape)


def inner(pool: nn.Module, y: Tensor) -> Tensor:
    """``y`` without the rim (one for rows and columns, or a pair) that a border of zeros may have touched."""
    rim = getattr(pool, "rim", 1 if getattr(pool, "padding", 0) else 0)
    high, wide = rim if isinstance(rim, tuple) else (rim, rim)
    return y[..., high : y.shape[-2] - high, wide : y.shape[-1] - wide]


def close(actual: Tensor, expected: Tensor, words: str, **tolerances: float) -> None:
    try:
        torch.testing.assert_close(actual, expected, **tolerances)
    except AssertionError as error:
        raise Failed(f"{words}: {' '.join(str(error).split())}") from None


def ours(pool: nn.Module) -> bool:
    return type(pool).__module__.startswith("poolbench.")


def declared(pool: nn.Module, attribute: str, holds: bool, words: str, default: bool | None = None) -> None:
    """Hold a pool to what it says of itself; one that says nothing promises nothing."""
    said = getattr(pool, attribute, default)
    if said is None:
        raise Skipped(f"it does not say whether {attribute} ({words}: {'yes' if holds else 'no'})")
    if not said and holds and attribute in _CLAIMS and not ours(pool):
        raise Skipped(f"it does not claim {attribute}, though this holds: {words}")  # ours claim all that they may
    if bool(said) != holds:
        raise Failed(f"it says {attribute} = {said}, but this {'holds' if holds else 'does not hold'}: {words}")


def compare(pool: nn.Module, attribute: str, actual: Tensor, expected: Tensor, words: str) -> None:
    difference = (actual - expected).abs().max().item()
    declared(pool, attribute, difference < 1e-4, f"{words} (the largest difference is {difference:.2g})")
