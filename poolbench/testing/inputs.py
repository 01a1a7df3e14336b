"""What a pool was not made for (other numbers, other dimensions, other channels, no images), and who traces it."""

import copy
import warnings

import torch
from torch import Tensor, nn

from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, close, new, ours, run


def refusals(make: Maker) -> None:
    """Whole numbers, maps of three or five dimensions and of other channels are refused, or served right.

    Ours refuse them by a ValueError with the name of the class; anybody else's may serve them as torch's layers do.
    """
    pool = new(make)
    if getattr(pool, "random_evaluation", False) and not ours(pool):
        raise Skipped("its evaluation draws: no two passes are alike")
    whole = torch.randint(0, 200, (2, CHANNELS, 9, 8))
    for dtype in (torch.uint8, torch.int32, torch.int64):
        y = _served(pool, whole.to(dtype), f"a map of {dtype}")
        if y is not None:
            near = 1e-3 if y.is_floating_point() else 1.0  # torch's own averages are rounded
            expected = run(pool, whole.float())
            close(y.float(), expected, f"a map of {dtype} gives other values than float32", rtol=0, atol=near)
    images = torch.rand(2, 3, CHANNELS, 9, 8)
    y = _served(pool, images[0, 0], "a map (C, H, W)")
    if y is not None:
        close(y, run(pool, images[0, :1])[0], "a map (C, H, W) gives something else than a batch of one")
    y = _served(pool, images, "maps of five dimensions")
    if y is not None:
        close(y, torch.stack([run(pool, one) for one in images]), "maps (A, B, C, H, W) are not pooled one by one")
    for channels in (1, CHANNELS + 1):
        x = torch.rand(2, channels, 9, 8)
        y = _served(pool, x, f"a map of {channels} channels where {CHANNELS} were told")
        if y is not None:
            close(y, run(new(make, channels), x), f"a map of {channels} channels gives other values than a pool for it")


def empty_batch(make: Maker) -> None:
    """No images give no images, of the size that one has, with gradients, and move no statistic."""
    size = tuple(run(new(make), torch.rand(1, CHANNELS, 9, 8)).shape[1:])
    for training in (False, True):
        pool = new(make).train(training)
        state = copy.deepcopy(pool.state_dict())
        x = torch.zeros(0, CHANNELS, 9, 8, requires_grad=True)
        y = run(pool, x)
        if tuple(y.shape) != (0, *size) or y.dtype != x.dtype:
            raise Failed(f"no images gave {y.dtype} {tuple(y.shape)}, not {x.dtype} {(0, *size)}")
        if not y.requires_grad:
            raise Failed("no images have no gradient: a net would stop at such a batch")
        y.sum().backward()
        moved = [name for name, value in pool.named_parameters() if value.grad is not None and value.grad.any()]
        if moved:
            raise Failed(f"no images give a gradient to {', '.join(moved)}")
        for name, value in pool.state_dict().items():
            if value.is_floating_point() and not torch.equal(value, state[name]):  # torch's layers count such a batch
                raise Failed(f"no images change {name}")


def tracing(make: Maker) -> None:
    """torch.jit.trace gives the same values, for other batches too, and so does torch.fx of a net that holds it."""
    pool, x, others = new(make), torch.randn(2, CHANNELS, 9, 8), torch.randn(3, CHANNELS, 9, 8)
    if getattr(pool, "random_evaluation", False):
        raise Skipped("its evaluation draws: no two passes are alike")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants
        traced = torch.jit.trace(pool, (x,), check_trace=False)  # which would trace it again
    for maps in (x, others):
        close(run(traced, maps), run(pool, maps), f"traced, it gives other values for a batch of {len(maps)}")
    try:
        net = torch.fx.symbolic_trace(nn.Sequential(pool))
    except Exception as error:
        if ours(pool):
            raise
        raise Skipped(f"torch.fx does not see through it; swapped into a net, it need not ({error})") from error
    close(run(net, others), run(pool, others), "traced by torch.fx, it gives other values")


def _served(pool: nn.Module, x: Tensor, what: str) -> Tensor | None:
    """What the pool makes of ``x``; None if it refuses it."""
    try:
        y = run(pool, x)
    except Exception as error:
        clear = isinstance(error, ValueError) and type(pool).__name__ in str(error)
        if ours(pool) and not clear:
            raise Failed(f"{what} is refused by {type(error).__name__}: {error}") from error
        return None
    if not isinstance(y, Tensor):
        raise Failed(f"{what} gave {type(y).__name__}")
    return y
