"""Arrays kept on disk between runs: .npy files that many processes map into memory at once.

The folder is $POOLBENCH_CACHE, else `poolbench` in the user's cache folder. Deleting it is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

INDEX = "index.json"  # {file name: size in bytes}; what it does not describe is a broken entry
ABANDONED_AFTER = 24 * 3600.0  # seconds; a temporary folder older than this belongs to a process that was killed

_warned: set[str] = set()


def cache_folder() -> Path:
    """Where arrays are kept; need not exist yet."""
    if chosen := os.environ.get("POOLBENCH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "poolbench"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "poolbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poolbench"


def cache_key(*parts: object) -> str:
    """16 hex digits that stand for `parts`, which must print the same whenever they mean the same."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def cached_arrays(name: str, key: str, build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of entry `name`-`key`, memory-mapped; built and kept first if the entry is absent or broken.

    Two processes may do this at once: each builds in a folder of its own and the first to finish is kept. Where the
    cache cannot be written the arrays are built and returned from memory, with one warning.
    """
    entry = cache_folder() / f"{name}-{key}"
    arrays = _read(entry)
    if arrays is not None:
        return arrays
    arrays = build()
    try:
        _write(entry, arrays)
    except OSError as error:
        if str(entry.parent) not in _warned:
            _warned.add(str(entry.parent))
            warnings.warn(
                f"the cache {entry.parent} cannot be written ({error}), so data is prepared anew by every process; "
                "set POOLBENCH_CACHE to a folder that can be written",
                stacklevel=2,
            )
        return arrays
    return _read(entry) or arrays


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder in `parent` (made if needed), removed at the end together with what killed processes left there.

    It lies on the same file system as its final place, so that what is made in it appears there whole by one rename.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f".{name}.*.tmp"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(source: Path, target: Path) -> bool:
    """Rename folder `source` to `target`; False if another process was first and `target` holds something already."""
    try:
        os.rename(source, target)
    except OSError:
        if target.is_dir() and any(target.iterdir()):
            return False
        raise
    return True


def _read(entry: Path) -> dict[str, np.ndarray] | None:
    """Map the arrays of `entry`; None if it is absent or not whole."""
    try:
        sizes = json.loads((entry / INDEX).read_text())
        if any((entry / file).stat().st_size != size for file, size in sizes.items()):
            return None
        # Mode "c" (copy on write) because torch warns about arrays that are marked read-only; pages are shared as long
        # as nobody writes to them, and the file never changes.
        return {Path(file).stem: np.load(entry / file, mmap_mode="c", allow_pickle=False) for file in sizes}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _write(entry: Path, arrays: dict[str, np.ndarray]) -> None:
    with temporary_folder(entry.parent, entry.name) as folder:
        new = folder / "entry"
        new.mkdir()
        for name, array in arrays.items():
            with open(new / f"{name}.npy", "wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
        sizes = {file.name: file.stat().st_size for file in sorted(new.iterdir())}
        (new / INDEX).write_text(json.dumps(sizes))
        if not move_into_place(new, entry) and _read(entry) is None:
            with suppress(FileNotFoundError):  # another process may have moved the broken entry away first
                os.rename(entry, folder / "broken")
            move_into_place(new, entry)
