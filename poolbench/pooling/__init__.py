"""The pools: local operators ``(N, C, H, W) -> (N, C, H', W')``, one file each, and the table of their names."""

from functools import partial
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
        "subsample": "poolbench.pooling.subsample:Subsample2d",
        "strided_conv": "poolbench.pooling.strided_conv:StridedConv2d",
        "median": "poolbench.pooling.median:MedianPool2d",
        "power_mean": "poolbench.pooling.power_mean:PowerMeanPool2d",
        "log_sum_exp": "poolbench.pooling.log_sum_exp:LogSumExpPool2d",
        "stochastic": "poolbench.pooling.stochastic:StochasticPool2d",
        "gaussian_stochastic": "poolbench.pooling.gaussian_stochastic:GaussianStochasticPool2d",
        "fractional_max": "poolbench.pooling.fractional_max:FractionalMaxPool2d",
        "s3": "poolbench.pooling.s3:S3Pool2d",
        "balanced_stride": "poolbench.pooling.balanced_stride:BalancedStridePool2d",
        "rank": "poolbench.pooling.rank:RankPool2d",
        "mixed": "poolbench.pooling.mixed:MixedPool2d",
        "gated": "poolbench.pooling.gated:GatedPool2d",
        "tree": "poolbench.pooling.tree:TreePool2d",
        "leap": "poolbench.pooling.leap:LeapPool2d",
        "ordinal": "poolbench.pooling.ordinal:OrdinalPool2d",
        "attention": "poolbench.pooling.attention:AttentionPool2d",
        "lip": "poolbench.pooling.lip:LipPool2d",
        "soft": "poolbench.pooling.soft:SoftPool2d",
        "global_guided": "poolbench.pooling.global_guided:GlobalGuidedPool2d",
        "ada": "poolbench.pooling.ada:AdaPool2d",
        "dpp": "poolbench.pooling.dpp:DetailPreservingPool2d",
        "gaussian": "poolbench.pooling.gaussian:GaussianPool2d",
        "carafe": "poolbench.pooling.carafe:CarafePool2d",
        "blur_max": "poolbench.pooling.blur_max:BlurMaxPool2d",
        "blur_average": "poolbench.pooling.blur_average:BlurAveragePool2d",
        "blur_conv": "poolbench.pooling.blur_conv:BlurConv2d",
        "l2_hann": "poolbench.pooling.l2_hann:L2HannPool2d",
        "spectral": "poolbench.pooling.spectral:SpectralPool2d",
        "wavelet": "poolbench.pooling.wavelet:WaveletPool2d",
        "lift": "poolbench.pooling.lift:LiftPool2d",
        "polyphase": "poolbench.pooling.polyphase:PolyphasePool2d",
        "lps": "poolbench.pooling.lps:LearnablePolyphasePool2d",
        "tips": "poolbench.pooling.tips:TipsPool2d",
        "diff_stride": "poolbench.pooling.diff_stride:DiffStride2d",
        "fuzzy": "poolbench.pooling.fuzzy:FuzzyPool2d",
        "regularized": "poolbench.pooling.regularized:RegularizedPool2d",
        "space_to_depth": "poolbench.pooling.space_to_depth:SpaceToDepth2d",
        "patch_merge": "poolbench.pooling.patch_merge:PatchMerge2d",
        "convnext_down": "poolbench.pooling.convnext_down:ConvNextDownsample2d",
        "hwd": "poolbench.pooling.hwd:HaarDownsample2d",
        "adown": "poolbench.pooling.adown:ADown2d",
        "max_conv": "poolbench.pooling.max_conv:MaxConv2d",
        "average_conv": "poolbench.pooling.average_conv:AverageConv2d",
        "depthwise_conv": "poolbench.pooling.depthwise_conv:DepthwiseConv2d",
    },
)


def create_pool(name: str, channels: int, **options: Any) -> Any:
    """Build the pool called ``name`` for maps of ``channels`` channels.

    Args:
        name: a name that :func:`list_pools` lists, or a class, or its dotted path (``"mypkg.MyPool"``) for a pool of
            your own; ``name="custom"`` takes that path as ``_target_``.
        channels: number of channels ``C`` of the maps that it will see.
        options: the operator's own options; its docstring and ``conf/pool/<name>.yaml`` list them. Where an operator
            works window by window, ``kernel_size``, ``stride`` and ``padding`` may each be ``(rows, columns)``. On top,
            ``dims=1`` makes it for maps ``(N, C, L)``: what it does to one row, with all its sides along that.
    Returns: ``nn.Module`` mapping ``(N, C, H, W)`` to ``(N, C, H', W')``, with ``dims=1`` ``(N, C, L)`` to
        ``(N, C, L')``.
    Raises: ValueError for an unknown name or option (with the nearest matches) or an impossible value, and for
        ``dims=1`` of an operator that cannot serve it, with the reason.
    """
    create = partial(POOLS.create, name, channels=channels)
    if "dims" not in options:
        return create(**options)
    from poolbench.pooling.parts.one_row import of_dims

    own = name == "custom" and "_target_" in options
    what = f"pool {name!r}" if isinstance(name, str) else f"pool {getattr(name, '__name__', type(name).__name__)!r}"
    return of_dims(POOLS.find(options["_target_"] if own else name), create, options, what)


def list_pools() -> list[str]:
    """Names that :func:`create_pool` and ``pool=`` take; installed packages add theirs by the entry point group
    ``poolbench.pools``."""
    return POOLS.names()


def __getattr__(name: str) -> Any:
    # Resolved at first use: naming the pools, as every command does, must not cost the import of torch.
    return POOLS.attribute(__name__, name)
