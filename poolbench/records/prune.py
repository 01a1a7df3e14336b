"""What may be removed of finished cells to free space, and its removal: never more than what cells themselves wrote."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from poolbench.records.files import os_reason
from poolbench.records.ownership import is_owned
from poolbench.records.state import DONE, record_state

CHECKPOINT, LOG, DAMAGED = "checkpoint", "log", "set aside"
_ASIDE = re.compile(r".+\.damaged-\d+")
# What a cell writes into its folder; anything else there is somebody's.
_OURS = re.compile(
    r"(config\.yaml|(status|result|environment|outcomes)\.json|metrics\.csv|checkpoint\.pt|(log|error)\.txt|claim\.\d+"
    r"|\.?probe-[0-9a-f]{10}\.json(\.[0-9a-f-]+\.tmp)?"
    r"|log_probabilities\.npy|\.(config\.yaml|(status|result|environment|outcomes)\.json|metrics\.csv|error\.txt"
    r"|checkpoint\.pt|log_probabilities\.npy)\.[0-9a-f-]+\.tmp)"
)


@dataclass(frozen=True)
class Removable:
    """Files of one folder that may go.

    Args:
        kind: ``checkpoint``, ``log`` or ``set aside``; of the last the folder goes as well.
        folder: of the cell.
        names: of the files in it.
        size: of them together, in bytes.
    """

    kind: str
    folder: Path
    names: tuple[str, ...]
    size: int


def removable(
    paths: Iterable[Path], damaged: bool = False, logs: bool = False
) -> tuple[list[Removable], list[tuple[Path, str]]]:
    """What may be removed under ``paths``: folders of records, or single ones. Links are not followed.

    Args:
        damaged: also what was set aside as ``<run_id>.damaged-N``.
        logs: also the logs of finished cells.
    Returns: what may go, and what looks like it but has to stay, with the reason.
    """
    found: list[Removable] = []
    kept: list[tuple[Path, str]] = []
    for folder in dict.fromkeys(cell for path in paths for cell in _folders(path)):
        try:
            if _ASIDE.fullmatch(folder.name):
                if damaged and (own := _aside(folder, kept)):
                    found.append(own)
                continue
            if reason := _reason_to_stay(folder):
                if (size := _size(folder / "checkpoint.pt")) is not None and size > 0:
                    kept.append((folder / "checkpoint.pt", reason))
                continue
        except OSError as error:
            kept.append((folder, os_reason(error)))
            continue
        for kind, name in ((CHECKPOINT, "checkpoint.pt"), *([(LOG, "log.txt")] if logs else [])):
            if (size := _size(folder / name)) is not None:
                found.append(Removable(kind, folder, (name,), size))
    return found, kept


def remove(what: Removable) -> int | None:
    """Remove ``what`` and return how many bytes that freed; None when it must not go any more.

    Raises: OSError when it cannot be removed.
    """
    if what.kind == DAMAGED:
        if is_owned(what.folder):
            return None
    elif _reason_to_stay(what.folder):
        return None
    freed = 0
    with _opened(what.folder) as (directory, prefix):
        for name in what.names:
            with suppress(FileNotFoundError):  # another prune was quicker
                found = os.stat(prefix + name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    os.unlink(prefix + name, dir_fd=directory)
                    freed += found.st_size
    if what.kind == DAMAGED:
        with suppress(OSError):  # something came meanwhile: it stays
            what.folder.rmdir()
    return freed


def _folders(path: Path) -> Iterator[Path]:
    """``path`` itself if it is a record, else the folders in it; a link in it leads elsewhere and is left alone."""
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}")
    if (path / "config.yaml").is_file() or _ASIDE.fullmatch(path.name):
        yield path
        return
    for child in sorted(path.iterdir()):
        if not child.name.startswith(".") and not child.is_symlink() and child.is_dir():
            yield child


def _reason_to_stay(folder: Path) -> str | None:
    """Why nothing of the cell may go: it is not finished, or someone works on it."""
    state = record_state(folder)
    if state != DONE:
        return f"the cell is not finished ({state})"
    return "a process owns the cell" if is_owned(folder) else None


def _aside(folder: Path, kept: list[tuple[Path, str]]) -> Removable | None:
    if is_owned(folder):
        kept.append((folder, "a process owns it"))
        return None
    names = sorted(path.name for path in folder.iterdir())
    if others := [name for name in names if not _OURS.fullmatch(name) or _size(folder / name) is None]:
        kept.append((folder, f"it holds {others[0]}{' and more' if len(others) > 1 else ''}, which no cell wrote"))
        return None
    return Removable(DAMAGED, folder, tuple(names), sum(_size(folder / name) or 0 for name in names))


def _size(path: Path) -> int | None:
    """Bytes of a plain file, None for anything else, a link included."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[int | None, str]]:
    """The folder held open, so that what is removed in it is in it, even should a link take its place meanwhile; where
    the system cannot, as on Windows, the beginning of its files' paths."""
    if os.unlink not in os.supports_dir_fd or os.stat not in os.supports_dir_fd:
        yield None, f"{folder}{os.sep}"
        return
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield directory, ""
    finally:
        os.close(directory)
