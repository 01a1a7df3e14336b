"""Sweeps under torture: started as a user does, watched from outside by files and /proc alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from poolbench.records.ownership import current_owner, is_alive

REPOSITORY = Path(__file__).resolve().parents[1]
SECONDS_TO_END = 60.0  # within which the processes of a sweep must be gone after it was killed
STARTING, FIRST, BETWEEN, LAST = "no cell at work", "before the first epoch", "between epochs", "after the last epoch"


class Process(NamedTuple):
    """What /proc says of a process."""

    pid: int
    parent: int
    command: bytes


class Owner(NamedTuple):
    """A live process that has claimed a cell."""

    pid: int
    cell: Path
    claim: Path
    epochs: int  # finished ones


@dataclass
class Torment:
    """One round: a folder, its sweeps, and what was done to them.

    Args:
        folder: where the sweeps are started; ``disk/runs`` in it takes the records.
        cells: what makes the sweep, as on a command line.
        epochs: of each cell.
        workers: cells at once.
        pause: the longest wait in seconds between a sign of life and the next disturbance.
        mounted: whether ``disk`` is a small file system of its own.
    """

    folder: Path
    cells: list[str]
    epochs: int
    workers: int
    pause: float
    random: random.Random
    mounted: bool = False
    sweeps: list[subprocess.Popen] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # disturbances by kind
    hit: Counter[str] = field(default_factory=Counter)  # where in the life of a cell a kill found it
    resumed_from: Counter[int] = field(default_factory=Counter)  # finished epochs of a cell that was killed
    given_up: Counter[str] = field(default_factory=Counter)  # last words of sweeps that ended without being killed
    damaged: Counter[str] = field(default_factory=Counter)  # cells whose files were damaged on purpose
    finished: dict[str, bytes] = field(default_factory=dict)  # results seen so far
    wrong: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        return self.folder / "disk" / "runs"


def start_sweep(torment: Torment, *options: str) -> subprocess.Popen:
    """One more sweep of the round, in a session of its own by which its processes are found."""
    torment.counts["sweeps started"] += 1
    with open(torment.folder / f"sweep-{torment.counts['sweeps started']}.txt", "wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "poolbench", "sweep", *torment.cells, "runs_dir=disk/runs"),
                *(f"sweep.workers={torment.workers}", *options),
            ],
            cwd=torment.folder,
            env={**os.environ, "POOLBENCH_CACHE": str(torment.folder / "cache"), "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.log = Path(log.name)  # type: ignore[attr-defined]
    torment.sweeps.append(process)
    return process


def end_sweep(torment: Torment, process: subprocess.Popen) -> None:
    """Wait until a sweep that ended or was killed is gone with all its processes; those that stay are a breach."""
    process.wait()
    torment.sweeps.remove(process)
    if not wait_for(lambda: not members(process.pid), SECONDS_TO_END):
        for each in members(process.pid):
            torment.wrong.append(f"process {each.pid} outlived its sweep by {SECONDS_TO_END:.0f} s: {each.command!r}")
            send(each.pid, signal.SIGKILL)
    lines = process.log.read_text(errors="replace").splitlines() or [""]  # type: ignore[attr-defined]
    if any(line.startswith("Traceback") or "a defect of ours" in line for line in lines):
        torment.wrong.append(f"{process.log}: an error that nobody foresaw: {lines[-1]}")  # type: ignore[attr-defined]
    if process.returncode > 0:
        torment.given_up[lines[-1][:100]] += 1


def members(session: int) -> list[Process]:
    """Processes of a session; zombies are none."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
                found.append(Process(int(path.name), int(fields[1]), (path / "cmdline").read_bytes()))
        except OSError:  # it ended meanwhile
            continue
    return found


def server(sweep: subprocess.Popen) -> Process | None:
    """The process that forks the workers of ``sweep``."""
    mine = members(sweep.pid)
    return next((each for each in mine if each.parent == sweep.pid and b"forkserver" in each.command), None)


def owners(torment: Torment) -> list[Owner]:
    """Who is at work on a cell now."""
    found = []
    for cell in sorted(torment.runs.glob("*/")) if torment.runs.exists() else []:
        number, owner = current_owner(cell)
        claim = cell / f"claim.{number}"
        if owner and is_alive(owner, claim):
            found.append(Owner(owner["pid"], cell, claim, epochs_of(cell)))
    return found


def epochs_of(cell: Path) -> int:
    """Finished epochs, by ``metrics.csv``."""
    try:
        return max(0, (cell / "metrics.csv").read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def results(torment: Torment) -> list[Path]:
    """The results that are there, those of records set aside left out."""
    return [path for path in sorted(torment.runs.glob("*/result.json")) if ".damaged-" not in path.parent.name]


def note_results(torment: Torment) -> None:
    """Remember every result that is there: none may be lost or made again."""
    for path in results(torment):
        torment.finished.setdefault(path.parent.name, path.read_bytes())


def kill(torment: Torment, pids: list[int], kind: str, dying: list[int] | None = None) -> None:
    """SIGKILL ``pids`` and count where the cells were whose processes die of it (``dying``, else ``pids``)."""
    dying = pids if dying is None else dying
    struck = [owner for owner in owners(torment) if owner.pid in dying]
    for pid in pids:
        send(pid, signal.SIGKILL)
    torment.counts[kind] += 1
    torment.counts["kills"] += 1
    for owner in struck:
        phase = FIRST if owner.epochs == 0 else BETWEEN if owner.epochs < torment.epochs else LAST
        torment.hit[phase] += 1
        torment.resumed_from[owner.epochs] += 1
    if not struck:
        torment.hit[STARTING] += 1


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Callable[[], Any], seconds: float) -> bool:
    """Poll until ``condition`` holds. Returns: whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def alive(torment: Torment) -> list[subprocess.Popen]:
    """Sweeps that have not ended."""
    return [sweep for sweep in torment.sweeps if sweep.poll() is None]


def signs_of_life(torment: Torment) -> Iterator[tuple[str, int]]:
    """What changes as long as a cell of the round is trained."""
    for path in torment.runs.glob("*/status.json"):
        try:
            yield path.parent.name, path.stat().st_ino
        except OSError:
            continue
