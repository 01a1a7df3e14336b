"""Weights from a file, into a net that is built already."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.contents import content_of

_WRAPPED = ("state_dict", "model", "model_state_dict", "net")  # under which trainers keep the weights in what they save
_MOST = 3  # names in a message


def load_weights(net: nn.Module, file: Path, content: str | None = None) -> None:
    """Fill ``net`` with the state dict in ``file``: as ``torch.save`` wrote it, or of safetensors.

    What wraps it (``state_dict``, ``model``, a ``module.`` before each name) is taken off. The last layer may be of
    another number of classes: it is left as it is.

    Args:
        content: ten digits that the file must have, see :func:`poolbench.contents.content_of`.
    Raises: ValueError for a file that is missing, another one than it was, no state dict, or does not fit.
    """
    what = f"model custom: load_weights={str(file)!r}"
    if not file.is_file():
        raise ValueError(f"{what}: there is no such file")
    if content is not None and content_of(file) != content:
        raise ValueError(f"{what}: its content is not what it was when the cell was named; name another file")
    given = _unwrapped(_read(file, what))
    if not given:
        raise ValueError(f"{what}: it holds no state dict, names with tensors")
    own = net.state_dict()
    missing = sorted(own.keys() - given.keys())
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unknown = sorted(given.keys() - own.keys())
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] if missing else []
        parts += [f"has {_some(unknown)}, which the net has not"] if unknown else []
        raise ValueError(f"{what} does not fit {type(net).__name__}: it {' and '.join(parts)}")
    other = [name for name in given if given[name].shape != own[name].shape]
    # Of a classifier for other classes: weight and bias of one layer, which differ in their first dimension alone.
    layers = {name.rpartition(".")[0] for name in other}
    fits = len(layers) <= 1 and all(given[name].shape[1:] == own[name].shape[1:] for name in other)
    if not fits:
        sizes = ", ".join(f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}" for name in other[:_MOST])
        raise ValueError(f"{what} does not fit {type(net).__name__}: {sizes}")
    net.load_state_dict({name: value for name, value in given.items() if name not in other}, strict=False)


def _read(file: Path, what: str) -> Any:
    if file.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise ValueError(f"{what}: reading it takes the package safetensors") from error
        try:
            return load_file(file)
        except Exception as error:  # its own class, which no release promises
            raise ValueError(f"{what}: it cannot be read: {error}") from error
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickles break in many ways
        first = str(error).partition("\n")[0]
        raise ValueError(f"{what}: it cannot be read as tensors alone: {first}") from error


def _unwrapped(found: Any) -> dict[str, Tensor]:
    while isinstance(found, Mapping) and (key := next((key for key in _WRAPPED if key in found), None)):
        found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        return {}
    prefix = "module." if found and all(name.startswith("module.") for name in found) else ""
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{', '.join(names[:_MOST])}{more}"
