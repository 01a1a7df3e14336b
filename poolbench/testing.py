"""What every pool promises, as checks that anybody runs on a pool of their own: ``poolbench check-pool mypkg.MyPool``,
or in a test of theirs::

    import pytest
    from poolbench.testing import CHECKS


    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_my_pool(check):
        check(lambda channels: MyPool(channels))
"""

import copy
import inspect
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

Maker = Callable[[int], nn.Module]  # from the number of channels to a new pool

CHANNELS = 4


class Failed(AssertionError):
    """The pool does not keep a promise; the text says which, with what input, and by how much."""


class Skipped(Exception):
    """The check does not apply to the pool; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """How one check ended: ``state`` is ``"passed"``, ``"failed"`` or ``"skipped"``."""

    check: str
    promise: str
    state: str
    explanation: str = ""


def check_pool(make: Maker, only: Iterable[str] | None = None) -> list[Outcome]:
    """Run all checks (or those named in ``only``) on the pool that ``make(channels)`` builds.

    Returns: one outcome a check. An error inside the pool is a failure; nothing is raised.
    """
    outcomes = []
    for name in CHECKS if only is None else only:
        check = CHECKS[name]
        promise = promised(check)
        try:
            check(make)
        except Skipped as reason:
            outcomes.append(Outcome(name, promise, "skipped", str(reason)))
        except Failed as failure:
            outcomes.append(Outcome(name, promise, "failed", str(failure)))
        except Exception as error:
            place = _innermost(error)
            outcomes.append(Outcome(name, promise, "failed", f"{type(error).__name__}: {error} (raised {place})"))
        else:
            outcomes.append(Outcome(name, promise, "passed"))
    return outcomes


def promised(check: Callable[[Maker], None]) -> str:
    """The sentence that a check stands for."""
    return (inspect.getdoc(check) or "").partition("\n")[0]


# -- what it gives ----------------------------------------------------------------------------------------------------


def shape(make: Maker) -> None:
    """It maps (N, C, H, W) to (N, C, H', W'), and to the size that its ``output_size`` and ``ratio`` tell."""
    pool = _new(make)
    for height, width in [(8, 8), (12, 12), (32, 32), (9, 9), (8, 12), (11, 8), (17, 13)]:
        y = _run(pool, torch.rand(2, CHANNELS, height, width))
        if not isinstance(y, Tensor) or y.dim() != 4 or y.shape[:2] != (2, CHANNELS):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise Failed(f"a map (2, {CHANNELS}, {height}, {width}) gave {got}, not (2, {CHANNELS}, H', W')")
        if hasattr(pool, "output_size"):
            told = tuple(pool.output_size((height, width)))
            if tuple(y.shape[2:]) != told:
                raise Failed(f"a map of {height}x{width} gave {tuple(y.shape[2:])}, but output_size tells {told}")
        ratio = getattr(pool, "ratio", None)
        # Whole numbers drop what is left over, others round somehow: within a pixel.
        sides = zip((height, width), y.shape[2:], strict=True)
        if ratio and any(abs(after - before / ratio) >= 1 for before, after in sides):
            raise Failed(f"a map of {height}x{width} gave {tuple(y.shape[2:])}, which ratio {ratio:g} does not tell")


def images_apart(make: Maker) -> None:
    """In evaluation an image does not see the others of its batch."""
    pool, x = _new(make), torch.randn(3, CHANNELS, 9, 12)
    if getattr(pool, "random_evaluation", False):
        raise Skipped("its evaluation draws one number after the other: no two batches are alike")
    _close(pool(x), torch.cat([pool(one) for one in x.split(1)]), "a batch differs from its images one by one")
    order = torch.tensor([2, 0, 1])
    _close(pool(x[order]), pool(x)[order], "the order of the batch matters")


def memory_format(make: Maker) -> None:
    """It keeps the memory format, and gives the same values and gradients in both."""
    for size in [(8, 8), (9, 11)]:
        pool = _new(make)
        x = torch.randn(2, CHANNELS, *size)
        results = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            one = x.clone(memory_format=memory_format).requires_grad_()
            y = _run(pool, one)
            (gradient,) = torch.autograd.grad(y, one, torch.ones_like(y))
            last = memory_format == torch.channels_last
            for what, of in (("output", y), ("gradient", gradient)):
                if (of.stride(1) == 1) != last:
                    raise Failed(f"the {what} of a map stored as {memory_format} has strides {of.stride()}")
            results.append((y, gradient))
        _close(results[1][0], results[0][0], "channels_last gives other values than the default format")
        _close(results[1][1], results[0][1], "channels_last gives other gradients than the default format")


def input_untouched(make: Maker) -> None:
    """It leaves its input alone, and so does a layer that works in place on its output."""
    for size in [(8, 8), (9, 9)]:
        x = torch.randn(2, CHANNELS, *size)
        before = x.clone()
        y = _run(_new(make).train(), x)
        if not torch.equal(x, before):
            raise Failed("forward writes into its input")
        y.detach().fill_(7)
        if not torch.equal(x, before):
            raise Failed("the output is a view of the input: return a copy (.clone())")


# -- its derivatives --------------------------------------------------------------------------------------------------


def gradients(make: Maker) -> None:
    """Its gradients, by the input and by its parameters, are those of the function (float64, finite differences).

    Of a parameter with more values than 64, as many are drawn, the same in every check.
    """
    pool = _new(make, channels=2, dtype=torch.float64)
    named = {name: value.detach() for name, value in pool.named_parameters()}
    # A difference for each of thousands of weights takes half a minute.
    drawn = {name: torch.randperm(value.numel())[:64] for name, value in named.items()}

    def function(x: Tensor, *parts: Tensor) -> Tensor:
        given = zip(named.items(), parts, strict=True)
        values = {n: v.flatten().index_put((drawn[n],), part).view_as(v) for (n, v), part in given}
        torch.manual_seed(0)
        return torch.func.functional_call(pool, values, (x,))

    for images, size in [(2, (6, 6)), (1, (7, 5))]:
        if not _takes(pool, size):
            continue
        x = _distinct(images, 2, *size)
        parts = [value.flatten()[drawn[name]] for name, value in named.items()]
        try:
            torch.autograd.gradcheck(function, tuple(value.requires_grad_() for value in (x, *parts)))
        except GradcheckError as error:
            raise Failed(f"on a map of {size[0]}x{size[1]}: {error}") from error


def zero_maps(make: Maker) -> None:
    """Maps of zeros, usual after a ReLU, give finite values and gradients."""
    pool, x = _new(make).train(), torch.zeros(2, CHANNELS, 8, 8, requires_grad=True)
    y = _run(pool, x)
    if not y.isfinite().all():
        raise Failed("a map of zeros gives NaN or infinite values")
    y.sum().backward()
    for name, gradient in [("the input", x.grad), *((name, p.grad) for name, p in pool.named_parameters())]:
        if gradient is not None and not gradient.isfinite().all():
            raise Failed(f"a map of zeros gives NaN or infinite gradients by {name}")


def large_values(make: Maker) -> None:
    """Activations of some hundreds, as happen early in a training, give finite values and gradients."""
    pool, x = _new(make).train(), (torch.rand(2, CHANNELS, 8, 8) * 600 - 100).requires_grad_()
    y = _run(pool, x)
    if not y.isfinite().all():
        raise Failed("values from -100 to 500 give NaN or infinity: an exponential or a power without a shift?")
    y.sum().backward()
    if not x.grad.isfinite().all():
        raise Failed("values from -100 to 500 give NaN or infinite gradients")


def parameters_learn(make: Maker) -> None:
    """Every parameter exists before the first forward pass, receives a gradient and moves within three steps."""
    pool = _new(make).train()
    before = {name: p.detach().clone() for name, p in pool.named_parameters()}
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in pool.parameters()):
        raise Failed("a lazy parameter has no shape before the first forward pass: optimizers are made earlier")
    x, weight = nn.Parameter(torch.rand(4, CHANNELS, 8, 8)), torch.rand(1, CHANNELS, 1, 1)
    optimizer = torch.optim.SGD([x, *pool.parameters()], lr=1)
    for step in range(3):
        optimizer.zero_grad()
        (_run(pool, x, seed=step) * weight).square().mean().backward()
        optimizer.step()
    after = dict(pool.named_parameters())
    if after.keys() != before.keys():
        raise Failed(f"the forward pass made or lost parameters: {sorted(after.keys() ^ before.keys())}")
    still = [name for name, p in after.items() if p.requires_grad and torch.equal(p, before[name])]
    if still:
        raise Failed(f"{', '.join(still)} did not move in three steps of SGD: does the output depend on it?")


# -- how it behaves ---------------------------------------------------------------------------------------------------


def randomness(make: Maker) -> None:
    """Its training draws exactly if it says ``random``, and gives the same for the same seed."""
    pool, x = _new(make).train(), torch.rand(4, CHANNELS, 12, 12)
    first, again, *others = (_run(copy.deepcopy(pool), x, seed) for seed in (1, 1, *range(2, 20)))
    if not torch.equal(first, again):
        raise Failed("the same seed of torch gives two results: where do its random numbers come from?")
    differ = not all(torch.equal(first, other) for other in others)
    _declared(pool, "random", differ, "other seeds give other results in training")
    if getattr(pool, "random", False) and hasattr(pool, "generator"):
        results = []
        for seed in range(10):
            one = copy.deepcopy(pool)
            one.generator = torch.Generator().manual_seed(5)
            results.append(_run(one, x, seed))
        if not all(torch.equal(results[0], other) for other in results):
            raise Failed("pool.generator is set, and torch's global generator is used all the same")


def evaluation(make: Maker) -> None:
    """Evaluation gives the same every time (unless it says ``random_evaluation``) and changes no state."""
    pool, x = _new(make), torch.rand(2, CHANNELS, 9, 9)
    state = copy.deepcopy(pool.state_dict())
    same = torch.equal(_run(pool, x, seed=1), _run(pool, x, seed=2))
    if same == getattr(pool, "random_evaluation", False):
        raise Failed(f"evaluation gives {'the same' if same else 'something else'} the second time")
    changed = [name for name, value in pool.state_dict().items() if not torch.equal(value, state[name])]
    if changed:
        raise Failed(f"evaluation changes {', '.join(changed)}")


def state(make: Maker) -> None:
    """Its state is saved and comes back; it can be copied and pickled."""
    pool, x = _new(make), torch.rand(2, CHANNELS, 9, 9)
    with torch.no_grad():
        for value in pool.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    again = _new(make)
    again.load_state_dict(torch.load(file, weights_only=True))
    expected = _run(pool, x)
    for how, one in (
        ("loaded into a new pool, its state", again),
        ("pickled, it", pickle.loads(pickle.dumps(pool))),
        ("copied, it", copy.deepcopy(pool)),
    ):
        if not torch.equal(_run(one, x), expected):
            raise Failed(f"{how} gives another result: is something kept outside of parameters and buffers?")


def bfloat16(make: Maker) -> None:
    """bfloat16 gives bfloat16, near the full precision; so does autocast."""
    pool, x = _new(make), torch.rand(2, CHANNELS, 9, 8).bfloat16()
    near = getattr(pool, "bfloat16_tolerance", 4e-2)
    expected = _run(pool, x.float())
    with torch.autocast("cpu", torch.bfloat16):
        _close(_run(pool, x).float(), expected, "under autocast", rtol=near, atol=near)
    y = _run(copy.deepcopy(pool).bfloat16(), x)
    if y.dtype != torch.bfloat16:
        raise Failed(f"a bfloat16 map gives {y.dtype}")
    _close(y.float(), expected, "in bfloat16", rtol=near, atol=near)


def compiles(make: Maker) -> None:
    """torch.compile takes it whole, with the same values and gradients."""
    for training in (False, True):
        pool = _new(make).train(training)
        if training and not getattr(pool, "random", False):
            return
        torch._dynamo.reset()
        twin = copy.deepcopy(pool)  # training moves statistics
        compiled = torch.compile(pool, backend="aot_eager", fullgraph=True)
        x = torch.randn(2, CHANNELS, 9, 8, requires_grad=True)
        results = []
        for one in (compiled, twin):
            y = _run(one, x)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
        _close(results[0][0], results[1][0], "compiled, it gives other values")
        _close(results[0][1], results[1][1], "compiled, it gives other gradients")


def exports(make: Maker) -> None:
    """torch.export takes it in evaluation mode, for any batch size."""
    pool = _new(make)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(pool, (torch.randn(2, CHANNELS, 9, 8),), dynamic_shapes=dynamic)
    x = torch.randn(5, CHANNELS, 9, 8)
    _close(_run(program.module(), x), _run(pool, x), "exported, it gives other values")


def transforms(make: Maker) -> None:
    """torch.func (vmap, jacrev) works on it, and so do second derivatives."""
    pool = _new(make, channels=2, dtype=torch.float64)
    if getattr(pool, "random_evaluation", False):
        raise Skipped("its evaluation draws: vmap asks how")
    x = _distinct(3, 1, 2, 6, 6)
    _close(torch.func.vmap(pool)(x), torch.stack([pool(one) for one in x]), "under vmap it gives other values")
    expected = torch.autograd.functional.jacobian(pool, x[0])
    _close(torch.func.jacrev(pool)(x[0]), expected, "jacrev differs from the Jacobian")
    vectorized = torch.autograd.functional.jacobian(pool, x[0], vectorize=True)
    _close(vectorized, expected, "the vectorised Jacobian differs")
    one = x[0].clone().requires_grad_()
    y = pool(one).square().sum()
    (slope,) = torch.autograd.grad(y, one, create_graph=True)
    if slope.requires_grad:
        (second,) = torch.autograd.grad(slope.square().sum(), one)
        if not second.isfinite().all():
            raise Failed("second derivatives are NaN or infinite")


def flops(make: Maker) -> None:
    """Its ``flops(size)`` is a whole number that grows with the area and the channels."""
    pool = _new(make)
    if not hasattr(pool, "flops") or pool.flops((16, 16)) is None:
        raise Skipped("it says no flops(size): the cost report counts what torch's counter sees in it")
    small, large, more = pool.flops((16, 16)), pool.flops((32, 16)), _new(make, channels=8).flops((16, 16))
    if not isinstance(small, int) or small < 0:
        raise Failed(f"flops((16, 16)) must be a whole number of at least 0, got {small!r}")
    # What does not belong to a window (a transform of the whole map, weights made anew) may grow otherwise.
    if small and not 1.4 * small < large:
        raise Failed(f"flops((16, 16)) is {small}, but flops((32, 16)) is {large}")
    # What the channels share (a predicted kernel) stays.
    if small and not small < more:
        raise Failed(f"flops((16, 16)) is {small} for {CHANNELS} channels, but {more} for 8")


# -- what it says of itself -------------------------------------------------------------------------------------------


def constants(make: Maker) -> None:
    """It keeps constant maps exactly if it says ``keeps_constants``."""
    pool = _new(make)
    worst = 0.0
    for level in (0.0, 0.5, 3.0):
        y = _inner(pool, _run(pool, torch.full((2, CHANNELS, 16, 16), level)))
        worst = max(worst, (y - level).abs().max().item())
    _declared(pool, "keeps_constants", worst < 1e-4, f"a constant map is kept (the largest deviation is {worst:.2g})")


def channels(make: Maker) -> None:
    """An output channel sees other channels exactly if it says ``mixes_channels``; likewise for their order."""
    pool, x = _new(make), torch.rand(2, CHANNELS, 8, 8) * 4
    other = x.clone()
    other[:, 0] += torch.rand(2, 8, 8) * 4
    change = (_run(pool, x) - _run(pool, other)).abs().amax((0, 2, 3))
    if not change[0] > 0:
        raise Failed("a change of a channel does not change its output")
    _declared(pool, "mixes_channels", bool((change[1:] > 0).any()), "a change of channel 0 changes other channels")
    order = [2, 0, 3, 1]
    alike = torch.allclose(_run(pool, x[:, order]), _run(pool, x)[:, order], rtol=1e-4, atol=1e-5)
    _declared(pool, "treats_channels_alike", alike, "permuting the channels permutes the output")


def bounds(make: Maker) -> None:
    """The output stays between the least and the largest value of the map exactly if it says ``bounded``."""
    pool = _new(make)
    axes = (1, 2, 3) if getattr(pool, "mixes_channels", False) else (2, 3)
    # Small maps, so that an output beyond its window is beyond the map too; and steps, at which filters ring.
    small = torch.randn(256, CHANNELS, 4, 4)
    beyond = -math.inf
    for x in (small, 1 + small.abs() / 8, -1 - small.abs() / 8, (torch.rand(64, CHANNELS, 8, 8) < 0.5).float()):
        if _takes(pool, (x.shape[2], x.shape[3])):
            y = _run(pool, x)
            less, more = x.amin(axes, keepdim=True) - y, y - x.amax(axes, keepdim=True)
            beyond = max(beyond, less.max().item(), more.max().item())
    _declared(pool, "bounded", beyond < 1e-5, f"no output leaves the range of its map (the worst by {beyond:.2g})")


def oddness(make: Maker) -> None:
    """f(-x) = -f(x) exactly if it says ``odd``."""
    pool, x = _new(make), torch.randn(2, CHANNELS, 8, 8)
    _compare(pool, "odd", _run(pool, -x), -_run(pool, x), "f(-x) = -f(x)")


def homogeneity(make: Maker) -> None:
    """f(3 x) = 3 f(x) exactly if it says ``homogeneous``."""
    pool, x = _new(make), torch.randn(2, CHANNELS, 8, 8)
    _compare(pool, "homogeneous", _run(pool, 3 * x), 3 * _run(pool, x), "f(3 x) = 3 f(x)")


def offsets(make: Maker) -> None:
    """f(x + 2) = f(x) + 2 exactly if it says ``follows_offset``."""
    pool, x = _new(make), torch.randn(4, CHANNELS, 12, 12)
    inner = (_inner(pool, _run(pool, x + 2)), _inner(pool, _run(pool, x)) + 2)
    _compare(pool, "follows_offset", *inner, "f(x + 2) = f(x) + 2")


def signs(make: Maker) -> None:
    """Maps that are nowhere negative give such maps exactly if it says ``keeps_sign``."""
    # Sparse ones too: what overshoots does so at edges.
    pool, x = _new(make), torch.rand(64, CHANNELS, 8, 8)
    x = torch.cat([x, x * (torch.rand_like(x) < 0.2)])
    least = _run(pool, x).min().item()
    _declared(pool, "keeps_sign", least >= -1e-6, f"x >= 0 gives f(x) >= 0 (the least value is {least:.2g})")


def mirrors(make: Maker) -> None:
    """It commutes with a horizontal mirror of a map of which nothing is cropped exactly if it says ``mirrors``."""
    pool = _new(make)
    stride = getattr(pool, "stride", 2)
    side = 8 * stride if isinstance(stride, int) and stride > 1 else 16  # nothing is cropped
    x = torch.randn(2, CHANNELS, side, side)
    both = [_run(pool, x.flip(3)), _run(pool, x).flip(3)]
    _compare(pool, "mirrors", *both, "the mirrored map gives the mirrored output")


def stationarity(make: Maker) -> None:
    """Moving the input by a stride moves the output by a pixel exactly if it says ``stationary``."""
    pool = _new(make)
    stride = getattr(pool, "stride", None)
    if not isinstance(stride, int):
        ratio = getattr(pool, "ratio", None)
        stride = int(ratio) if ratio and float(ratio).is_integer() else None
    if stride is None:
        raise Skipped("it has no whole stride by which the input could be moved")
    side = 16 * stride
    x = torch.zeros(2, CHANNELS, side, side)
    middle = slice(5 * stride, 11 * stride)  # far from the border, which is treated in many ways
    x[..., middle, middle] = torch.randn(2, CHANNELS, 6 * stride, 6 * stride)
    moved = _run(pool, x.roll((stride, stride), (2, 3)))
    _compare(pool, "stationary", moved, _run(pool, x).roll((1, 1), (2, 3)), "a moved map gives the moved output")


def onnx(make: Maker) -> None:
    """torch.onnx exports it in evaluation mode and onnxruntime gives the same, exactly if it says ``onnx``."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise Skipped(f"it needs the packages onnx, onnxscript and onnxruntime ({error})") from error
    pool, x = _new(make), torch.randn(2, CHANNELS, 9, 8)
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
    same = torch.allclose(torch.from_numpy(y.copy()), _run(pool, x), rtol=1e-3, atol=1e-4)
    _declared(pool, "onnx", same, "onnxruntime gives the same values", default=True)


