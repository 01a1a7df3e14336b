"""Which operations of a training are not deterministic, as far as torch knows, and its switches that change numbers."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# What torch says where it was told to be deterministic and has no such form of an operation.
_WARNINGS = {
    r"(\S+) does not have a deterministic implementation": r"\1",
    r"([\w ]+?) defaults to a non-deterministic algorithm": r"\1",
    r"Deterministic behavior was enabled .* it uses CuBLAS": "cublas",
}


@contextmanager
def asked_for(names: set[str]) -> Iterator[None]:
    """Have torch compute deterministically where it can while the block runs, and say where it cannot.

    Operations that torch knows to have no deterministic form are added to ``names`` and run all the same; what a
    library of the user's own or a compiled graph does it does not know. On the CPU this changes no number of ours and
    takes no time (tried for every pool and head, with one thread and with two); on GPUs it chooses other kernels.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would fill memory that is written before it is read: a tenth of a training on the CPU.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        with _noting(names):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def _noting(names: set[str]) -> Iterator[None]:
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *where: Any, **more: Any) -> None:
            if (name := operation(str(message))) is not None:
                names.add(name)
            show(message, *where, **more)

        warnings.showwarning = note
        for text in _WARNINGS:  # once for each place, even if a cell before this one in the process saw it
            warnings.filterwarnings("default", message=text)
        yield


def operation(message: str) -> str | None:
    """The operation that a warning of torch's is about, None for warnings of another kind."""
    for text, name in _WARNINGS.items():
        if match := re.match(text, message):
            return re.sub(r"[^\w.:]+", "_", match.expand(name))[:80]
    return None


def switches() -> dict[str, Any]:
    """torch's own settings that change numbers, as they are now."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": torch.utils.deterministic.fill_uninitialized_memory,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "mkldnn": torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available(),
        "interop_threads": torch.get_num_interop_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_initialized() else None,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_initialized() else None,
    }
