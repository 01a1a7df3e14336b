"""What a model costs: parameters and floating point operations, pooling counted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from poolbench.models.sites import first_of, is_site


def cost(model: nn.Module, input_size: tuple[int, int]) -> dict[str, Any]:
    """Cost of ``model`` for one image of ``input_size`` ``(H, W)``.

    Counters of torch and others see no operation in a pool. Here each pool and head says by its own formula
    (``flops(size)``) what it does, and that replaces what the counter sees inside a pool. Two operations for a
    multiply-add; normalisations and activations of the trunk are not counted, as is usual.

    A pool that says nothing would look cheaper than all that do: a net with one is not counted.

    Returns: ``parameters`` (trained ones), ``forward_flops`` per image and ``pool_flops``, the share in it of the
    pools and of the head's pooling. Of a net that is not counted both are None, and ``seen_flops`` is what the counter
    and the other formulas come to, which tells how long one training lasts beside another of the same net.
    """
    parameter = next(model.parameters())
    image = torch.zeros(1, 3, *input_size, device=parameter.device, dtype=parameter.dtype)
    was_training = model.training
    model.eval()
    # torch's counter stumbles over a module that is given a view of a weight, as a token: of none that is trained.
    trained = [p for p in model.parameters() if p.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            total = _count(model, image)
            pooling, counted_all = 0, True
            for module, x in _inputs_of_pools(model, image):
                counted = _count(module, x) if is_site(module) else 0
                formula = getattr(module, "flops", None)
                said = formula((x.shape[-2], x.shape[-1])) if callable(formula) else None
                counted_all = counted_all and not (said is None and is_site(module))
                said = counted if said is None else said
                total += said - counted
                pooling += said
    finally:
        model.train(was_training)
        for weight in trained:
            weight.requires_grad_(True)
    parameters = sum(p.numel() for p in trained)
    if not counted_all:
        return {"parameters": parameters, "forward_flops": None, "pool_flops": None, "seen_flops": total}
    return {"parameters": parameters, "forward_flops": total, "pool_flops": pooling}


def seen_flops(costs: Mapping[str, Any]) -> int:
    """Of what :func:`cost` gives: forward FLOPs, or, where a pool says none, those that are seen."""
    return costs["seen_flops"] if costs["forward_flops"] is None else costs["forward_flops"]


def _inputs_of_pools(model: nn.Module, image: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Each pool, and the head, with the map that reaches it."""
    inputs: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        inputs.append((module, first_of(args, kwargs)))

    pools = [m for m in model.modules() if is_site(m) or m is getattr(model, "head", None)]
    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in pools]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _count(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops())
