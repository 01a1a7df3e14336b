"""Whether a pool lives on any device: made there, run there, and filled anew where memory came without content."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, new, run, start_draws

_SHAPE = (2, CHANNELS, 8, 10)


def devices(make: Maker) -> None:
    """It is made and runs on meta and on a GPU (an imagined one), and after ``to_empty`` is what it was before."""
    pool = new(make)
    expected = tuple(run(pool, torch.rand(_SHAPE)).shape)
    with _excused(pool):
        _made_and_run(make, "meta", nullcontext(), expected)
        # Shapes and devices alone are worked out, so no GPU is needed, and one that is there is not touched.
        _made_and_run(make, "cuda", FakeTensorMode(allow_non_fake_inputs=True), expected)
        _filled_anew(make)


@contextmanager
def _excused(pool: nn.Module) -> Iterator[None]:
    """Somebody's pool may look at values, or call what has no form without any. Ours may not."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException, NotImplementedError, RuntimeError) as error:
        kind, text = type(error), str(error).strip().partition("\n")[0]
        known = kind is not RuntimeError or "meta tensor" in text or "NVIDIA" in text
        if type(pool).__module__.startswith("poolbench.") or not known:
            raise
        raise Skipped(f"it cannot be tried without values and a GPU: {kind.__name__}: {text}") from error


def _made_and_run(make: Maker, device: str, mode: AbstractContextManager[Any], expected: tuple[int, ...]) -> None:
    with mode, torch.no_grad():
        with torch.device(device):
            pool = make(CHANNELS).eval()
        for name, value in [*pool.named_parameters(), *pool.named_buffers()]:
            if value.device.type != device:
                raise Failed(f"made with {device} as torch's default device, its {name} is on {value.device.type}")
        x = torch.empty(_SHAPE, device=device)
        for training in (False, True) if getattr(pool, "random", False) else (False,):
            # Once where new tensors are on the CPU unless the pool says otherwise, and once where they are not.
            for place in (nullcontext(), torch.device(device)):
                with place:
                    y = pool.train(training)(x)
                if y.device.type != device or tuple(y.shape) != expected:
                    raise Failed(f"on {device} it gives {tuple(y.shape)} on {y.device.type}, on the CPU {expected}")


def _filled_anew(make: Maker) -> None:
    pool = new(make)
    holders = [part for part in pool.modules() if [*part.parameters(recurse=False), *part.buffers(recurse=False)]]
    if not all(callable(getattr(part, "reset_parameters", None)) for part in holders):
        return  # it does not say how
    reference = _reset(copy.deepcopy(pool))
    with torch.device("meta"):
        again = make(CHANNELS).eval()
    again.to_empty(device="cpu")
    with torch.no_grad():
        for value in [*again.parameters(), *again.buffers()]:
            value.fill_(7)  # as likely as anything that the memory holds
    _reset(again)
    before, after = (dict([*one.named_parameters(), *one.named_buffers()]) for one in (reference, again))
    for name, value in before.items():
        if not torch.equal(value, after[name]):
            raise Failed(f"made on meta, moved by to_empty and filled by reset_parameters, its {name} is another one")
    x = torch.rand(_SHAPE)
    if not torch.equal(run(again, x), run(reference, x)):
        raise Failed("made on meta, moved by to_empty and filled by reset_parameters, it gives another result")


def _reset(pool: nn.Module) -> nn.Module:
    for number, part in enumerate(reversed(list(pool.modules()))):  # the inner ones first
        if callable(getattr(part, "reset_parameters", None)):
            start_draws(number)
            part.reset_parameters()
    return pool
