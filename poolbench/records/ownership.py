"""Who owns a cell: one process at a time, by files that are created atomically."""

import json
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from poolbench.foreign import read_text
from poolbench.records.files import sweep_temporaries
from poolbench.records.processes import UNKNOWN, boot_id, process_start

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # an owner on another host that is silent for so long is taken for dead

_MARK = re.compile(r"claim\.(\d+)$")
_OWNER = {"host", "boot", "pid", "start"}  # what a mark says


class Ownership:
    """Ownership of a cell's folder, by files that are created atomically and never by locks.

    The files, ``claim.N``, are marks with numbers: the owner holds the highest. A live owner's mark is respected; a
    dead one's is passed over by creating the next number, which only one process can do, and only while the dead one's
    stands there unchanged. The file's time of change is the owner's heartbeat.

    Args:
        folder: the cell's folder, which exists.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path: Path | None = None
        self._text = ""  # what we wrote into it

    def acquire(self) -> bool:
        """Take the cell. False when a live process has it."""
        seen = _stamp(self.folder / f"claim.{current_owner(self.folder)[0]}")
        highest, owner = current_owner(self.folder)
        passed_over = self.folder / f"claim.{highest}"
        if owner is not None and is_alive(owner, passed_over):
            return False
        path = self.folder / f"claim.{highest + 1}"
        try:
            file = open(path, "x", encoding="utf-8")  # noqa: SIM115 - closed below, where a full disk is noticed
        except FileExistsError:
            return False  # another process was quicker
        except FileNotFoundError:
            return False  # the folder was set aside under our eyes
        text = json.dumps(_self_description())
        try:
            with file:
                file.write(text)
            # Meanwhile the owner may have finished and a third process have begun anew at number 0: it sees our mark,
            # or we see that the one we passed over is not what it was.
            ours = current_owner(self.folder)[0] == highest + 1 and _stamp(passed_over) == seen
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if ours:
            self.path, self._text = path, text
        else:
            path.unlink(missing_ok=True)
        return ours

    def holds(self) -> bool:
        """Whether the cell is still ours: an owner that slept too long was taken for dead and passed over."""
        return self.path is not None and current_owner(self.folder)[0] == _number(self.path) and self.path.exists()

    def beat(self) -> None:
        """Show that the owner lives."""
        if self.path is not None:
            with suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Give the cell up; older marks, of dead owners, go first so that ours covers them to the end.

        Where nothing can be removed, as on a disk that was made read-only, the mark ends with this process.
        """
        if self.path is None:
            return
        own = _number(self.path)
        # The folder may have been set aside with our mark in it, and what is there now be another process's.
        if own is not None and _text_of(self.path) == self._text:
            with suppress(OSError):
                for path in self.folder.glob("claim.*"):
                    number = _number(path)
                    # A higher one is of a process that took us for dead, on another host while this one slept.
                    if number is not None and number < own:
                        path.unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
        self.path = None


def current_owner(folder: Path) -> tuple[int, dict[str, Any] | None]:
    """The highest mark's number (-1 for none) and its owner (an empty dict while it is being written, or for
    garbage)."""
    numbers = [n for path in folder.glob("claim.*") if (n := _number(path)) is not None]
    if not numbers:
        return -1, None
    try:
        owner = json.loads(read_text(folder / f"claim.{max(numbers)}"))
        sound = isinstance(owner, dict) and owner.keys() >= _OWNER and isinstance(owner["pid"], int)
        return max(numbers), owner if sound else {}
    except FileNotFoundError:
        return current_owner(folder)
    except (ValueError, OSError, RecursionError):
        return max(numbers), {}


def is_alive(owner: dict[str, Any], mark: Path) -> bool:
    """Whether a mark's owner still works: on this host by its process, elsewhere by its heartbeat.

    A heartbeat far in the future, as after a clock was set back, is set to now, or it would never grow stale.
    """
    if owner and owner.get("host") == socket.gethostname() and owner.get("boot") == boot_id():
        start = process_start(owner["pid"])
        if start != UNKNOWN:
            return start is not None and start == owner["start"]
    try:
        silent = time.time() - mark.stat().st_mtime
    except FileNotFoundError:
        return False
    # A mark is empty for the instant in which it is written, or for good if its owner died then.
    patience = STALE_SECONDS if owner else HEARTBEAT_SECONDS
    if silent < -patience:
        with suppress(OSError):
            os.utime(mark)
    return silent < patience


def is_owned(folder: Path) -> bool:
    """Whether a live process owns ``folder``."""
    number, owner = current_owner(folder)
    return owner is not None and is_alive(owner, folder / f"claim.{number}")


def tidy(folder: Path) -> None:
    """Remove what a process left in ``folder`` that was killed after its last word: a mark, half a status.

    The folder of a live owner is left alone, and one that cannot be written to stays as it is.
    """
    with suppress(OSError):
        if any(folder.glob("claim.*")) or any(folder.glob(".*.tmp")):
            ownership = Ownership(folder)
            if ownership.acquire():
                try:
                    sweep_temporaries(folder)
                finally:
                    ownership.release()


def set_aside(folder: Path) -> Path:
    """Rename a record folder that cannot be read to the first free ``<run_id>.damaged-N``; nothing but marks, which
    mean nothing there, is deleted. Only its owner may call this."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    folder.rename(aside)
    with suppress(OSError):
        for path in aside.glob("claim.*"):
            path.unlink(missing_ok=True)
    return aside


def _self_description() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": boot_id(), "pid": pid, "start": process_start(pid)}


def _stamp(mark: Path) -> tuple[int, int, str | None] | None:
    """Tells one state of a mark from any other."""
    try:
        stat = mark.stat()
        return stat.st_ino, stat.st_mtime_ns, _text_of(mark)
    except OSError:
        return None


def _text_of(path: Path) -> str | None:
    try:
        return read_text(path)
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    match = _MARK.match(path.name)
    return int(match[1]) if match else None
