"""What pools do when somebody looks into a pass: compilers and tracers see a plain formula, ``torch.fx`` one call."""

import torch
from torch import nn
from torch.fx import Proxy


def recorded() -> bool:
    """Whether the operations of this pass are recorded: by ``torch.compile`` or ``torch.export``, by
    ``torch.jit.trace`` or by the older exporter to ONNX, which traces too. Then a formula is to be written in plain
    operations, on the whole batch: compilers fuse it themselves, and tracers cannot see into functions with a backward
    pass of their own."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def differentiated() -> bool:
    """Whether torch may differentiate what is worked out now. A trace is taken for it: it is made once, with gradients
    or without, and used in both."""
    return torch.is_grad_enabled() or torch.jit.is_tracing()


def as_leaf(module: nn.Module, input: Proxy) -> Proxy:
    """What ``module(input)`` is for ``torch.fx``: a call of the whole module. Whoever traces a net need not know which
    modules of it to look into, and what depends on the map's size or values stays as it is.

    Raises: ValueError where the module itself is what is traced.
    """
    name = input.tracer.path_of_module(module)
    if not name:
        raise ValueError(
            f"torch.fx takes {type(module).__name__} as one call, so there is nothing to trace in it alone: trace the "
            "net that holds it"
        )
    return input.tracer.create_proxy("call_module", name, (input,), {})
