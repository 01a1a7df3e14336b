"""Whether a pool is compiled, and leaves torch, with the same values."""

import copy
import warnings

import torch
from torch import nn

from poolbench.testing.face import CHANNELS, Failed, Maker, close, declared, new, run


def compiles(make: Maker, fast: bool = False) -> None:
    """torch.compile takes it whole, with the same values and gradients.

    ``fast`` looks at evaluation, and at the graph as it is captured, before its gradients are compiled.
    """
    for training in (False,) if fast else (False, True):
        pool = new(make).train(training)
        if training and not getattr(pool, "random", False):
            return
        torch._dynamo.reset()
        twin = copy.deepcopy(pool)  # training moves statistics
        compiled = torch.compile(pool, backend="eager" if fast else "aot_eager", fullgraph=True)
        x = torch.randn(2, CHANNELS, 9, 8, requires_grad=True)
        results = []
        for one in (compiled, twin):
            y = run(one, x)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
        close(results[0][0], results[1][0], "compiled, it gives other values")
        close(results[0][1], results[1][1], "compiled, it gives other gradients")


def exports(make: Maker, fast: bool = False) -> None:
    """torch.export and torch.onnx take it in evaluation mode, for any batch, and any size if it says ``dynamic_sizes``.

    Whether onnxruntime gives the same, as ``onnx`` says, is looked at where onnxscript and onnxruntime are installed.
    ``fast`` leaves open the batch alone and does without ONNX: ten times quicker.
    """
    pool = new(make)
    # One that says nothing promises the batch alone.
    open_sizes = getattr(pool, "dynamic_sizes", False) and not fast
    program = _exported(pool, open_sizes)
    maps = [torch.randn(5, CHANNELS, 9, 12)]
    if open_sizes:
        maps += [torch.randn(1, CHANNELS, 8, 17), torch.randn(2, CHANNELS, 10, 10)]
    elif hasattr(pool, "dynamic_sizes") and not fast:
        try:
            _exported(pool, open_sizes=True)
        except ValueError:
            pass  # as it should: it would give wrong values
        else:
            raise Failed(
                "it says dynamic_sizes = False, but does not refuse an export that leaves height and width open"
            )
    module = program.module()
    for x in maps:
        size = "x".join(map(str, x.shape))
        close(run(module, x), run(pool, x), f"exported, it gives other values for a map {size}")
    if fast:
        return
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        found = [session.run(None, {session.get_inputs()[0].name: x.numpy()})[0] for x in maps]
    except Exception as error:
        if not getattr(pool, "onnx", True):
            return
        raise Failed(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error
    expected = [run(pool, x) for x in maps]
    same = all(
        y.shape == tuple(right.shape) and torch.allclose(torch.from_numpy(y.copy()), right, rtol=1e-3, atol=1e-4)
        for y, right in zip(found, expected, strict=True)
    )
    declared(pool, "onnx", same, "onnxruntime gives the same values", default=True)


def _exported(pool: nn.Module, open_sizes: bool) -> torch.export.ExportedProgram:
    dynamic = {0: torch.export.Dim("batch", min=1, max=64)}
    if open_sizes:
        dynamic |= {axis: torch.export.Dim(side, min=8, max=256) for axis, side in ((2, "height"), (3, "width"))}
    # As torch.onnx does it by itself: what must hold of open sizes is asked when the program runs.
    options = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}
    return torch.export.export(pool, (torch.randn(2, CHANNELS, 9, 12),), dynamic_shapes=(dynamic,), **options)
