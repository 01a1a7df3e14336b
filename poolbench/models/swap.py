"""Another pool in a network that exists already, at every place where it makes its maps smaller."""

import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.messages import counted
from poolbench.models.sites import Sites, derive, initialise, made_for, moved, tie
from poolbench.models.survey import Place, image_size, survey, window_of
from poolbench.models.swapped import SwappedPool2d, pooled_kind
from poolbench.registry import nearest

KINDS = ("maxpool", "avgpool", "blurpool", "strided", "patchify")

SiteChoice = str | Sequence[str] | Callable[[str, nn.Module | None], bool]


def swap(
    model: nn.Module,
    pool: Any,
    sites: SiteChoice = "all",
    input_size: Sequence[int] | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Put ``pool`` wherever ``model`` makes its maps smaller, in place, every map as large as before.

    A pooling module becomes ``pool``. A convolution with a stride keeps its weights and their names, steps by one pixel
    and is followed by ``pool``, which costs that layer ``stride**2`` times as much. Where a site's stride is a power of
    the pool's ratio, as many pools stand in a row (two of ratio 2 for a stride of 4, two of ratio sqrt 2 for 2); at
    other strides the site is left as it is. A map is extended by its last row and column, or cropped, where the
    original's size asks for it, at any image size. Each site has a pool of its own: in the two branches of a residual
    block pools that choose or draw what they keep do so apart.

    Args:
        model: any module that maps images ``(N, C, H, W)``, as ``torchvision.models.resnet50(weights=...)`` or
            ``timm.create_model(...)``; not compiled yet.
        pool: a name that :func:`poolbench.list_pools` lists, or a class or function, called as ``pool(channels=C)``;
            or a list of them, one per site in the order of the forward pass.
        sites: ``"maxpool"``, ``"avgpool"``, ``"blurpool"`` (of timm and antialiased-cnns), ``"strided"`` for
            convolutions, ``"all"`` for these four; ``"patchify"`` for convolutions of stride 3 and more whose windows
            do not overlap, as the stem of a ConvNeXt; names of modules or of what holds them (``"layer2"``); several
            in one text with commas or bars, or as a list; or a function called as ``sites(name, module)``.
        input_size: ``(H, W)`` or ``(C, H, W)`` of an image with which the sites are found; a timm model's own, else
            224x224.
        seed: seed of the new pools' weights.
        options: the pool's own, as ``kernel_size=3``.
    Returns: ``model``. Its ``swap_report`` lists every site, with the reason where it was left as it is; print it.
    Raises: ValueError for a pool or an option that is unknown, sites that are not there, a pool that cannot serve a
        site; the model is then as it was.

    The new pools carry ``is_pooling_site = True``, and stand on the model's device in its precision.
    """
    chosen = Sites(pool, seed)
    if options:
        chosen.makers = [None if maker is None else partial(maker, **options) for maker in chosen.makers]
    report = replace(model, chosen, sites, input_size)
    tie(model)
    if not report.replaced:
        warnings.warn(f"poolbench.swap replaced nothing in {type(model).__name__}:\n{report}", stacklevel=2)
    return model


@dataclass(frozen=True)
class SwapEntry:
    """What became of one site.

    Args:
        name: of the module in the model; for a function, of the module that calls it.
        kind: ``maxpool``, ``avgpool``, ``blurpool``, ``strided`` or ``patchify``.
        action: ``replaced`` or ``skipped``.
        reason: why it was skipped, else empty.
        channels: of the map that the pool sees.
        input_size, output_size: ``(H, W)`` of the site's map before and after, for the image that found it.
    """

    name: str
    kind: str
    action: str
    reason: str = ""
    channels: int | None = None
    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None


class SwapReport(tuple[SwapEntry, ...]):
    """The sites in the order of the forward pass; ``print`` shows them as a table."""

    __slots__ = ()

    @property
    def replaced(self) -> list[SwapEntry]:
        return [entry for entry in self if entry.action == "replaced"]

    @property
    def skipped(self) -> list[SwapEntry]:
        return [entry for entry in self if entry.action == "skipped"]

    def __str__(self) -> str:
        rows = [("site", "kind", "action", "channels", "map", "reason")]
        for entry in self:
            sizes = [f"{size[0]}x{size[1]}" for size in (entry.input_size, entry.output_size) if size]
            rows.append(
                (
                    entry.name or "(the model)",
                    entry.kind,
                    entry.action,
                    str(entry.channels or ""),
                    " -> ".join(sizes),
                    entry.reason,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, f"{len(self.replaced)} replaced, {len(self.skipped)} skipped"])

    __repr__ = __str__


def replace(
    model: nn.Module,
    pool: Sites,
    sites: SiteChoice = "all",
    input_size: Sequence[int] | None = None,
    strict: bool = False,
    min_channels: int | None = None,
) -> SwapReport:
    """What :func:`swap` does, with pools from ``pool``; ``native`` leaves a site as it is.

    Args:
        strict: for a model of ours: a ratio that does not fit a site is an error, where it is skipped otherwise, and
            pools are not tried out, since whoever builds the model does so.
        min_channels: sites whose map has fewer channels are left as they are.
    Returns: what became of each site, also kept as ``model.swap_report``.
    Raises: ValueError, see :func:`swap`.
    """
    places = survey(model, image_size(model, input_size))
    wanted = _chosen(model, places, sites)
    reasons = [
        _obstacle(place, place.kind == "patchify" and not asked) or _too_thin(place, min_channels)
        for place, asked in wanted
    ]
    free = sum(not reason for reason in reasons)
    if pool.per_site and len(pool.makers) < free:
        raise ValueError(
            f"pool: a list of {counted(len(pool.makers), 'pool')}, but the model has {counted(free, 'site')} for it"
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    entries, pools = [], []
    for (place, _), reason in zip(wanted, reasons, strict=True):
        new = None
        if not reason:
            with made_for(like.device):
                new, reason = _pools_for(place, pool, strict)
        if new is not None:
            pools.append((place, moved(new, like.device, like.dtype)))
        entries.append(_entry(place, reason))
    if pool.per_site:
        pool.finish()
    _install(model, pools, None if strict else like)
    model.swap_report = SwapReport(entries)
    return model.swap_report


def _chosen(model: nn.Module, places: list[Place], sites: SiteChoice) -> list[tuple[Place, bool]]:
    """The places that ``sites`` names, and whether it names them each or by their own kind."""
    if callable(sites):
        return [(place, True) for place in places if sites(place.name, place.module)]
    words = re.split(r"[,|]", sites) if isinstance(sites, str) else sites
    if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(
            f"sites must be {', '.join(KINDS)}, all, names of modules, or a function called with name and module, "
            f"got {sites!r}"
        )
    found: dict[int, bool] = {}
    names = [name for name, _ in model.named_modules() if name]
    for word in (word.strip() for word in words):
        if word in ("all", *KINDS):
            chosen = [n for n, place in enumerate(places) if word in ("all", place.kind)]
        elif word in names:
            chosen = [n for n, place in enumerate(places) if f"{place.name}.".startswith(f"{word}.")]
            if not chosen:
                raise ValueError(f"sites: nothing in module {word!r} makes a map smaller")
        else:
            raise ValueError(
                f"sites: {word!r} is neither {', '.join(KINDS)} or all nor a module of the model."
                f"{nearest(word, [*KINDS, 'all', *names])}"
            )
        for n in chosen:
            found[n] = found.get(n, False) or word in (places[n].kind, places[n].name)
    return [(places[n], found[n]) for n in sorted(found)]


def _obstacle(place: Place, unasked: bool) -> str:
    """Why ``place`` is left as it is; empty if it is not."""
    module, shapes = place.module, place.inputs
    if module is None:
        return f"{place.function} called as a function: only modules can be replaced"
    if not place.name:
        return "it is the model itself"
    if not shapes:
        return "not reached in evaluation"
    if any(len(shape) != 4 for shape in shapes):
        return "its input is no map (N, C, H, W)"
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        return "adaptive: it has no stride"
    if isinstance(module, nn.FractionalMaxPool2d):
        return "its windows are random"
    if getattr(module, "return_indices", False):
        return "it returns indices too"
    if len({shape[1] for shape in shapes}) > 1:
        counts = ", ".join(str(shape[1]) for shape in shapes)
        return f"called with maps of {counts} channels: give each place a module of its own"
    window = window_of(module)
    if max(window.stride) == 1:
        return "stride 1"
    if window.stride[0] != window.stride[1]:
        return f"uneven stride {window.stride[0]}x{window.stride[1]}"
    if place.kind == "patchify":
        return "cuts the image into patches: name it, or patchify, in sites" if unasked else _follows_stride(place)
    if place.kind == "strided":
        return _follows_stride(place)
    if any(window.output_size(before[-2:]) != after[-2:] for before, after in zip(shapes, place.outputs, strict=True)):
        return "its size does not follow from its window"
    if min(window.kernel) >= 4 and all(tuple(shape[-2:]) == window.kernel for shape in shapes):
        return "global: one window covers the whole map"
    return ""


def _too_thin(place: Place, least: int | None) -> str:
    channels = place.outputs[0][1]
    return f"{channels} channels, fewer than {least}" if least is not None and channels < least else ""


def _follows_stride(place: Place) -> str:
    """Of a convolution of a class that is not torch's own, whether it is the plain one but for its weights."""
    conv = place.module
    if type(conv).forward is nn.Conv2d.forward or hasattr(conv, "swapped_window"):
        return ""
    stride = conv.stride
    conv.stride = (1, 1)
    try:
        with torch.no_grad():
            size = conv(torch.zeros(place.inputs[0], device=conv.weight.device, dtype=conv.weight.dtype)).shape[-2:]
    finally:
        conv.stride = stride
    expected = tuple(-(-side // step) for side, step in zip(size, stride, strict=True))
    return "" if expected == place.outputs[0][-2:] else f"{type(conv).__name__} does more than its stride says"


def _pools_for(place: Place, pool: Sites, strict: bool) -> tuple[nn.Module | None, str]:
    """What stands at ``place``, initialised, or why nothing new does."""
    channels, stride = place.outputs[0][1], window_of(place.module).stride[0]
    if pool.native:
        pool.count += 1
        return None, "native: left as it is"
    one = pool(channels)
    ratio = pool.ratio
    steps = max(1, round(math.log(stride) / math.log(ratio))) if ratio > 1 else 1
    if abs(ratio**steps / stride - 1) > 0.1:
        reason = f"the pool's ratio is {ratio:g}, this site's stride {stride}"
        if strict:
            raise ValueError(f"pool: {reason} (site {place.name})")
        return None, reason
    pools = [one, *(pool(channels) for _ in range(steps - 1))]
    new = nn.Sequential(OrderedDict((f"pool{n}", each) for n, each in enumerate(pools, 1))) if steps > 1 else one
    initialise(new, derive(pool.seed, f"{place.name}.pool"))
    return new, ""


def _entry(place: Place, reason: str) -> SwapEntry:
    before = place.inputs[0] if place.inputs and len(place.inputs[0]) == 4 else None
    after = place.outputs[0] if place.outputs and len(place.outputs[0]) == 4 else None
    return SwapEntry(
        place.name,
        place.kind,
        "skipped" if reason else "replaced",
        reason,
        after[1] if after else None,
        before[-2:] if before else None,
        after[-2:] if after else None,
    )


def _install(model: nn.Module, pools: list[tuple[Place, nn.Module]], like: Tensor | None) -> None:
    """Put the pools where they belong and try each on a map of zeros, of the kind of ``like``; if one cannot serve, all
    is as it was."""
    undo: list[Callable[[], None]] = []
    try:
        for place, pool in pools:
            site = _put(model, place, pool.train(place.module.training), undo)
            if like is not None:
                _try(site, place, like)
    except BaseException:
        for back in reversed(undo):
            back()
        raise
    # A pool may keep its output for the gradient, as none of what stood there does: nothing may write over it.
    for module in model.modules() if pools else ():
        if getattr(module, "inplace", False) is True:
            module.inplace = False


def _put(model: nn.Module, place: Place, pool: nn.Module, undo: list[Callable[[], None]]) -> nn.Module:
    module = place.module
    if hasattr(module, "swapped_window"):  # swapped before: only the pool changes
        undo.append(partial(setattr, module, "pool", module.pool))
        module.pool = pool
        return module
    if isinstance(module, nn.Conv2d):
        kind, stride, window = type(module), module.stride, window_of(module)

        def back() -> None:
            module.__class__, module.stride = kind, stride
            del module.pool, module.swapped_window, module.swapped_kind

        module.__class__, module.stride = pooled_kind(kind), (1, 1)
        module.pool, module.swapped_window, module.swapped_kind = pool, window, place.kind
        undo.append(back)
        return module
    site = SwappedPool2d(pool, window_of(module), place.kind).train(module.training)
    exchange(model, module, site)
    undo.append(partial(exchange, model, site, module))
    return site


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands in ``model``."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _try(site: nn.Module, place: Place, like: Tensor) -> None:
    modes = [(module, module.training) for module in site.modules()]
    site.eval()
    try:
        with torch.no_grad(), accelerator.undrawn(like.device):
            map = torch.zeros(2, *place.inputs[0][1:], device=like.device, dtype=like.dtype)
            shape = tuple(site(map).shape[1:])
    except (ValueError, RuntimeError, IndexError, AttributeError) as error:
        size = "x".join(str(side) for side in place.inputs[0][-2:])
        raise ValueError(f"site {place.name} (map of {size}): {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    if shape != place.outputs[0][1:]:
        raise ValueError(
            f"site {place.name}: the pool gave {shape}, not {place.outputs[0][1:]}; it must keep the number of channels"
        )
