"""The models: trunks with a pool at every site and a head on top, one family a file, and the table of their names."""

from typing import Any

from poolbench.registry import Registry

MODELS = Registry(
    kind="model",
    group="poolbench.models",
    table={
        "convnet": "poolbench.models.convnet:ConvNet",
        "resnet": "poolbench.models.resnet:ResNet",
        "lenet": "poolbench.models.lenet:LeNet",
        "cuda_convnet": "poolbench.models.cuda_convnet:CudaConvNet",
        "nin": "poolbench.models.nin:NiN",
        "vgg": "poolbench.models.vgg:VGG",
        "all_cnn": "poolbench.models.all_cnn:AllCNN",
        "fractional_net": "poolbench.models.fractional_net:FractionalNet",
        "capsnet": "poolbench.models.capsnet:CapsNet",
        "fast_cnn": "poolbench.models.fast_cnn:FastCNN",
        "spp_net": "poolbench.models.spp_net:SppNet",
        "separable_net": "poolbench.models.separable_net:SeparableNet",
        "patch_net": "poolbench.models.patch_net:PatchNet",
        "torchvision": "poolbench.models.torchvision:Torchvision",
    },
)


def create_model(
    name: str,
    /,  # a model may have an option that is called name
    pool: Any = "native",
    head: Any = "native",
    num_classes: int = 10,
    input_size: tuple[int, int] = (32, 32),
    seed: int = 0,
    **options: Any,
) -> Any:
    """Build the model called ``name``.

    Args:
        name: a name that :func:`list_models` lists, or a class, or its dotted path.
        pool: what stands at every site: a name, or a function that is called as ``pool(channels=C)``; or a list of
            them, one per site; ``native`` is what the model's paper put there.
        head: a name, or a function that is called as ``head(channels=C, num_classes=K, size=(H, W))``; ``native`` is
            the model's own.
        num_classes: number of classes ``K``.
        input_size: ``(H, W)`` of the images in pixels, with which sizes are checked site by site.
        seed: seed of the initial weights: layers of one name have the same in every model that shares them.
        options: the model's own, as ``widths=(32, 64, 128)``.
    Returns: ``nn.Module`` mapping images ``(N, 3, H, W)`` to logits ``(N, K)``.
    Raises: ValueError for an unknown name or option, and for a map that shrinks to nothing, naming the site.
    """
    from poolbench.models.sites import Heads, Sites, build
    from poolbench.models.torchvision_names import meant

    known = not isinstance(name, str) or name in MODELS.table or "." in name or name in MODELS.locations()
    if not known and (net := meant(name)):
        raise ValueError(f"unknown model {name!r}. Did you mean create_model('torchvision', name={net!r})?")
    return build(MODELS.find(name), Sites(pool, seed), Heads(head), num_classes, input_size, seed, options)


def list_models() -> list[str]:
    """Names that :func:`create_model` and ``model=`` take."""
    return MODELS.names()


def __getattr__(name: str) -> Any:
    return MODELS.attribute(__name__, name)
