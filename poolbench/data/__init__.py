"""The data sets: where images come from and how they become batches, one file a source, and the table of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from poolbench.registry import Registry

if TYPE_CHECKING:
    from poolbench.data.base import DataSource

DATA = Registry(
    kind="data",
    group="poolbench.data",
    table={
        "cifar10": "poolbench.data.cifar:CIFAR10",
        "cifar100": "poolbench.data.cifar:CIFAR100",
        "mnist": "poolbench.data.mnist:MNIST",
        "fashion_mnist": "poolbench.data.mnist:FashionMNIST",
        "shapes": "poolbench.data.shapes:Shapes",
        "torchvision": "poolbench.data.torchvision:Torchvision",
        "image_folder": "poolbench.data.image_folder:ImageFolder",
    },
)


def create_data(name: Any, /, **options: Any) -> DataSource:
    """Build the data source called ``name``: a name that :func:`list_data` lists, a class, or its dotted path.

    Raises: ValueError for an unknown name or option (with the nearest matches), or a wrong value.
    """
    return DATA.create(name, **options)


def list_data() -> list[str]:
    """Names that :func:`create_data` and ``data=`` take. ``DATA.describe(name)`` has the first line about each."""
    return DATA.names()


def __getattr__(name: str) -> Any:
    return DATA.attribute(__name__, name)
