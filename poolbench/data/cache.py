"""Arrays kept on disk between runs: .npy files that many processes map into memory at once.

The folder is $POOLBENCH_CACHE, else `poolbench` in the user's cache folder. Deleting it is always safe.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

INDEX = "index.json"  # {file name: size in bytes}; what it does not describe is a broken entry
ABANDONED_AFTER = 24 * 3600.0  # seconds; a temporary folder older than this belongs to a process that was killed

CHUNK_BYTES = 2**25  # of images that are made, or looked at, at once

_warned: set[str] = set()


@dataclass(frozen=True)
class Streamed:
    """An array that is made chunk by chunk, so that it need not fit into memory: uint8 rows, written as they come.

    Args:
        shape: of the whole, rows first.
        chunks: makes the chunks, each of some rows, from the first row on whenever it is called.
        title: says beside a progress bar what is made.
    """

    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[np.ndarray]]
    title: str

    def rows(self) -> Iterator[np.ndarray]:
        """The chunks, with a bar on a terminal. Raises: ValueError when they are not ``shape`` together."""
        from rich.console import Console
        from rich.progress import Progress

        done = 0
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task(self.title, total=self.shape[0])
            for chunk in self.chunks():
                if chunk.shape[1:] != self.shape[1:] or chunk.dtype != np.uint8:
                    raise ValueError(f"{self.title}: a chunk is {chunk.dtype} {chunk.shape}, of {self.shape} in all")
                done += len(chunk)
                progress.advance(task, len(chunk))
                yield chunk
        if done != self.shape[0]:
            raise ValueError(f"{self.title}: {done} rows were made of {self.shape[0]}")

    def in_memory(self) -> np.ndarray:
        """The whole."""
        whole, start = np.empty(self.shape, np.uint8), 0
        for chunk in self.rows():
            whole[start : start + len(chunk)] = chunk
            start += len(chunk)
        return whole


def in_chunks(count: int, item_bytes: int) -> Iterator[slice]:
    """Slices that together are `count` items of `item_bytes` each, none of more than CHUNK_BYTES but for one item."""
    step = max(1, CHUNK_BYTES // max(1, item_bytes))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


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


def cached_arrays(
    name: str,
    key: str,
    build: Callable[[], dict[str, np.ndarray | Streamed]],
    finish: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda arrays: arrays,
) -> dict[str, np.ndarray]:
    """The arrays of entry `name`-`key`, memory-mapped; built and kept first if the entry is absent or broken.

    Two processes may do this at once: each builds in a folder of its own and the first to finish is kept. Where the
    cache cannot be written the arrays are built and returned from memory, with one warning.

    Args:
        build: makes the arrays; what it leaves :class:`Streamed` is on disk, not in memory, when `finish` sees it.
        finish: gives the arrays back with those that follow from them, as statistics.
    """
    entry = cache_folder() / f"{name}-{key}"
    arrays = _read(entry)
    if arrays is not None:
        return arrays
    built = build()
    try:
        _write(entry, built, finish)
    except OSError as error:
        if str(entry.parent) not in _warned:
            _warned.add(str(entry.parent))
            warnings.warn(
                f"the cache {entry.parent} cannot be written ({error}), so data is prepared anew by every process; "
                "set POOLBENCH_CACHE to a folder that can be written",
                stacklevel=2,
            )
        return _in_memory(built, finish)
    return _read(entry) or _in_memory(built, finish)


def rows_of(images: np.ndarray, rows: np.ndarray, most: int = 2**31) -> np.ndarray:
    """`images[rows]`: in memory, or, where it would be more than `most` bytes, in a file of the cache's folder that has
    no name and goes with the process. `rows` are whole numbers, best in their order.

    Raises: OSError when there is no room for the file.
    """
    item_bytes = images[:1].nbytes
    if len(rows) * item_bytes <= most:
        return images[rows]
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        for part in in_chunks(len(rows), item_bytes):
            file.write(images[rows[part]].data)
        file.flush()
        return np.memmap(file, images.dtype, "r+", shape=(len(rows), *images.shape[1:]))


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
        return {Path(file).stem: _mapped(entry / file) for file in sizes}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _mapped(path: Path) -> np.ndarray:
    # Mode "c" (copy on write) because torch warns about arrays that are marked read-only; pages are shared as long as
    # nobody writes to them, and the file never changes.
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        # What may be written to counts as memory that may be asked for, and of that no system grants much more than it
        # has; what is only read does not.
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _in_memory(
    built: dict[str, np.ndarray | Streamed], finish: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    return finish({name: part.in_memory() if isinstance(part, Streamed) else part for name, part in built.items()})


def _write(
    entry: Path,
    built: dict[str, np.ndarray | Streamed],
    finish: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> None:
    with temporary_folder(entry.parent, entry.name) as folder:
        new = folder / "entry"
        new.mkdir()
        for name, part in built.items():
            _write_array(new / f"{name}.npy", part)
        there = {name: _mapped(new / f"{name}.npy") if isinstance(p, Streamed) else p for name, p in built.items()}
        for name, array in finish(there).items():
            if name not in built:
                _write_array(new / f"{name}.npy", array)
        del there  # some systems rename no folder with files in use
        sizes = {file.name: file.stat().st_size for file in sorted(new.iterdir())}
        (new / INDEX).write_text(json.dumps(sizes))
        if not move_into_place(new, entry) and _read(entry) is None:
            with suppress(FileNotFoundError):  # another process may have moved the broken entry away first
                os.rename(entry, folder / "broken")
            move_into_place(new, entry)


def _write_array(path: Path, part: np.ndarray | Streamed) -> None:
    with open(path, "wb") as file:
        if isinstance(part, Streamed):
            # Written, not mapped: a full disk is an error then, and no signal that ends the process.
            header = {"descr": "|u1", "fortran_order": False, "shape": part.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in part.rows():
                file.write(np.ascontiguousarray(chunk).data)
        else:
            np.save(file, part, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
