"""Dotted names of options: ``{"trainer": {"epochs": 3}}`` says ``trainer.epochs`` is 3."""

from collections.abc import Mapping
from typing import Any


def flatten(value: Any, prefix: str = "", lists: bool = True) -> dict[str, Any]:
    """Dotted name -> value of nested mappings. A mapping within that holds nothing is a value.

    Args:
        value: the mapping.
        prefix: what all names begin with.
        lists: open the lists that hold mappings too, as of a pool for each site; else every list is a value.
    """
    if isinstance(value, Mapping) and (value or not prefix):
        items = [(str(key), part) for key, part in value.items()]
    elif lists and isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        items = [(str(index), part) for index, part in enumerate(value)]
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, part in items:
        found |= flatten(part, f"{prefix}.{key}" if prefix else key, lists)
    return found
