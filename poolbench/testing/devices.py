"""Whether a pool lives on any device: made there, run there, and filled anew where memory came without content."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from poolbench.accelerator import KINDS
from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, new, run, start_draws

_SHAPE = (2, CHANNELS, 8, 10)


def devices(make: Maker) -> None:
    """It is made and runs on meta and on cuda, mps and xpu (imagined ones), and after ``to_empty`` is what it was."""
    pool = new(make)
    expected = tuple(run(pool, torch.rand(_SHAPE)).shape)
    with _excused(pool):
        _made_and_run(make, "meta", nullcontext(), expected)
        for kind in KINDS:
            _made_and_run(make, kind, imagined(kind), expected)
        _filled_anew(make)


@contextmanager
def imagined(kind: str) -> Iterator[None]:
    """Devices of ``kind`` ("cuda", "mps", "xpu") that are only imagined, without float64 where the kind has none.

    Shapes and devices alone are worked out, so no accelerator is needed, and one that is there is not touched. torch
    imagines CUDA alone as a whole, and says where two devices meet; those of the others are meta by another name.
    """
    with ExitStack() as stack:
        if kind == "cuda":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        else:
            stack.enter_context(_Named(kind))
        if kind == "mps":
            stack.enter_context(_WithoutFloat64())
        yield


class _Named(TorchFunctionMode):
    """Who asks for devices of ``kind`` gets meta, and sees it as of ``kind``."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == torch.Tensor.device.__get__:
            device = func(*args)
            return torch.device(self.kind, 0) if device.type == "meta" else device
        args, kwargs = tree_map(self._meta, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _meta(self, value: Any) -> Any:
        named = isinstance(value, str) and value in (self.kind, f"{self.kind}:0")
        return torch.device("meta") if named or (isinstance(value, torch.device) and value.type == self.kind) else value


class _WithoutFloat64(TorchDispatchMode):
    """Refuses every tensor of float64 on meta, as torch refuses one on mps."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.is_meta and one.dtype in (torch.float64, torch.complex128):
                raise Failed(f"on mps {func} makes a tensor of {one.dtype}, which mps does not have")
        return made


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
        raise Skipped(f"it cannot be tried without values and an accelerator: {kind.__name__}: {text}") from error


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
