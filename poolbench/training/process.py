"""How a process is set up for training: device, threads, memory, determinism."""

import ctypes
import functools
import os
import platform
import sys

import torch

from poolbench import accelerator
from poolbench.records.environment import available_cores


def check_precision(precision: str, device: torch.device) -> None:
    """Raises: ValueError where ``trainer.precision`` would run without the device's support, or not at all."""
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("trainer.precision=fp16 is for accelerators (cuda, mps, xpu); use fp32 or bf16 on the CPU")
    if (reason := accelerator.lacks(precision, device)) is not None:
        raise ValueError(f"trainer.precision={precision}: {reason}")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bfloat16():
        raise ValueError("trainer.precision=bf16: this CPU has no bfloat16 instructions (20 times slower); use fp32")


def set_up(device: torch.device, threads: int | None, keep_memory: bool) -> tuple[int, bool]:
    """Set threads, memory and determinism for this process; before its first large tensor.

    Returns: threads in use, and whether freed memory is kept.
    """
    kept = keep_memory and device.type == "cpu" and _keep_freed_memory()
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    accelerator.select(device)
    if device.type == "cuda":
        # Some operators on GPUs have no deterministic form: torch then warns and the training goes on.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # fp32 means 32 bits: newer GPUs would convolve with 10 bits of mantissa by default.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return threads, kept


def peak_memory(device: torch.device) -> int | None:
    """Most memory in use so far, in bytes: the device's, or on the CPU this process's resident size."""
    if (held := accelerator.peak_memory(device)) is not None:
        return held
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory. Torch's CPU allocator has no cache of its own, so each temporary would be
    given back to the kernel and faulted in anew: 10 to 30 % of a training. Changes no result."""
    if platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions take no more than 32 MiB.
    kept = any(mallopt(m_mmap_threshold, size) for size in (1 << 30, 1 << 25))
    return kept and bool(mallopt(m_trim_threshold, (1 << 31) - 1))


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
