"""What an operator says of itself, asked of pools of ours as a config describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poolbench.pooling import POOLS
from poolbench.registry import component

_CHANNELS = 64
_MOST_SITES = 32


@dataclass(frozen=True)
class Facts:
    """Of one pool, or of all that stand in one net.

    Args:
        onnx: ``torch.onnx`` exports it; open_sizes: with a height and width that are left open, too.
        deterministic: it draws at random neither in training nor in evaluation.
        parameters: numbers that are learned, at 64 channels.
        sites: how many can follow each other on the map that was asked about, each on what the one before left.
    """

    onnx: bool
    open_sizes: bool
    deterministic: bool
    parameters: int
    sites: int


def facts(block: Any, side: int) -> Facts | None:
    """What the pool of a config says of itself.

    Args:
        block: ``_target_`` and options, or a list of such, one a site, whose last one stands for all further sites.
        side: of a square map in pixels, that the first site gets.
    Returns: None where it is not known: the pool is none of ours, ``native``, or not built by this version.
    """
    blocks = block if isinstance(block, list) else [block]
    if not blocks or not all(_is_ours(one) for one in blocks):
        return None
    try:
        pools = [component("pool", one)(channels=_CHANNELS) for one in blocks]
    except (TypeError, ValueError):  # options that another version wrote, or that are wrong
        return None
    return Facts(
        onnx=all(pool.onnx for pool in pools),
        open_sizes=all(pool.dynamic_sizes for pool in pools),
        deterministic=not any(pool.random or pool.random_evaluation for pool in pools),
        parameters=sum(p.numel() for pool in pools for p in pool.parameters()),
        sites=_sites(pools, side),
    )


def worst(several: list[Facts | None]) -> Facts | None:
    """What holds of all of them; None where it is not known of one."""
    known = [one for one in several if one is not None]
    if not known or len(known) < len(several):
        return None
    return Facts(
        onnx=all(one.onnx for one in known),
        open_sizes=all(one.open_sizes for one in known),
        deterministic=all(one.deterministic for one in known),
        parameters=max(one.parameters for one in known),
        sites=min(one.sites for one in known),
    )


def _is_ours(block: Any) -> bool:
    """Whether it names a class of the table, by its own module or by the package: nothing else of a record is built."""
    target = block.get("_target_") if isinstance(block, Mapping) else None
    places = (place.partition(":") for place in POOLS.table.values())
    return any(target in (f"{module}.{name}", f"poolbench.pooling.{name}") for module, _, name in places)


def _sites(pools: list[Any], side: int) -> int:
    """``output_size`` is what each says of the maps that it takes; the contract holds it to that."""
    size, count = (side, side), 0
    while count < _MOST_SITES:
        try:
            size = pools[min(count, len(pools) - 1)].output_size(size)
        except ValueError:
            return count
        count += 1
    return count  # of stride 1: it never ends
