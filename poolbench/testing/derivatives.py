"""A pool's derivatives, and whether it learns."""

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from poolbench.testing.face import CHANNELS, Failed, Maker, distinct, new, run, start_draws, takes


def gradients(make: Maker, fast: bool = False) -> None:
    """Its gradients, by the input and by its parameters, are those of the function (float64, finite differences).

    Of a parameter with more values than 64, as many are drawn, the same in every check. ``fast`` compares along one
    random direction: ten times quicker, and it may miss one wrong value of many.
    """
    pool = new(make, channels=2, dtype=torch.float64)
    named = {name: value.detach() for name, value in pool.named_parameters()}
    # A difference for each of thousands of weights takes half a minute.
    drawn = {name: torch.randperm(value.numel())[:64] for name, value in named.items()}

    def function(x: Tensor, *parts: Tensor) -> Tensor:
        given = zip(named.items(), parts, strict=True)
        values = {n: v.flatten().index_put((drawn[n],), part).view_as(v) for (n, v), part in given}
        start_draws(0)
        return torch.func.functional_call(pool, values, (x,))

    for images, size in [(2, (6, 6)), (1, (7, 5))]:
        if not takes(pool, size):
            continue
        x = distinct(images, 2, *size)
        parts = [value.flatten()[drawn[name]] for name, value in named.items()]
        try:
            torch.autograd.gradcheck(function, tuple(one.requires_grad_() for one in (x, *parts)), fast_mode=fast)
        except GradcheckError as error:
            raise Failed(f"on a map of {size[0]}x{size[1]}: {error}") from error


def zero_maps(make: Maker) -> None:
    """Maps of zeros, usual after a ReLU, give finite values and gradients."""
    pool, x = new(make).train(), torch.zeros(2, CHANNELS, 8, 8, requires_grad=True)
    y = run(pool, x)
    if not y.isfinite().all():
        raise Failed("a map of zeros gives NaN or infinite values")
    y.sum().backward()
    for name, gradient in [("the input", x.grad), *((name, p.grad) for name, p in pool.named_parameters())]:
        if gradient is not None and not gradient.isfinite().all():
            raise Failed(f"a map of zeros gives NaN or infinite gradients by {name}")


def large_values(make: Maker) -> None:
    """Activations of some hundreds, as happen early in a training, give finite values and gradients."""
    pool, x = new(make).train(), (torch.rand(2, CHANNELS, 8, 8) * 600 - 100).requires_grad_()
    y = run(pool, x)
    if not y.isfinite().all():
        raise Failed("values from -100 to 500 give NaN or infinity: an exponential or a power without a shift?")
    y.sum().backward()
    if not x.grad.isfinite().all():
        raise Failed("values from -100 to 500 give NaN or infinite gradients")


def parameters_learn(make: Maker) -> None:
    """Every parameter exists before the first forward pass, receives a gradient and moves within three steps."""
    pool = new(make).train()
    before = {name: p.detach().clone() for name, p in pool.named_parameters()}
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in pool.parameters()):
        raise Failed("a lazy parameter has no shape before the first forward pass: optimizers are made earlier")
    x, weight = nn.Parameter(torch.rand(4, CHANNELS, 8, 8)), torch.rand(1, CHANNELS, 1, 1)
    optimizer = torch.optim.SGD([x, *pool.parameters()], lr=1)
    for step in range(3):
        optimizer.zero_grad()
        (run(pool, x, seed=step) * weight).square().mean().backward()
        optimizer.step()
    after = dict(pool.named_parameters())
    if after.keys() != before.keys():
        raise Failed(f"the forward pass made or lost parameters: {sorted(after.keys() ^ before.keys())}")
    still = [name for name, p in after.items() if p.requires_grad and torch.equal(p, before[name])]
    if still:
        raise Failed(f"{', '.join(still)} did not move in three steps of SGD: does the output depend on it?")
