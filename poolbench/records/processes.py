"""Which process this is, and whether another one still runs, on any host and after any boot."""

import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path

UNKNOWN = "unknown"

_PROC = Path("/proc")


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


def boot_id() -> str:
    """Tells machines, boots and containers of one host name apart, where the system says: whom process numbers and
    start times of ours mean nothing to."""
    known = []
    with suppress(OSError):
        known.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
    for namespace in ("pid", "time"):  # in another one of time, the same process started at another time
        with suppress(OSError):
            known.append(os.readlink(_PROC / "self/ns" / namespace))
    return " ".join(known)


def place_mark() -> str:
    """Four hexadecimal digits for this host and boot."""
    return hashlib.sha256(f"{socket.gethostname()} {boot_id()}".encode()).hexdigest()[:4]
