"""The pools: local operators ``(N, C, H, W) -> (N, C, H', W')``, one file each, and the table of their names."""

from typing import Any

from poolbench.registry import Registry

POOLS = Registry(
    kind="pool",
    group="poolbench.pools",
    table={
        "max": "poolbench.pooling.max:MaxPool2d",
        "average": "poolbench.pooling.average:AveragePool2d",
        "lp": "poolbench.pooling.lp:LpPool2d",
        "overlapping": "poolbench.pooling.overlapping:OverlappingPool2d",
        "strided_conv": "poolbench.pooling.strided_conv:StridedConv2d",
        "subsample": "poolbench.pooling.subsample:Subsample2d",
    },
)


def create_pool(name: str, channels: int, **options: Any) -> Any:
    """Build the pool called ``name`` for maps of ``channels`` channels.

    Args:
        name: a name that :func:`list_pools` lists, or a class, or its dotted path (``"mypkg.MyPool"``) for a pool of
            your own; ``name="custom"`` takes that path as ``_target_``.
        channels: number of channels ``C`` of the maps that it will see.
        options: the operator's own options; its docstring and ``conf/pool/<name>.yaml`` list them.
    Returns: ``nn.Module`` mapping ``(N, C, H, W)`` to ``(N, C, H', W')``.
    Raises: ValueError for an unknown name or option (with the nearest matches) or an impossible value.
    """
    return POOLS.create(name, channels=channels, **options)


def list_pools() -> list[str]:
    """Names that :func:`create_pool` and ``pool=`` take; installed packages add theirs by the entry point group
    ``poolbench.pools``."""
    return POOLS.names()


def __getattr__(name: str) -> Any:
    # Resolved at first use: naming the pools, as every command does, must not cost the import of torch.
    return POOLS.attribute(__name__, name)