CHECKS: dict[str, Callable[[Maker], None]] = {
    check.__name__: check
    for check in (
        shape,
        images_apart,
        memory_format,
        input_untouched,
        gradients,
        zero_maps,
        large_values,
        parameters_learn,
        randomness,
        evaluation,
        state,
        bfloat16,
        compiles,
        exports,
        transforms,
        flops,
        constants,
        channels,
        bounds,
        oddness,
        homogeneity,
        offsets,
        signs,
        mirrors,
        stationarity,
        onnx,
    )
}


_CLAIMS = ("bounded", "odd", "homogeneous", "follows_offset", "keeps_sign", "mirrors")  # which are no duty


def _new(make: Maker, channels: int = CHANNELS, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A pool with weights that are the same in every check, in evaluation mode."""
    torch.manual_seed(1)
    return make(channels).to(dtype).eval()


def _run(pool: Callable[[Tensor], Tensor], x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)  # for pools that draw
    return pool(x)


def _takes(pool: nn.Module, size: tuple[int, int]) -> bool:
    try:
        pool.output_size(size)
    except ValueError:
        return False
    except (AttributeError, TypeError):
        pass
    return True


def _distinct(*shape: int) -> Tensor:
    """Numbers of both signs with no two near each other or near 0, where maxima and norms have kinks."""
    torch.manual_seed(3)
    count = torch.Size(shape).numel()
    values = (torch.randperm(count) + 1).double() / count * 2 - 1
    return (values + 0.5 / count).view(shape)


def _inner(pool: nn.Module, y: Tensor) -> Tensor:
    """``y`` without the rim that a border of zeros may have touched."""
    rim = getattr(pool, "rim", 1 if getattr(pool, "padding", 0) else 0)
    return y[..., rim : y.shape[-2] - rim, rim : y.shape[-1] - rim]


def _close(actual: Tensor, expected: Tensor, words: str, **tolerances: float) -> None:
    try:
        torch.testing.assert_close(actual, expected, **tolerances)
    except AssertionError as error:
        raise Failed(f"{words}: {' '.join(str(error).split())}") from None


def _declared(pool: nn.Module, attribute: str, holds: bool, words: str, default: bool | None = None) -> None:
    """Hold a pool to what it says of itself; one that says nothing promises nothing."""
    said = getattr(pool, attribute, default)
    if said is None:
        raise Skipped(f"it does not say whether {attribute} ({words}: {'yes' if holds else 'no'})")
    if not said and holds and attribute in _CLAIMS and not type(pool).__module__.startswith("poolbench."):
        raise Skipped(f"it does not claim {attribute}, though this holds: {words}")  # ours claim all that they may
    if bool(said) != holds:
        raise Failed(f"it says {attribute} = {said}, but this {'holds' if holds else 'does not hold'}: {words}")


def _compare(pool: nn.Module, attribute: str, actual: Tensor, expected: Tensor, words: str) -> None:
    difference = (actual - expected).abs().max().item()
    _declared(pool, attribute, difference < 1e-4, f"{words} (the largest difference is {difference:.2g})")


def _innermost(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else "nowhere known"
