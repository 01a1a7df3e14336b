"""What torture does to sweeps: kills, stops, full and read-only disks, jumps of the clock, damaged files."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torture_sweeps import Owner, Torment, alive, kill, members, owners, send, server, start_sweep, wait_for

from poolbench.records.ownership import STALE_SECONDS, current_owner

DISK_MB = 96
HOUR = 3600.0
TAKEN_OVER_WITHIN = 60.0
_ENOUGH_RETRIES = "sweep.retry=1000"  # a worker that was killed is no reason to end the sweep


def begin(torment: Torment) -> None:
    """Start a sweep that goes on whatever happens to its workers."""
    start_sweep(torment, _ENOUGH_RETRIES)


def kill_worker(torment: Torment) -> None:
    """One process at work on a cell."""
    if at_work := owners(torment):
        kill(torment, [torment.random.choice(at_work).pid], "SIGKILL of a worker")


def kill_server(torment: Torment) -> None:
    """The server that forks the workers."""
    if (sweeps := alive(torment)) and (found := server(torment.random.choice(sweeps))):
        kill(torment, [found.pid], "SIGKILL of the fork server", [])


def kill_sweep(torment: Torment) -> None:
    """The sweep alone; its processes must notice."""
    if sweeps := alive(torment):
        sweep = torment.random.choice(sweeps)
        kill(torment, [sweep.pid], "SIGKILL of the sweep alone", [each.pid for each in members(sweep.pid)])


def kill_group(torment: Torment) -> None:
    """Everything at once, as a batch system does."""
    if sweeps := alive(torment):
        pids = [each.pid for each in members(torment.random.choice(sweeps).pid)]
        torment.random.shuffle(pids)
        kill(torment, pids, "SIGKILL of the whole group")


def stop_worker(torment: Torment) -> None:
    """An owner sleeps, and its heartbeat seems hours old: on this host it lives all the same and keeps its cell."""
    if not (at_work := owners(torment)):
        return
    owner = torment.random.choice(at_work)
    if not _stop(owner):
        return
    before = current_owner(owner.cell)
    _shift(owner.claim, -2 * STALE_SECONDS - HOUR)
    time.sleep(torment.random.uniform(0.5, 2.5))
    if current_owner(owner.cell) != before:
        torment.wrong.append(f"{owner.cell.name}: taken from an owner on this host that was only stopped")
    send(owner.pid, signal.SIGCONT)
    torment.counts["SIGSTOP of an owner, its heartbeat hours old"] += 1


def stop_sweep(torment: Torment) -> None:
    """The sweep sleeps while its workers go on."""
    if sweeps := alive(torment):
        sweep = torment.random.choice(sweeps)
        send(sweep.pid, signal.SIGSTOP)
        time.sleep(torment.random.uniform(0.5, 2.5))
        send(sweep.pid, signal.SIGCONT)
        torment.counts["SIGSTOP of a sweep"] += 1


def second_sweep(torment: Torment) -> None:
    """Two sweeps in one folder."""
    if len(alive(torment)) == 1:
        begin(torment)
        torment.counts["second sweep in the folder"] += 1


def pass_over(torment: Torment) -> None:
    """An owner sleeps and seems to be on another host and long silent: the other sweep takes its cell, and when it
    wakes it must write nothing any more."""
    second_sweep(torment)
    unfinished = [owner for owner in owners(torment) if owner.epochs < torment.epochs - 1]
    if not unfinished:
        return
    owner = torment.random.choice(unfinished)
    if not _stop(owner):
        return
    try:
        claim = json.loads(owner.claim.read_text(encoding="utf-8"))
        owner.claim.write_text(json.dumps({**claim, "host": "elsewhere"}), encoding="utf-8")
        _shift(owner.claim, -2 * STALE_SECONDS)

        def taken() -> bool:
            newer = current_owner(owner.cell)[0] != int(owner.claim.suffix[1:])
            return (newer and _writer(owner.cell) != owner.pid) or not alive(torment)

        if not wait_for(taken, TAKEN_OVER_WITHIN) or not alive(torment):
            torment.counts["owners that nobody came to pass over"] += 1
            return
    finally:
        send(owner.pid, signal.SIGCONT)
    end = time.monotonic() + TAKEN_OVER_WITHIN
    while Path(f"/proc/{owner.pid}").exists() and time.monotonic() < end:
        if _writer(owner.cell) == owner.pid:
            torment.wrong.append(f"{owner.cell.name}: an owner that was passed over went on writing")
            break
        time.sleep(0.005)
    torment.counts["SIGSTOP of an owner that was then passed over"] += 1


def fill_disk(torment: Torment) -> None:
    """Not a byte left for a while."""
    if not torment.mounted:
        return
    balloon = torment.folder / "disk" / "balloon"
    with open(balloon, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    time.sleep(torment.random.uniform(0.5, 3))
    balloon.unlink()
    torment.counts["disk full"] += 1


def make_read_only(torment: Torment) -> None:
    """A read-only view of the disk is laid over it for a while. The disk itself cannot be: logs are open in it."""
    if not torment.mounted:
        return
    disk = str(torment.folder / "disk")
    mount("--bind", disk, disk)
    try:
        mount("-o", "remount,bind,ro", disk)
        time.sleep(torment.random.uniform(0.5, 3))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    torment.counts["disk read-only"] += 1


def jump(torment: Torment) -> None:
    """Files seem to be hours old, or of the day after tomorrow: what a jump of the clock does to them."""
    hours = torment.random.uniform(1, 40) * torment.random.choice([-1, 1])
    for path in [*torment.runs.glob("*/claim.*"), *torment.runs.glob("*/*")]:
        _shift(path, hours * HOUR)
    torment.counts["clock jump"] += 1


def damage(torment: Torment) -> None:
    """A file of a cell loses its end, or its content becomes garbage. Only while no owner lives."""
    names = ["config.yaml", "metrics.csv", "environment.json", "status.json", "result.json", "checkpoint.pt", "claim.0"]
    name = torment.random.choice(names)
    cells = [path.parent for path in sorted(torment.runs.glob(f"*/{name}")) if ".damaged-" not in path.parent.name]
    if name == "checkpoint.pt":  # of a finished cell nobody reads it again
        cells = [cell for cell in cells if not (cell / "result.json").exists()]
    if not cells:
        return
    cell = torment.random.choice(cells)
    path = cell / name
    content = path.read_bytes()
    how = torment.random.choice(["cut off", "garbage", "garbage in the middle"])
    place = torment.random.randrange(max(1, len(content) - 1))
    if how == "cut off":
        content = content[:place]
    elif how == "garbage":
        content = torment.random.randbytes(len(content))
    else:
        content = content[:place] + torment.random.randbytes(64) + content[place + 64 :]
    path.write_bytes(content)
    if name == "claim.0":
        _shift(path, torment.random.uniform(-2, 2) * HOUR)
    elif name != "status.json":  # neither of the two is a reason to set a record aside
        torment.damaged[cell.name] += 1
        torment.finished.pop(cell.name, None)
    torment.counts[f"{path.stem if name == 'claim.0' else name} {how}"] += 1


# How often each is chosen. Most kills are of workers, which cost no start of a sweep.
ACTS: dict[Callable[[Torment], None], float] = {
    kill_worker: 46,
    kill_server: 12,
    kill_sweep: 9,
    kill_group: 9,
    stop_worker: 6,
    stop_sweep: 5,
    second_sweep: 5,
    pass_over: 4,
    fill_disk: 4,
    make_read_only: 4,
    jump: 6,
}


def mount(*arguments: str) -> None:
    """Raises: subprocess.CalledProcessError where that is not allowed."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def mount_disk(disk: Path) -> bool:
    """Make ``disk`` a small file system of its own. Returns: whether this user may."""
    disk.mkdir(parents=True, exist_ok=True)
    try:
        mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "torture", str(disk))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def unmount_disk(disk: Path, keep: bool) -> None:
    """Give ``disk`` back; what is in it is copied to where it was if ``keep``."""
    files = {}
    if keep:
        files = {path.relative_to(disk): path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    for path, content in files.items():
        (disk / path).parent.mkdir(parents=True, exist_ok=True)
        (disk / path).write_bytes(content)


def _shift(path: Path, seconds: float) -> None:
    with suppress(OSError):  # it is gone, or nothing can be written now
        os.utime(path, (time.time() + seconds,) * 2)


def _stop(owner: Owner) -> bool:
    """Stop an owner at work. False when it ended between our look and the signal."""
    send(owner.pid, signal.SIGSTOP)
    wait_for(lambda: _state(owner.pid) in (b"T", None), 10)
    number, now = current_owner(owner.cell)
    if now and now.get("pid") == owner.pid and _state(owner.pid) == b"T" and number == int(owner.claim.suffix[1:]):
        return True
    send(owner.pid, signal.SIGCONT)
    return False


def _state(pid: int) -> bytes | None:
    """The letter that /proc has for what a process does; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return None


def _writer(cell: Path) -> int | None:
    """Whose the status is."""
    try:
        return json.loads((cell / "status.json").read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError):
        return None
