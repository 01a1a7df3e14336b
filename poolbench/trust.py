"""Which code a config may name when it is somebody else's: building it imports and calls every ``_target_``."""

import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from poolbench.data import DATA
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS

# Builders without a table: what conf/ names beside the components of the tables; a test keeps this complete.
_BUILDERS = {
    "poolbench.models.sites.native",
    *(f"poolbench.training.optimizers.{name}" for name in ("sgd", "adamw", "muon")),
    *(f"poolbench.training.schedules.{name}" for name in ("cosine", "linear", "step")),
}
# Every dotted path of a text that names code at all: of one that has several values, of each of them.
_NAMED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_LAYERS = re.compile(r"(torch\.nn|torchvision\.ops)\.[A-Z][A-Za-z0-9]*")


def check_trust(config: Any, trust: bool | Iterable[str] = (), known: Container[str] = ()) -> None:
    """See that ``config`` names no code but what is known to do nothing else than to build a part of a training.

    That is every pool, head, model, data set, optimiser and schedule of ours, and the layers (subclasses of ``Module``)
    of ``torch.nn`` and ``torchvision.ops``. Not all of those three packages: ``torch.hub.load``, ``torch.load`` or the
    helpers of ``poolbench.training.process`` would run or read what a record tells them to. Every ``_target_``
    anywhere in the config counts, whether or not this version would look at it.

    Args:
        config: plain data.
        trust: packages or modules whose code may be named as well, ``["mypkg"]``; True for any code at all.
        known: ``_target_``s that the user named, see :func:`own_targets`.
    Raises: ValueError naming the option and its target, before anything is imported.
    """
    if trust is True:
        return
    packages = (trust,) if isinstance(trust, str) else tuple(trust or ())
    for package in packages:
        if not isinstance(package, str) or re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package) is None:
            raise ValueError(f"trust names packages such as 'mypkg', got {package!r}")
    for option, target in _targets(config):
        if not isinstance(target, str):
            raise ValueError(f"{option} must be a dotted path, got {str(target)[:80]!r}")
        trusted = target in known or any(target.startswith(f"{package}.") for package in packages)
        if not (trusted or _ours(target) or _layer(target)):
            package = target.partition(".")[0]
            raise ValueError(
                f"{option} is {target[:200]!r}, which this would import and call; it is no component of poolbench and "
                f"no layer of torch.nn. If you trust it, name its package: {package[:80]!r}"
            )


def own_targets(overrides: Iterable[str], folders: Iterable[Path]) -> frozenset[str]:
    """The code that the user named: on the command line, in configs that they wrote, and by installing a package.

    Args:
        overrides: of the command line.
        folders: of configs, as ``--config-dir`` names them; what lies in ``experiments/`` is data, and none of them.
    """
    texts = [*overrides, *(path.read_text("utf-8", "replace") for one in folders for path in one.rglob("*.yaml"))]
    found = {target for text in texts if "_target_" in text for target in _NAMED.findall(text)}
    for registry in (POOLS, HEADS, MODELS, DATA):
        found |= {place.replace(":", ".") for place in registry.locations().values()}
    return frozenset(found)


def _targets(config: Any, option: str = "") -> list[tuple[str, Any]]:
    """Each ``_target_`` of nested data, with the dotted option that it is."""
    if isinstance(config, Mapping):
        items = [(str(key), part) for key, part in config.items()]
    elif isinstance(config, list):
        items = [(str(index), part) for index, part in enumerate(config)]
    else:
        return []
    found = []
    for key, part in items:
        name = f"{option}.{key}" if option else key
        found += [(name, part)] if key == "_target_" else _targets(part, name)
    return found


def _ours(target: str) -> bool:
    if target in _BUILDERS:
        return True
    for registry in (POOLS, HEADS, MODELS, DATA):
        for place in registry.table.values():
            module, _, name = place.partition(":")
            # By its own module, or by the package that offers them all.
            if target in (f"{module}.{name}", f"{module.rpartition('.')[0]}.{name}"):
                return True
    return False


def _layer(target: str) -> bool:
    if _LAYERS.fullmatch(target) is None:
        return False
    from importlib import import_module

    from torch.nn import Module

    package, _, name = target.rpartition(".")
    found = getattr(import_module(package), name, None)
    return isinstance(found, type) and issubclass(found, Module)
