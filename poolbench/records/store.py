"""Writing a record: whole files or none, and one owner at a time."""

import hashlib
import json
import math
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # an owner on another host that is silent for so long is taken for dead

UNKNOWN = "unknown"

Guard = Callable[[], None]  # raises when a file must not take its place any more

_SMALL = 1_000_000  # bytes of a claim or status, at most
_CLAIM = re.compile(r"claim\.(\d+)$")
_TEMPORARY = re.compile(r"\.(\d+)-([0-9a-f]{4})[0-9a-f]{6}\.tmp$")  # whose, and where it ran
_OWNER = {"host", "boot", "pid", "start"}  # what a claim says
_PROC = Path("/proc")


@contextmanager
def replacing(path: Path, durable: bool = True, guard: Guard | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends well; else ``path`` stays as it was.

    Args:
        path: the file; its folder is made if need be.
        durable: wait until the disk has it, so that a power cut cannot leave an empty file behind the name.
        guard: called at the last moment; what it raises leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_here()}{secrets.token_hex(3)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if guard is not None:
            guard()
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:
            raise type(error)(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise


def _sync_folder(folder: Path) -> None:
    """Have the disk know a new name in ``folder``; the name is there for everybody else already."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    with suppress(OSError):  # some network file systems refuse
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str, durable: bool = True, guard: Guard | None = None) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with replacing(path, durable, guard) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, durable: bool = True, guard: Guard | None = None) -> None:
    """Write plain data to ``path`` as JSON, whole or not at all. Raises: ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", durable, guard)


def json_ready(value: Any) -> Any:
    """``value`` with null for what JSON cannot say: a diverged loss is not a number."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(part) for key, part in value.items()}
    if isinstance(value, list):
        return [json_ready(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_yaml(path: Path, value: Any, guard: Guard | None = None) -> None:
    """Write plain data to ``path`` as YAML, whole or not at all."""
    import yaml

    write_text(path, yaml.safe_dump(value, sort_keys=False), guard=guard)


def write_metrics(path: Path, rows: list[dict[str, Any]], guard: Guard | None = None) -> None:
    """Write ``metrics.csv``, one row an epoch; None becomes an empty field."""
    columns = list(rows[0]) if rows else ["epoch"]
    lines = [",".join(columns)]
    lines += [",".join("" if row[c] is None else repr(row[c]) for c in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n", guard=guard)


def os_reason(error: OSError) -> str:
    """What went wrong and where, without the number."""
    if not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written in ``folder``; only its owner may call this."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sweep_abandoned(folder: Path) -> None:
    """Remove what killed processes of this host left half written in ``folder``, which many may write to."""
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.search(path.name)
        if match and match[2] == _here() and process_start(int(match[1])) is None:
            path.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Remove what a process left in ``folder`` that was killed after its last word: a claim, half a status.

    The folder of a live owner is left alone, and one that cannot be written to stays as it is.
    """
    with suppress(OSError):
        if any(folder.glob("claim.*")) or any(folder.glob(".*.tmp")):
            claim = Claim(folder)
            if claim.acquire():
                try:
                    sweep_temporaries(folder)
                finally:
                    claim.release()


def set_aside(folder: Path) -> Path:
    """Rename a record folder that cannot be read to the first free ``<run_id>.damaged-N``; nothing but claims, which
    mean nothing there, is deleted. Only its owner may call this."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    folder.rename(aside)
    with suppress(OSError):
        for path in aside.glob("claim.*"):
            path.unlink(missing_ok=True)
    return aside


class Claim:
    """Ownership of a cell's folder, by files that are created atomically and never by locks.

    Claims are numbered: the owner holds the highest. A live owner's claim is respected; a dead one's is passed over by
    creating the next number, which only one process can do, and only while the dead one's stands there unchanged. The
    file's time of change is the owner's heartbeat.

    Args:
        folder: the cell's folder, which exists.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path: Path | None = None
        self._text = ""  # what we wrote into it

    def acquire(self) -> bool:
        """Take the cell. False when a live process has it."""
        seen = _stamp(self.folder / f"claim.{current_claim(self.folder)[0]}")
        highest, owner = current_claim(self.folder)
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
            # Meanwhile the owner may have finished and a third process have begun anew at number 0: it sees our claim,
            # or we see that the one we passed over is not what it was.
            ours = current_claim(self.folder)[0] == highest + 1 and _stamp(passed_over) == seen
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
        return self.path is not None and current_claim(self.folder)[0] == _number(self.path) and self.path.exists()

    def beat(self) -> None:
        """Show that the owner lives."""
        if self.path is not None:
            with suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Give the cell up; older claims, of dead owners, go first so that ours covers them to the end.

        Where nothing can be removed, as on a disk that was made read-only, the claim ends with this process.
        """
        if self.path is None:
            return
        own = _number(self.path)
        # The folder may have been set aside with our claim in it, and what is there now be another process's.
        if own is not None and _text_of(self.path) == self._text:
            with suppress(OSError):
                for path in self.folder.glob("claim.*"):
                    number = _number(path)
                    # A higher one is of a process that took us for dead, on another host while this one slept.
                    if number is not None and number < own:
                        path.unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
        self.path = None


def current_claim(folder: Path) -> tuple[int, dict[str, Any] | None]:
    """The highest claim's number (-1 for none) and its owner (an empty dict while it is being written, or for
    garbage)."""
    numbers = [n for path in folder.glob("claim.*") if (n := _number(path)) is not None]
    if not numbers:
        return -1, None
    try:
        owner = json.loads(small_text(folder / f"claim.{max(numbers)}"))
        sound = isinstance(owner, dict) and owner.keys() >= _OWNER and isinstance(owner["pid"], int)
        return max(numbers), owner if sound else {}
    except FileNotFoundError:
        return current_claim(folder)
    except (ValueError, OSError, RecursionError):
        return max(numbers), {}


def is_alive(owner: dict[str, Any], claim: Path) -> bool:
    """Whether a claim's owner still works: on this host by its process, elsewhere by its heartbeat.

    A heartbeat far in the future, as after a clock was set back, is set to now, or it would never grow stale.
    """
    if owner and owner.get("host") == socket.gethostname() and owner.get("boot") == _boot_id():
        start = process_start(owner["pid"])
        if start != UNKNOWN:
            return start is not None and start == owner["start"]
    try:
        silent = time.time() - claim.stat().st_mtime
    except FileNotFoundError:
        return False
    # A claim is empty for the instant in which it is written, or for good if its owner died then.
    patience = STALE_SECONDS if owner else HEARTBEAT_SECONDS
    if silent < -patience:
        with suppress(OSError):
            os.utime(claim)
    return silent < patience


def process_start(pid: int) -> float | str | None:
    """When process ``pid`` started, None if there is none, or UNKNOWN where the system does not say; tells a process
    from a later one that got its number."""
    if not (_PROC / "self/stat").exists():
        return None if _is_gone(pid) else UNKNOWN
    try:
        # After the command's name, which may hold anything: state (a zombie is dead), ..., start time in ticks.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else float(fields[19])


def _is_gone(pid: int) -> bool:
    """Whether there is surely no process ``pid``; where /proc is missing, as on macOS."""
    if os.name == "posix":  # elsewhere signal 0 would not be a mere question
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # there is one, of another user
            return False
    return False


def _self_description() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot_id(), "pid": pid, "start": process_start(pid)}


def _boot_id() -> str:
    """Tells machines, boots and containers of one host name apart, where the system says: whom process numbers and
    start times of ours mean nothing to."""
    known = []
    with suppress(OSError):
        known.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
    for namespace in ("pid", "time"):  # in another one of time, the same process started at another time
        with suppress(OSError):
            known.append(os.readlink(_PROC / "self/ns" / namespace))
    return " ".join(known)


def _here() -> str:
    """Four hexadecimal digits for this host and boot."""
    return hashlib.sha256(f"{socket.gethostname()} {_boot_id()}".encode()).hexdigest()[:4]


def _stamp(claim: Path) -> tuple[int, int, str | None] | None:
    """Tells one state of a claim from any other."""
    try:
        stat = claim.stat()
        return stat.st_ino, stat.st_mtime_ns, _text_of(claim)
    except OSError:
        return None


def small_text(path: Path) -> str:
    """The text of a small file. Raises: ValueError for what is none, as a pipe or a device that somebody put there."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no regular file")
        return file.read(_SMALL).decode("utf-8")


def _text_of(path: Path) -> str | None:
    try:
        return small_text(path)
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    match = _CLAIM.match(path.name)
    return int(match[1]) if match else None
