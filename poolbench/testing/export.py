"""Whether a pool is compiled, and leaves torch, with the same values."""

import copy
import warnings

import torch

from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, close, declared, new, run


def compiles(make: Maker) -> None:
    """torch.compile takes it whole, with the same values and gradients."""
    for training in (False, True):
        pool = new(make).train(training)
        if training and not getattr(pool, "random", False):
            return
        torch._dynamo.reset()
        twin = copy.deepcopy(pool)  # training moves statistics
        compiled = torch.compile(pool, backend="aot_eager", fullgraph=True)
        x = torch.randn(2, CHANNELS, 9, 8, requires_grad=True)
        results = []
        for one in (compiled, twin):
            y = run(one, x)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
        close(results[0][0], results[1][0], "compiled, it gives other values")
        close(results[0][1], results[1][1], "compiled, it gives other gradients")


def exports(make: Maker) -> None:
    """torch.export takes it in evaluation mode, for any batch size."""
    pool = new(make)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(pool, (torch.randn(2, CHANNELS, 9, 8),), dynamic_shapes=dynamic)
    x = torch.randn(5, CHANNELS, 9, 8)
    close(run(program.module(), x), run(pool, x), "exported, it gives other values")


def onnx(make: Maker) -> None:
    """torch.onnx exports it in evaluation mode and onnxruntime gives the same, exactly if it says ``onnx``."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise Skipped(f"it needs the packages onnx, onnxscript and onnxruntime ({error})") from error
    pool, x = new(make), torch.randn(2, CHANNELS, 9, 8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(pool, (x,), dynamo=True, verbose=False)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
            (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    except Exception as error:
        if not getattr(pool, "onnx", True):
            return
        raise Failed(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error
    same = torch.allclose(torch.from_numpy(y.copy()), run(pool, x), rtol=1e-3, atol=1e-4)
    declared(pool, "onnx", same, "onnxruntime gives the same values", default=True)
