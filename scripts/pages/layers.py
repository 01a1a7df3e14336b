"""The layers of a model as the rows of a table: its parts, what is in each, and the map that each leaves."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from poolbench.models.sites import is_site
from poolbench.pooling import POOLS, create_pool

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
LONGEST = 8  # layers of a group that is looked for again right after it


def layers_of(net: Any, size: tuple[int, int]) -> list[tuple[str, str, str]]:
    """Part, its layers in words, and the map or vector after it, in the order of the forward pass."""
    seen: dict[str, tuple[list[str], str]] = {}

    def note(part: str, words: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if words:
                seen.setdefault(part, ([], ""))[0].append(words)
            if isinstance(output, Tensor) and part in seen:
                seen[part] = (seen[part][0], _shape(output))

        return hook

    handles = [
        module.register_forward_hook(note(_part(name), told(module)))
        for name, module in net.named_modules()
        if name and not _inside(net, name)
    ]
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            net(torch.zeros(2, 3, *size, device=next(net.parameters()).device))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return [(part, ", ".join(gathered(words)), shape) for part, (words, shape) in seen.items()]


def told(module: nn.Module) -> str:
    """``conv 3x3, 64``; nothing for a module that is but the layers in it, a normalisation or an activation."""
    if is_site(module):
        return f"**pool** (`{_pool(module)}`)"
    if isinstance(module, nn.Conv2d):
        kind = "depthwise" if module.groups == module.in_channels > 1 else "conv"
        kind += f" in {module.groups} groups" if 1 < module.groups < module.in_channels else ""
        step = f" / {module.stride[0]}" if module.stride[0] > 1 else ""
        return f"{kind} {module.kernel_size[0]}x{module.kernel_size[1]} {module.out_channels}{step}"
    if isinstance(module, nn.Linear):
        return f"linear {module.out_features}"
    if isinstance(module, _DropoutNd):
        return f"dropout {module.p:g}" if module.p else ""
    if isinstance(module, NORMS):
        return ""
    if (
        type(module).__module__ == "torch.nn.modules.pooling"
        or next(module.parameters(recurse=False), None) is not None
    ):
        return type(module).__name__.lstrip("_")
    return ""


def gathered(words: list[str]) -> list[str]:
    """Runs of the same layers said once: ``a, b, a, b -> 2 x (a, b)``."""
    found: list[str] = []
    while words:
        length, times = max(
            ((n, _times(words, n)) for n in range(1, LONGEST + 1)), key=lambda pair: (pair[0] * (pair[1] - 1), -pair[0])
        )
        once = ", ".join(words[:length])
        found.append(once if times == 1 else f"{times} x ({once})" if length > 1 else f"{times} x {once}")
        words = words[length * times :]
    return found


def _pool(module: nn.Module) -> str:
    """The name of a pool, and the options in which it differs from the one of that name."""
    name = next((known for known in POOLS.table if type(module) is POOLS.find(known)), None)
    if name is None:
        return type(module).__name__
    options, usual = (re.split(r", (?=\w+=)", pool.extra_repr()) for pool in (module, create_pool(name, channels=4)))
    return " ".join([name, *(option for option in options if option not in usual)])


def _times(words: list[str], length: int) -> int:
    """How often the first ``length`` of ``words`` stand one after another at their start."""
    times = 1
    while words[times * length : (times + 1) * length] == words[:length]:
        times += 1
    return times


def _part(name: str) -> str:
    """``stage1`` of ``features.stage1.conv1``; ``head`` of all that is in the head."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "features" and rest else first


def _inside(net: nn.Module, name: str) -> bool:
    """Is this a part of a pool, which is told as one?"""
    parents = [name[:at] for at, letter in enumerate(name) if letter == "."]
    return any(is_site(net.get_submodule(parent)) for parent in parents)


def _shape(output: Tensor) -> str:
    if output.dim() == 4:
        return f"{output.shape[1]} x {output.shape[2]}x{output.shape[3]}"
    return str(output.shape[1]) if output.dim() == 2 else ""
