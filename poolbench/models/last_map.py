"""Where a net that somebody else built has its last map, the one before its global pool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Least side of the image with which a global pool is looked for, as a map of one pixel tells nothing, and the largest.
_SIDE, _LARGEST = 64, 512


@dataclass(frozen=True)
class Cut:
    """Where a net's last map is.

    Args:
        channels: of the map.
        take: called with the net and images ``(N, 3, H, W)``; gives the map ``(N, C, H, W)``.
    """

    channels: int
    take: Callable[[nn.Module, Tensor], Tensor]


def find_cut(net: nn.Module, image: tuple[int, int, int]) -> Cut | str:
    """Where the last map of ``net`` is, before its global pool, or why that cannot be told. ``net`` stays as it is.

    Args:
        image: ``(C, H, W)`` that the net takes.
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _of_timm(net, image) if _is_timms(net) else _of_modules(net, image)
    finally:
        for module, mode in modes:
            module.training = mode


def _is_timms(net: nn.Module) -> bool:
    """Whether ``net`` has the two halves that all of timm's nets have."""
    return all(callable(getattr(net, name, None)) for name in ("forward_features", "forward_head"))


def _of_timm(net: nn.Module, image: tuple[int, int, int]) -> Cut | str:
    maps = net.forward_features(torch.zeros(2, *image))
    width = net.num_features
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        what = f"a row of {maps.shape[1]} tokens" if isinstance(maps, Tensor) and maps.dim() == 3 else "none"
        return f"its last map is {what}"
    if maps.shape[1] == width:
        take = _timms_map
    elif maps.shape[3] == width:
        take = _timms_map_of_channels_last
    else:
        return f"its last map, {tuple(maps.shape[1:])}, has not the {width} channels that it says"
    return Cut(width, take)


def _timms_map(net: nn.Module, x: Tensor) -> Tensor:
    return net.forward_features(x)


def _timms_map_of_channels_last(net: nn.Module, x: Tensor) -> Tensor:
    return net.forward_features(x).permute(0, 3, 1, 2)


@dataclass
class _Call:
    """A call of a layer that has no layers in it."""

    name: str
    module: nn.Module
    inputs: Tensor
    output: Any


class _Reached(Exception):
    """Ends a forward pass at the last map, which is its argument."""


@dataclass(frozen=True)
class _Until:
    """Runs a net up to the layer ``name`` and takes what goes in, or what comes out, after a ReLU where one follows."""

    name: str
    before: bool
    relu: bool

    def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
        layer = net.get_submodule(self.name)
        handle = layer.register_forward_pre_hook(_stop_before) if self.before else layer.register_forward_hook(_stop)
        try:
            net(x)
        except _Reached as reached:
            (maps,) = reached.args
        finally:
            handle.remove()
        return F.relu(maps) if self.relu else maps


def _stop_before(layer: nn.Module, args: tuple[Any, ...]) -> None:
    raise _Reached(args[0])


def _stop(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    raise _Reached(output)


def _of_modules(net: nn.Module, image: tuple[int, int, int]) -> Cut | str:
    """By what goes into and comes out of each layer: the last one that sees a map of more than a pixel is the global
    pool, or stands before a mean that is no layer."""
    sides = (max(_SIDE, image[1]), max(_SIDE, image[2]))
    calls = _calls_or_none(net, (image[0], *sides)) or _calls_or_none(net, image)  # not every net takes other sizes
    while calls and _shrinks_to_a_pixel(calls) and max(sides) < _LARGEST:
        sides = (2 * sides[0], 2 * sides[1])
        larger = _calls_or_none(net, (image[0], *sides))
        if larger is None:
            break
        calls = larger
    seeing = [n for n, call in enumerate(calls or ()) if _is_map(call.inputs)]
    if not seeing:
        return "no layer sees a map of more than one pixel"
    last = calls[seeing[-1]]
    if not _is_map(last.output):
        if sum(call.module is last.module for call in calls) > 1:
            return f"its last layer that sees a map, {last.name}, is called more than once"
        classifier = _classifier_before(calls, seeing[-1])
        cut = last if classifier is None else classifier
        return Cut(cut.inputs.shape[1], _Until(cut.name, True, False))
    if len(calls) == seeing[-1] + 1 or not isinstance(last.output, Tensor):
        return f"nothing follows {last.name}, its last layer that sees a map"
    seen = calls[seeing[-1] + 1].inputs.flatten(1)
    for relu in (False, True):
        maps = F.relu(last.output) if relu else last.output
        if _same(maps.mean((2, 3)), seen):
            return Cut(maps.shape[1], _Until(last.name, False, relu))
        if _same(maps.flatten(1), seen):
            # An average to 7x7, as VGG has it, is part of what a head replaces.
            before = isinstance(last.module, nn.AdaptiveAvgPool2d)
            return Cut(maps.shape[1], _Until(last.name, before, relu and not before))
    return f"what follows {last.name}, its last layer that sees a map, is neither its mean nor all of it"


def _calls_or_none(net: nn.Module, image: tuple[int, int, int]) -> list[_Call] | None:
    """None where the net does not take such images."""
    try:
        return _calls(net, image)
    except (ValueError, RuntimeError, IndexError, AssertionError):
        return None


def _shrinks_to_a_pixel(calls: list[_Call]) -> bool:
    """Whether the last layer that sees a map gives one pixel since little was left for it, and not as a global pool: a
    convolution that shrinks the map, or a pool of windows."""
    seeing = [call for call in calls if _is_map(call.inputs)]
    local = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    return bool(seeing) and isinstance(seeing[-1].module, local) and not _is_map(seeing[-1].output)


def _classifier_before(calls: list[_Call], pool: int) -> _Call | None:
    """The 1x1 convolution that makes a map of each class, of a net whose global pool comes last, as SqueezeNet's; None
    where weights follow the pool."""
    if any(list(call.module.parameters()) for call in calls[pool + 1 :]):
        return None
    weighted = [call for call in calls[: pool + 1] if list(call.module.parameters())]
    last = weighted[-1] if weighted else None
    if last is None or not isinstance(last.module, nn.Conv2d) or last.module.kernel_size != (1, 1):
        return None
    return last if sum(call.module is last.module for call in calls) == 1 else None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-5)


def _calls(net: nn.Module, image: tuple[int, int, int]) -> list[_Call]:
    found: list[_Call] = []

    def noting(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if args and isinstance(args[0], Tensor):
                found.append(_Call(name, module, args[0], output))

        return hook

    handles = [
        module.register_forward_hook(noting(name))
        for name, module in net.named_modules()
        if name and not list(module.children())
    ]
    try:
        generator = torch.Generator().manual_seed(0)
        net(torch.randn(2, *image, generator=generator))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _is_map(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4 and x.shape[2] * x.shape[3] > 1
