"""Run a command in a temporary folder of its own. What it started ends with it, daemons too, and nothing else does.

    python scripts/held.py COMMAND [ARGUMENT ...]

Linux makes this process the parent of the orphans among all that the command starts, so that they are found by descent
and ended by number; what others run under the same names is out of reach. The command finds its folder in $WORK and
the number of this process in $HOLDER. The exit code is the command's.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 20.0  # seconds for killed processes to be gone


def main(command: list[str]) -> int:
    if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        print("held: this needs Linux", file=sys.stderr)
        return 2
    started: list[int] = []
    early: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        for pid in started:
            os.kill(pid, number)
        early.extend([] if started else [number])

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    work = tempfile.mkdtemp()
    try:
        held = subprocess.Popen(command, env=os.environ | {"WORK": work, "HOLDER": str(os.getpid())})
        started.append(held.pid)
        for number in early:
            os.kill(held.pid, number)
        held.returncode = code = ended(held.pid)
        started.clear()
    finally:
        left = end_all()
        shutil.rmtree(work, ignore_errors=True)
    if left:
        print(f"held: these processes do not end: {sorted(left)}", file=sys.stderr)
    return code or bool(left)


def ended(pid: int) -> int:
    """The exit code of a child; meanwhile orphans are reaped, as a zombie would pass for alive."""
    while True:
        gone, status = os.waitpid(-1, 0)
        if gone == pid:
            code = os.waitstatus_to_exitcode(status)  # below 0 of a signal
            return code if code >= 0 else 128 - code


def end_all() -> set[int]:
    """Kill all that descends from this process. Returns: what is left, which is nothing if all goes well."""
    deadline = time.monotonic() + PATIENCE
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    return left


def descendants(pid: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            # "number (name) state parent ...", and a name may hold anything
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while new := {one for one, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
