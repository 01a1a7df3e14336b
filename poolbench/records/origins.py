"""Whose code a cell's components are: the version of what is installed, the content of what is not."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_KNOWN = ("poolbench", "torch", "torchvision")  # their versions are recorded anyway
_MOST_FILES = 500
_INSTALLED = ("site-packages", "dist-packages")


def origins(config: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """Where the components of ``config`` come from that are not ours or torch's, by the package that holds them.

    Returns: package -> ``distribution`` and ``version`` where it was installed, and ``content``, ten digits that change
        with any byte of its Python files, where it lies in a folder of its own. An editable installation is told by
        both where the distribution is called like the package. What a package imports from elsewhere is not looked at.
    """
    packages = sorted({target.partition(".")[0] for target in _targets(config)} - {*_KNOWN, ""})
    return {package: _origin(package) for package in packages}


def content_of(file: str | Path) -> str:
    """Ten hexadecimal digits that change with any byte of ``file``."""
    digest = hashlib.blake2b(digest_size=5)
    with open(file, "rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def installed_version(target: str) -> str | None:
    """``timm 1.0.31`` for the dotted path of what an installed package holds; None for code in a folder of its own."""
    origin = _origin(target.partition(".")[0])
    if origin["content"] is not None or origin["distribution"] is None:
        return None
    return f"{origin['distribution']} {origin['version']}"


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        for part in value.values():
            yield from _targets(part)
    elif isinstance(value, list):
        for part in value:
            yield from _targets(part)


def _origin(package: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {"distribution": None, "version": None, "content": None}
    try:
        files = _files(package)
    except (ImportError, ValueError, OSError):
        files = []
    installed = any(part in _INSTALLED for file in files for part in file.parts)
    # Asking every distribution what it holds takes a quarter of a second of each cell; what lies in a folder of its own
    # is told by its content, and by a distribution of its own name.
    names = packages_distributions().get(package, []) if installed or not files else [package]
    with suppress(PackageNotFoundError):
        found["distribution"], found["version"] = (names[0], version(names[0])) if names else (None, None)
    if not installed:
        with suppress(OSError):
            found["content"] = _content(files)
    return found


def _files(package: str) -> list[Path]:
    """The Python files of ``package``, a module or a folder of them."""
    spec = find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []
    return [file for place in spec.submodule_search_locations for file in sorted(Path(place).rglob("*.py"))]


def _content(files: list[Path]) -> str | None:
    if not 0 < len(files) <= _MOST_FILES:
        return None
    content = hashlib.blake2b(digest_size=5)
    for file in files:
        data = file.read_bytes()
        content.update(f"{file.name} {len(data)}\n".encode())
        content.update(data)
    return content.hexdigest()
