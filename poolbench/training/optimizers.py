"""Optimisers: torch's own, with weight decay on weights alone, and Muon taught to take convolution filters."""

import math
from collections.abc import Iterable, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from poolbench.models.sites import is_site
from poolbench.training.allowed import check_optimizer
from poolbench.training.process import cpu_has_bfloat16

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # batch and instance normalisations are of the first


class Optimizers:
    """One or more torch optimisers that step together.

    Args:
        optimizers: together they hold each parameter once.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = [optimizer for optimizer in optimizers if optimizer.param_groups]
        for group in self._groups():
            group["initial_lr"] = group["lr"]

    def scale(self, factor: float) -> None:
        """Set every learning rate to ``factor`` of its own."""
        for group in self._groups():
            group["lr"] = group["initial_lr"] * factor

    @property
    def lr(self) -> float:
        """The first group's learning rate now."""
        return float(next(iter(self._groups()))["lr"])

    def gather(self) -> None:
        """After the backward pass, before the step: let optimisers that hold views of parameters fetch gradients."""
        for optimizer in self.optimizers:
            if isinstance(optimizer, FilterMuon):
                optimizer.gather()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for optimizer in self.optimizers for group in optimizer.param_groups)


def sgd(
    model: nn.Module, lr: float = 0.1, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 5e-4
) -> Optimizers:
    """Stochastic gradient descent with (Nesterov) momentum. Raises: ValueError naming the option."""
    check_optimizer(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    return Optimizers(_sgd(model.parameters(), lr, momentum, nesterov, weight_decay, _of_pools(model)))


def adamw(
    model: nn.Module, lr: float = 0.002, betas: Sequence[float] = (0.9, 0.999), weight_decay: float = 0.01
) -> Optimizers:
    """Adam with decoupled weight decay. Raises: ValueError naming the option.

    Source: Loshchilov and Hutter, ICLR 2019.
    """
    check_optimizer(lr=lr, weight_decay=weight_decay, betas=betas)
    first, second = betas
    groups = _groups(model.parameters(), weight_decay, _of_pools(model))
    return Optimizers(torch.optim.AdamW(groups, lr=lr, betas=(float(first), float(second))))


def muon(
    model: nn.Module,
    lr: float = 0.24,
    momentum: float = 0.6,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    steps: int = 3,
    rescale: bool = True,
    rest_lr: float = 0.1,
    rest_momentum: float = 0.85,
    rest_weight_decay: float = 5e-4,
) -> Optimizers:
    """Orthogonalised momentum for convolution filters, SGD for all other parameters.

    A filter inside a pool or a head without any normalisation, as one that gives the logits of a softmax, is left to
    SGD: its norm means something.

    Args:
        lr, momentum, nesterov, weight_decay: of the filters.
        steps: Newton-Schulz iterations, which bring the singular values of an update near 1.
        rescale: bring each layer's filters back to the norm ``sqrt(out_channels)`` before every step, so that the
            learning rate means the same throughout; sound where a normalisation follows the convolution.
        rest_lr, rest_momentum, rest_weight_decay: SGD for biases, normalisations, fully connected layers.
    Raises: ValueError naming the option.
    Source: Jordan et al. 2024 (Muon), as used on CIFAR-10 by cifar10-airbench.
    """
    check_optimizer(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, rescale=rescale)
    check_optimizer(rest_lr=rest_lr, rest_momentum=rest_momentum, rest_weight_decay=rest_weight_decay, steps=steps)
    # Depthwise filters are vectors, one per channel: there is nothing to orthogonalise.
    own = _of_pools(model)
    free = own | _unnormalised(model)
    filters = [p for p in model.parameters() if p.requires_grad and p.dim() == 4 and p.shape[1] > 1 and p not in free]
    chosen = {id(p) for p in filters}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    first = [FilterMuon(filters, lr, weight_decay, momentum, nesterov, steps, rescale)] if filters else []
    return Optimizers(*first, _sgd(rest, rest_lr, rest_momentum, nesterov, rest_weight_decay, own))


class FilterMuon(torch.optim.Muon):
    """``torch.optim.Muon``, which takes matrices only, on filters ``(out, in, h, w)`` seen as ``(out, h * w * in)``.

    The optimiser holds views of the filters, so what it adds to a matrix is added to the filter. That asks for
    filters in ``channels_last`` memory, or of one input channel's layout that a view can follow; others are refused,
    because a copy would be trained in their place.
    """

    def __init__(
        self,
        filters: Sequence[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float,
        nesterov: bool,
        steps: int,
        rescale: bool,
    ):
        self.filters = list(filters)
        self.rescale = rescale
        matrices = [_as_matrix(filter.data) for filter in self.filters]
        for filter, matrix in zip(self.filters, matrices, strict=True):
            if matrix.data_ptr() != filter.data_ptr():
                raise ValueError("optimizer muon needs trainer.channels_last=true: it works on the filters in place")
        self.matrices = [nn.Parameter(matrix) for matrix in matrices]
        super().__init__(
            self.matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, ns_steps=steps
        )

    def gather(self) -> None:
        """Take the filters' gradients over to the matrices."""
        for filter, matrix in zip(self.filters, self.matrices, strict=True):
            matrix.grad = None if filter.grad is None else _as_matrix(filter.grad)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        if self.rescale:
            for matrix in self.matrices:
                matrix.mul_(math.sqrt(len(matrix)) / matrix.norm().clamp(min=1e-12))
        # torch's own multiplies in bfloat16: 16 times slower than float32 on a CPU without instructions for it.
        if self.matrices[0].device.type == "cpu" and not cpu_has_bfloat16():
            self._step_in_float32()
        else:
            super().step()

    def _step_in_float32(self) -> None:
        """The step of ``torch.optim.Muon``, to the numbers that :func:`_orthogonalised` speaks of."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                average = state["momentum_buffer"]
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(average, group["momentum"]) if group["nesterov"] else average
                update = _orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1])))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for filter, matrix in zip(self.filters, self.matrices, strict=True):
            filter.grad = matrix.grad = None


def _orthogonalised(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """What Muon's Newton-Schulz iterations in bfloat16 make of ``matrix``: sums in float32, each result rounded.

    That is what hardware with bfloat16 does; so the order of summation is all that differs between machines.
    """
    a, b, c = coefficients
    x = _rounded(matrix if len(matrix) <= matrix.shape[1] else matrix.T)
    x = _rounded(x / _rounded(x.norm()).clamp(min=eps))
    for _ in range(steps):
        gram = _rounded(x @ x.T)
        x = _rounded(torch.addmm(x, _rounded(torch.addmm(gram, gram, gram, beta=b, alpha=c)), x, beta=a))
    return x if len(matrix) <= matrix.shape[1] else x.T


def _rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def _as_matrix(filter: Tensor) -> Tensor:
    return filter.permute(0, 2, 3, 1).flatten(1)


def _sgd(
    parameters: Iterable[nn.Parameter],
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    undecayed: Set[nn.Parameter],
) -> torch.optim.SGD:
    return torch.optim.SGD(
        _groups(parameters, weight_decay, undecayed), lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
    )


def _groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, undecayed: Set[nn.Parameter]
) -> list[dict[str, Any]]:
    """Weights of layers decay; biases, normalisations and what is ``undecayed`` do not."""
    chosen = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in chosen if p.dim() > 1 and p not in undecayed], "weight_decay": weight_decay},
        {"params": [p for p in chosen if p.dim() <= 1 or p in undecayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _of_pools(model: nn.Module) -> set[nn.Parameter]:
    """What pools hold themselves, not in layers: the weights of cells, mixing shares, strides. Decay would pull them to
    0, which for few of them is neutral: a learned average would fade out."""
    return {p for pool in model.modules() if is_site(pool) for p in pool.parameters(recurse=False)}


def _unnormalised(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of pools, and of a head, without a normalisation inside."""
    parts = [m for m in model.modules() if is_site(m) or m is getattr(model, "head", None)]
    return {p for part in parts if not any(isinstance(m, _NORMS) for m in part.modules()) for p in part.parameters()}
