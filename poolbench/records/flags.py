"""Variables of the environment that can change numbers or their order of computation; no others are looked at."""

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

# Which instructions and which arithmetic are used: another value is another result in the last bits.
ARITHMETIC = (
    *("ATEN_CPU_CAPABILITY", "GLIBC_TUNABLES", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"),
    *("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
    *("HSA_OVERRIDE_GFX_VERSION", "MIOPEN_FIND_MODE", "ROCBLAS_LAYER"),
    *("PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL"),
)
# How work is divided, which kernel of several is taken, where memory comes from.
OTHER = (
    *("OMP_NUM_THREADS", "OMP_DYNAMIC", "OMP_SCHEDULE", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY"),
    *("OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_DETERMINISTIC_REDUCTION"),
    *("KMP_HW_SUBSET", "MKL_NUM_THREADS", "MKL_DYNAMIC", "MKL_THREADING_LAYER", "MKL_DOMAIN_NUM_THREADS"),
    *("OPENBLAS_NUM_THREADS", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"),
    *("CUBLASLT_WORKSPACE_SIZE", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "TORCH_CUDNN_V8_API_DISABLED"),
    *("TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT", "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_LINALG_PREFER_CUSOLVER"),
    *("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_FREEZING", "TORCHINDUCTOR_MAX_AUTOTUNE"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_JIT"),
    *("PYTORCH_TUNABLEOP_ENABLED", "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_ENABLE_MPS_FALLBACK"),
    *("PYTORCH_ENABLE_XPU_FALLBACK", "PYTORCH_XPU_FALLBACK_OP"),
    *("PYTHONHASHSEED", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"),
)
_PRELOAD = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES")

_HARMLESS = re.compile(r"[A-Za-z0-9_.,:;=+*|{}()\-]{0,100}")  # no path, nothing that a terminal would obey
_ALLOCATOR = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|snmalloc|hoard|iomp5|omp|gomp)[\w.\-]{0,40}")


def flags(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those of the variables above that are set, with their values; sorted.

    A value that could be more than a setting, such as a path, is recorded as ``(set)``. Of preloaded libraries the
    names of allocators and OpenMP's are recorded, of others that there are some.
    """
    found = {name: environ[name] for name in (*ARITHMETIC, *OTHER) if name in environ}
    found = {name: value if _HARMLESS.fullmatch(value) else "(set)" for name, value in found.items()}
    for name in _PRELOAD:
        libraries = [PurePosixPath(part).name for part in re.split(r"[ :]+", environ.get(name, "")) if part]
        if libraries:
            known = [library if _ALLOCATOR.fullmatch(library) else "(other)" for library in libraries]
            found[name] = ",".join(sorted(set(known)))
    return dict(sorted(found.items()))


def of_arithmetic(found: Mapping[str, str]) -> dict[str, str]:
    """Those of ``found`` that choose instructions or arithmetic, but for what the fingerprint has or we set."""
    return {name: value for name, value in found.items() if name in ARITHMETIC and name not in _OURS}


# torch's own name of the instruction set counts instead of the first; the trainer sets the second on GPUs.
_OURS = ("ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG")
