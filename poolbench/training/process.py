"""How a process is set up for training: device, threads, memory, determinism."""

import ctypes
import functools
import os
import platform
import sys

import torch

from poolbench.records.environment import available_cores


def choose_device(device: str) -> torch.device:
    """The device that ``trainer.device`` names; ``auto`` is CUDA where there is a GPU, else the CPU.

    Raises: ValueError when it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"trainer.device={device}: there are {torch.cuda.device_count()} GPUs here; use auto or cpu")
    return chosen


def check_precision(precision: str, device: torch.device) -> None:
    """Raises: ValueError where ``trainer.precision`` would run without the device's support, 20 times slower."""
    if precision == "fp16" and device.type != "cuda":
        raise ValueError("trainer.precision=fp16 is for CUDA devices; use fp32 or bf16 on this one")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bfloat16():
        raise ValueError("trainer.precision=bf16: this CPU has no bfloat16 instructions (20 times slower); use fp32")


def set_up(device: torch.device, threads: int | None, keep_memory: bool) -> tuple[int, bool]:
    """Set threads, memory and determinism for this process; before its first large tensor.

    Returns: threads in use, and whether freed memory is kept.
    """
    kept = keep_memory and device.type == "cpu" and _keep_freed_memory()
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Some operators on GPUs have no deterministic form: torch then warns and the training goes on.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # fp32 means 32 bits: newer GPUs would convolve with 10 bits of mantissa by default.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.reset_peak_memory_stats(device)
    return threads, kept


def device_name(device: torch.device) -> str:
    """``cpu``, or the accelerator's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> int | None:
    """Most memory in use so far, in bytes: the device's, or on the CPU this process's resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
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
