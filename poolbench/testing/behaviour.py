"""How a pool behaves: draws, evaluation, state, transforms, cost."""

import copy
import io
import pickle

import torch

from poolbench.testing.face import (
    CHANNELS,
    Failed,
    Maker,
    Skipped,
    close,
    declared,
    distinct,
    new,
    run,
)


def randomness(make: Maker) -> None:
    """Its training draws exactly if it says ``random``, and gives the same for the same seed."""
    pool, x = new(make).train(), torch.rand(4, CHANNELS, 12, 12)
    first, again, *others = (run(copy.deepcopy(pool), x, seed) for seed in (1, 1, *range(2, 20)))
    if not torch.equal(first, again):
        raise Failed("the same seed of torch gives two results: where do its random numbers come from?")
    differ = not all(torch.equal(first, other) for other in others)
    declared(pool, "random", differ, "other seeds give other results in training")
    if getattr(pool, "random", False) and hasattr(pool, "generator"):
        results = []
        for seed in range(10):
            one = copy.deepcopy(pool)
            one.generator = torch.Generator().manual_seed(5)
            results.append(run(one, x, seed))
        if not all(torch.equal(results[0], other) for other in results):
            raise Failed("pool.generator is set, and torch's global generator is used all the same")


def evaluation(make: Maker) -> None:
    """Evaluation gives the same every time (unless it says ``random_evaluation``) and changes no state."""
    pool, x = new(make), torch.rand(2, CHANNELS, 9, 9)
    state = copy.deepcopy(pool.state_dict())
    same = torch.equal(run(pool, x, seed=1), run(pool, x, seed=2))
    if same == getattr(pool, "random_evaluation", False):
        raise Failed(f"evaluation gives {'the same' if same else 'something else'} the second time")
    changed = [name for name, value in pool.state_dict().items() if not torch.equal(value, state[name])]
    if changed:
        raise Failed(f"evaluation changes {', '.join(changed)}")


def state(make: Maker) -> None:
    """Its state is saved and comes back; it can be copied and pickled."""
    pool, x = new(make), torch.rand(2, CHANNELS, 9, 9)
    with torch.no_grad():
        for value in pool.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    again = new(make)
    again.load_state_dict(torch.load(file, weights_only=True))
    expected = run(pool, x)
    for how, one in (
        ("loaded into a new pool, its state", again),
        ("pickled, it", pickle.loads(pickle.dumps(pool))),
        ("copied, it", copy.deepcopy(pool)),
    ):
        if not torch.equal(run(one, x), expected):
            raise Failed(f"{how} gives another result: is something kept outside of parameters and buffers?")


def transforms(make: Maker) -> None:
    """torch.func (vmap, jacrev) works on it, and so do second derivatives."""
    pool = new(make, channels=2, dtype=torch.float64)
    if getattr(pool, "random_evaluation", False):
        raise Skipped("its evaluation draws: vmap asks how")
    x = distinct(3, 1, 2, 6, 6)
    close(torch.func.vmap(pool)(x), torch.stack([pool(one) for one in x]), "under vmap it gives other values")
    expected = torch.autograd.functional.jacobian(pool, x[0])
    close(torch.func.jacrev(pool)(x[0]), expected, "jacrev differs from the Jacobian")
    vectorized = torch.autograd.functional.jacobian(pool, x[0], vectorize=True)
    close(vectorized, expected, "the vectorised Jacobian differs")
    one = x[0].clone().requires_grad_()
    y = pool(one).square().sum()
    (slope,) = torch.autograd.grad(y, one, create_graph=True)
    if slope.requires_grad:
        (second,) = torch.autograd.grad(slope.square().sum(), one)
        if not second.isfinite().all():
            raise Failed("second derivatives are NaN or infinite")


def flops(make: Maker) -> None:
    """Its ``flops(size)`` is a whole number that grows with the area and the channels."""
    pool = new(make)
    if not hasattr(pool, "flops") or pool.flops((16, 16)) is None:
        raise Skipped("it says no flops(size): the FLOPs of nets with it are not counted")
    small, large, more = pool.flops((16, 16)), pool.flops((32, 16)), new(make, channels=8).flops((16, 16))
    if not isinstance(small, int) or small < 0:
        raise Failed(f"flops((16, 16)) must be a whole number of at least 0, got {small!r}")
    # What does not belong to a window (a transform of the whole map, weights made anew) may grow otherwise.
    if small and not 1.4 * small < large:
        raise Failed(f"flops((16, 16)) is {small}, but flops((32, 16)) is {large}")
    # What the channels share (a predicted kernel) stays.
    if small and not small < more:
        raise Failed(f"flops((16, 16)) is {small} for {CHANNELS} channels, but {more} for 8")
