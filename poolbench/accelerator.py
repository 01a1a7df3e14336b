"""The devices that torch computes on, by their kind: which are here, what each can do and how each is asked.

Everything that differs from kind to kind is in this file. What each kind lacks (torch 2.14):

- ``mps`` (Apple's GPUs) has one device; no float64 and no complex128; bfloat16 from macOS 14 on; no count of the most
  memory in use; its driver is a part of macOS.
- ``xpu`` (Intel's GPUs) has float64 on some devices only (not on Arc A-series), and torch's ``GradScaler``, which
  float16 needs, divides in float64.
- Of both, and of a library of the user's own on ``cuda``, some operators may be missing: see :func:`missing`.
"""

import platform
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from poolbench.checks import checked
from poolbench.options import DEVICE

KINDS = ("cuda", "mps", "xpu")

_FALLBACKS = {"mps": "PYTORCH_ENABLE_MPS_FALLBACK", "xpu": "PYTORCH_ENABLE_XPU_FALLBACK"}
# What torch says where a device has no such operator, or no such type of numbers.
_NO_OPERATOR = (
    re.compile(r"The operator '([^']+)' is not currently implemented for the (\w+) device"),
    re.compile(r"Could not run '([^']+)' with arguments from the '(\w+)' backend"),
)
_NO_FLOAT64 = re.compile(r"MPS framework doesn't support float64|Required aspect fp64 is not supported")


def here() -> torch.device | None:
    """The first device of the accelerator of this machine; None where there is none that we know."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None or found.type not in KINDS else torch.device(found.type, 0)


def count(kind: str) -> int:
    """How many devices of ``kind``, one of ``KINDS``, are here."""
    return int(_module(kind).device_count())


def choose(device: str, option: str = "trainer.device") -> torch.device:
    """The device that ``device`` names, with its number; ``auto`` is the accelerator where there is one, else the CPU.

    Args:
        device: as ``trainer.device`` may be; option: to be named where it is not there.
    Raises: ValueError when it is no such name, or not there.
    """
    checked(option, device, DEVICE)
    if device == "auto":
        return here() or torch.device("cpu")
    chosen = torch.device(device)
    if chosen.type == "cpu":
        return chosen
    if (chosen.index or 0) >= count(chosen.type):
        others = [f"{kind}:{number}" for kind in KINDS for number in range(count(kind))]
        raise ValueError(
            f"{option}={device}: there are {count(chosen.type)} {chosen.type} devices here; "
            f"use {', '.join(['auto', 'cpu', *others[:-1]])} or {others[-1]}"
            if others
            else f"{option}={device}: there are 0 {chosen.type} devices here; use auto or cpu"
        )
    return torch.device(chosen.type, chosen.index or 0)


def shared(devices: set[str]) -> tuple[str, int]:
    """What cells whose ``trainer.device`` are ``devices`` share: a kind, and how many of it; 0 where none is used."""
    found = here()
    if found is None:
        return "", 0
    kind = found.type  # torch knows one kind in a process, so all that are named are of it
    named = len([device for device in devices if device.startswith(f"{kind}:")])
    return kind, count(kind) if devices & {"auto", kind} else named


def select(device: torch.device) -> None:
    """Make ``device`` the one that its kind's name alone stands for, and count its memory from now on."""
    if device.type in ("cuda", "xpu"):
        _module(device.type).set_device(device)
        _module(device.type).reset_peak_memory_stats(device)


def name(device: torch.device) -> str:
    """``cpu``, or what the accelerator is called."""
    if device.type == "mps":
        return torch.backends.mps.get_name()
    return _module(device.type).get_device_name(device) if device.type in KINDS else device.type


def driver(device: torch.device) -> str | None:
    """Version of what torch computes by on mps and xpu; None of others: NVIDIA's is asked of the system."""
    if device.type == "mps":
        return f"macOS {platform.mac_ver()[0]}"
    return str(torch.xpu.get_device_properties(device).driver_version) if device.type == "xpu" else None


def synchronize(kind: str) -> None:
    """Wait until the device of ``kind`` has done all that it was given; the CPU always has."""
    if kind in KINDS:
        _module(kind).synchronize()


def peak_memory(device: torch.device) -> int | None:
    """Most bytes of an accelerator's memory in use so far; None of the CPU.

    mps has no such count: there it is what its driver holds for this process now, with what torch keeps for later.
    That seldom shrinks, so it is near the most that was held, and more than was in use.
    """
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(_module(device.type).max_memory_allocated(device)) if device.type in KINDS else None


def counts_memory(kind: str) -> bool:
    """Whether :func:`growth` can be asked of devices of ``kind``."""
    return kind in ("cuda", "xpu")


def growth(kind: str, function: Callable[[], Any]) -> int:
    """Bytes by which the memory in use grows at its peak while ``function`` runs; of a kind that counts them."""
    module = _module(kind)
    module.synchronize()
    module.reset_peak_memory_stats()
    before = module.memory_allocated()
    function()
    module.synchronize()
    return int(module.max_memory_allocated() - before)


def undrawn(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn in here, on the CPU and on ``device``, leaves no trace in torch's generators."""
    # An imagined device (torch's FakeTensorMode) has none.
    if device.type not in KINDS or not count(device.type):
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def has_float64(device: torch.device) -> bool:
    """Whether ``device`` computes in float64."""
    if device.type == "xpu" and count("xpu"):
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def widest(device: torch.device) -> torch.dtype:
    """The widest type of fractions that ``device`` has: float64, or float32."""
    return torch.float64 if has_float64(device) else torch.float32


def doubled(x: Tensor) -> Tensor:
    """``x`` in float64; on the CPU where its device has none."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def capturing(x: Tensor) -> bool:
    """Whether what is done with ``x`` is recorded as a graph, in which no value can be asked for."""
    return x.device.type in ("cuda", "xpu") and _module(x.device.type).is_current_stream_capturing()


def lacks(precision: str, device: torch.device) -> str | None:
    """Why a net is not trained in ``precision`` ("fp32", "bf16", "fp16") on the accelerator ``device``, or None."""
    if precision == "bf16" and device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return "mps has bfloat16 from macOS 14 on; use fp32 or fp16"
    if precision == "fp16" and not has_float64(device) and device.type == "xpu":
        return "this xpu device has no float64, in which torch scales the loss; use fp32 or bf16"
    return None


def missing(error: Exception) -> str | None:
    """What to tell of ``error`` where it says that a device lacks an operator or float64: which one, and what helps.
    None of errors of another kind."""
    text = str(error)
    for pattern in _NO_OPERATOR if isinstance(error, NotImplementedError) else ():
        if match := pattern.search(text):
            operator, kind = match[1], match[2].lower()
            help = "use trainer.device=cpu"
            if kind in _FALLBACKS:
                help = f"set {_FALLBACKS[kind]}=1 before the start to have it done on the CPU, slower, or {help}"
            return f"{kind} has no operator {operator} in torch {torch.__version__}: {help}"
    if isinstance(error, TypeError | RuntimeError) and _NO_FLOAT64.search(text):
        return "this device has no float64, in which a component computes: use float32 there, or trainer.device=cpu"
    return None


def _module(kind: str) -> Any:
    """``torch.cuda``, ``torch.mps`` or ``torch.xpu``."""
    return getattr(torch, kind)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Where autocast takes no operation on ``x`` to half precision."""
    kind = x.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)  # on meta there is no autocast
