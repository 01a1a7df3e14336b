"""Where and with what a cell was trained: versions, code, machine."""

import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from poolbench import __version__
from poolbench.records.flags import flags, of_arithmetic
from poolbench.records.identity import digest
from poolbench.records.origins import origins
from poolbench.records.times import now

_NVIDIA = Path("/proc/driver/nvidia")


def code_version() -> dict[str, Any]:
    """Commit of the checkout that this package lies in and whether files were changed since; None in a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return {"commit": None, "dirty": None}
    if Path(_git(root, "rev-parse", "--show-toplevel") or "/").resolve() != root:
        return {"commit": None, "dirty": None}  # unpacked inside another repository, whose commit says nothing
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if commit is None else bool(changes)}


def describe(
    device: str,
    threads: int,
    capability: str,
    memory_kept: bool,
    code: dict[str, Any],
    config: Mapping[str, Any] | None = None,
    switches: Mapping[str, Any] | None = None,
    driver: str | None = None,
) -> dict[str, Any]:
    """``environment.json``: nothing in it names a place or a machine, since archives of records are published.

    Args:
        device: name of the device, ``cpu`` or an accelerator's.
        threads: of the CPU that the training uses.
        capability: instruction set that torch's kernels use.
        memory_kept: whether the allocator keeps freed memory.
        code: what :func:`code_version` said when the code was loaded.
        config: of the cell, for where its components come from.
        switches: torch's own settings that change numbers.
        driver: of an accelerator that is not NVIDIA's; its kernels are in there, so it counts in the fingerprint.
    """
    set_flags = flags()
    # What can change the last bits of a result; a training that goes on under another is marked.
    bits = {
        "cpu": cpu_name(),
        "capability": capability,
        "threads": threads,
        "torch": _version("torch"),
        "device": device,
        "memory_kept": memory_kept,
    }
    if driver is not None:  # never of CUDA, whose fingerprints are older than this
        bits["driver"] = driver
    if arithmetic := of_arithmetic(set_flags):  # else the fingerprint is the one that it was before flags were recorded
        bits["flags"] = arithmetic
    return {
        "poolbench": __version__,
        **code,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy", "hydra-core")},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "capability": capability,
        "cores": available_cores(),
        "memory_bytes": memory_bytes(),
        "gpus": gpu_names() if driver is None else [device],
        "gpu_driver": gpu_driver() if driver is None else driver,
        "threads": threads,
        "device": device,
        "allocator_kept": memory_kept,
        "flags": set_flags,
        "switches": dict(switches or {}),
        "components": origins(config or {}),
        "fingerprint": digest(bits),
        "created": now(),
    }


def available_cores() -> int:
    """Cores that this process may use, which a container or a queue may have made fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # a container's share of the processor's time
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return cores


def memory_bytes() -> int | None:
    """The machine's memory, or what a container leaves of it; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return total


def gpu_names() -> list[str]:
    """NVIDIA's GPUs in this machine, used or not, asked without waking them up."""
    names = []
    for path in sorted(_NVIDIA.glob("gpus/*/information")):
        with suppress(OSError):
            names += re.findall(r"^Model:\s*(.+?)\s*$", path.read_text(errors="replace"), flags=re.M)
    return names


def gpu_driver() -> str | None:
    """Version of NVIDIA's driver."""
    with suppress(OSError):
        match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", (_NVIDIA / "version").read_text(errors="replace"))
        return match[1] if match else None
    return None


@cache
def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def torch_build() -> str:
    """What the installed torch was built for, as its version ends: ``cu130``, ``xpu``, ``cpu``; empty without a word,
    as on macOS. Asked without loading it."""
    return (_version("torch") or "").partition("+")[2]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
