"""Whose code a cell's components are: the version of what is installed, the content of what is not."""

from collections.abc import Iterator, Mapping
from typing import Any

from poolbench.contents import origin

_KNOWN = ("poolbench", "torch", "torchvision")  # their versions are recorded anyway


def origins(config: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """Where the components of ``config`` come from that are not ours or torch's, by the package that holds them.

    Returns: package -> ``distribution`` and ``version`` where it was installed, and ``content``, ten digits that change
        with any byte of its Python files, where it lies in a folder of its own. An editable installation is told by
        both where the distribution is called like the package. What a package imports from elsewhere is not looked at.
    """
    packages = sorted({target.partition(".")[0] for target in _targets(config)} - {*_KNOWN, ""})
    return {package: origin(package) for package in packages}


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        for part in value.values():
            yield from _targets(part)
    elif isinstance(value, list):
        for part in value:
            yield from _targets(part)
