"""Whose code and which weights: the version of what is installed, the content of files."""

import hashlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

_MOST_FILES = 500
_INSTALLED = ("site-packages", "dist-packages")


def content_of(file: str | Path) -> str:
    """Ten hexadecimal digits that change with any byte of ``file``."""
    digest = hashlib.blake2b(digest_size=5)
    with open(file, "rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def installed_version(target: str) -> str | None:
    """``timm 1.0.31`` for the dotted path of what an installed package holds; None for code in a folder of its own."""
    found = origin(target.partition(".")[0])
    if found["content"] is not None or found["distribution"] is None:
        return None
    return f"{found['distribution']} {found['version']}"


def origin(package: str) -> dict[str, str | None]:
    """``distribution``, ``version`` and ``content`` of ``package``, see :func:`poolbench.records.origins.origins`."""
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
