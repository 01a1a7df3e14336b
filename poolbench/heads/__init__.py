"""The heads: from the last map to the logits, ``(N, C, H, W) -> (N, K)``, one file each, and the table of names."""

from typing import Any

from poolbench.registry import Registry

HEADS = Registry(
    kind="head",
    group="poolbench.heads",
    table={
        "global_average": "poolbench.heads.global_average:GlobalAverage",
        "global_max": "poolbench.heads.global_max:GlobalMax",
        "average_max": "poolbench.heads.average_max:AverageMax",
        "lp": "poolbench.heads.lp:GlobalLp",
        "gem": "poolbench.heads.gem:GeM",
        "log_sum_exp": "poolbench.heads.log_sum_exp:LogSumExp",
        "spp": "poolbench.heads.spp:SpatialPyramid",
        "mop": "poolbench.heads.mop:Mop",
        "netvlad": "poolbench.heads.netvlad:NetVlad",
        "capsule": "poolbench.heads.capsule:Capsule",
        "attention": "poolbench.heads.attention:Attention",
        "sim_pool": "poolbench.heads.sim_pool:SimPool",
        "clip_attention": "poolbench.heads.clip_attention:ClipAttention",
        "attention_latent": "poolbench.heads.attention_latent:AttentionLatent",
        "efficient_probe": "poolbench.heads.efficient_probe:EfficientProbe",
        "bilinear": "poolbench.heads.bilinear:Bilinear",
        "flatten": "poolbench.heads.flatten:Flatten",
    },
)


def create_head(name: str, channels: int, num_classes: int, size: tuple[int, int] | None = None, **options: Any) -> Any:
    """Build the head called ``name`` for maps of ``channels`` channels and ``num_classes`` classes.

    Args:
        name: a name that :func:`list_heads` lists, or a class, or its dotted path.
        channels: channels ``C`` of the last map.
        num_classes: number of classes ``K``.
        size: ``(H, W)`` of the last map, in pixels; only heads tied to one size need it.
        options: the head's own, as ``hidden=(256,)`` for hidden fully connected layers.
    Returns: ``nn.Module`` mapping ``(N, C, H, W)`` to logits ``(N, K)``.
    Raises: ValueError for an unknown name or option (with the nearest matches), or a head that needs ``size``.
    """
    return HEADS.create(name, channels=channels, num_classes=num_classes, size=size, **options)


def list_heads() -> list[str]:
    """Names that :func:`create_head` and ``head=`` take."""
    return HEADS.names()


def __getattr__(name: str) -> Any:
    return HEADS.attribute(__name__, name)
