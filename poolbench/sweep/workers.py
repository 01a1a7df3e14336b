"""Running a plan on this machine: one process a cell, several at once, sharing the work with other sweeps."""

import atexit
import contextlib
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from poolbench.configuration import COMPONENTS
from poolbench.data import DATA
from poolbench.foreign import parsed_json, read_bytes
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS
from poolbench.records import environment, files
from poolbench.records.identity import SCHEMA_VERSION, digest
from poolbench.records.ownership import Ownership, tidy
from poolbench.records.state import DAMAGED, DONE, FAILED, RUNNING
from poolbench.records.times import now
from poolbench.sweep.blocks import next_of
from poolbench.sweep.cells import Cell, Plan

POLL_SECONDS = 0.3
_STARTS = 4  # attempts to start a worker
RETRIED = "retried"  # what a watcher is told of a cell that failed and comes again


class CellsRefused(ValueError):
    """Cells that cannot be trained as configured; found before the first one started."""


class Watcher(Protocol):
    """Who shows how a sweep gets on."""

    def started(self, cell: Cell) -> None: ...

    def ended(self, cell: Cell, state: str, reason: str) -> None: ...

    def tick(self) -> None: ...


def run_plan(plan: Plan, watcher: Watcher) -> dict[str, str]:
    """Train every cell of ``plan`` that is not done, and wait for those that other processes have.

    A cell that fails is tried again ``sweep.retry`` times, after all others had their turn; after ``sweep.max_hours``
    no cell is started any more and those that run are finished.

    Returns: ``run_id`` -> reason, for the cells that failed.
    Raises: CellsRefused before any training when a config does not fit together; OSError when records cannot be
        written; KeyboardInterrupt, after the workers were ended.
    """
    cells = plan.open()
    if not cells:
        return {}
    return _Run(plan, cells, watcher).run()


class _Run:
    """A plan on this machine: cells that wait, that run, and that other processes have."""

    def __init__(self, plan: Plan, cells: list[Cell], watcher: Watcher):
        self.options, self.watcher = plan.options, watcher
        hours = plan.options["max_hours"]
        self.deadline = math.inf if hours is None else time.monotonic() + 3600 * hours
        writable(Path(cells[0].config["runs_dir"]))
        self.code = environment.code_version()
        self.context = _context(cells)
        self.kind, self.gpus = _check_and_prepare(self.context, cells)
        cores = environment.available_cores()
        self.workers = plan.options["workers"] or self.gpus or cores
        self.threads = max(1, cores // self.workers)
        self.queue, self.elsewhere = deque(cells), list[Cell]()
        self.next = lambda: next_of(self.queue, plan, self.workers, self.deadline)
        self.running: dict[int, tuple[BaseProcess, Any, Cell, int]] = {}
        self.failures: Counter[str] = Counter()
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        try:
            while self.queue or self.running or self.elsewhere:
                if time.monotonic() > self.deadline:
                    self.queue.clear()
                    self.elsewhere.clear()
                while len(self.running) < self.workers and (cell := self.next()):
                    self._take(cell)
                if self.running:
                    connection.wait(list(self.running), POLL_SECONDS)
                else:  # Windows does not wait for nothing
                    time.sleep(POLL_SECONDS)
                self._look_at_ours()
                self._look_elsewhere()
                self.watcher.tick()
                if self.failed and self.options["fail_fast"]:
                    break
        finally:
            for process, *_ in self.running.values():
                process.terminate()
            for process, *_ in self.running.values():
                process.join(10)
        return self.failed

    def _take(self, cell: Cell) -> None:
        """Start ``cell``, unless somebody else has it."""
        state = cell.state()
        if state == DONE:
            self.watcher.ended(cell, DONE, "")
            return
        if state == RUNNING:
            self.elsewhere.append(cell)
            self.watcher.started(cell)  # by another process; how it gets on can be seen all the same
            return
        if state == DAMAGED:
            self.watcher.ended(cell, DAMAGED, "its record cannot be read: set aside, trained again")
        slot = min(set(range(self.workers)) - {slot for *_, slot in self.running.values()})
        device = f"{self.kind}:{slot % self.gpus}" if self.gpus else None
        process, pipe = _start(self.context, _work, cell.config, self.code, self.threads, device)
        self.running[process.sentinel] = (process, pipe, cell, slot)
        self.watcher.started(cell)

    def _look_at_ours(self) -> None:
        """What became of the processes that have ended."""
        for sentinel, (process, pipe, cell, _) in list(self.running.items()):
            if process.is_alive():
                continue
            del self.running[sentinel]
            state, reason = _outcome(process, pipe, cell)
            if state == "busy":
                self.elsewhere.append(cell)  # another process was quicker
                continue
            if state == FAILED:
                self.failures[cell.run_id] += 1
                # What repeats itself for certain, as a loss that is no number, is not tried again.
                if self.failures[cell.run_id] <= self.options["retry"] and not is_lasting(cell):
                    self.watcher.ended(cell, RETRIED, reason)
                    self.queue.append(cell)
                    continue
                self.failed[cell.run_id] = reason
            self.watcher.ended(cell, state, reason)

    def _look_elsewhere(self) -> None:
        """What became of the cells that other processes have, or had."""
        for cell in list(self.elsewhere):
            state = cell.state()
            if state == RUNNING:
                continue
            self.elsewhere.remove(cell)
            if state == DONE:
                self.watcher.ended(cell, DONE, "")
            elif state == FAILED and (is_lasting(cell) or self.failures[cell.run_id] >= self.options["retry"]):
                self.failed[cell.run_id] = failure_reason(cell)
                self.watcher.ended(cell, FAILED, self.failed[cell.run_id])
            else:
                self.failures[cell.run_id] += state == FAILED
                self.queue.append(cell)


def writable(folder: Path) -> None:
    """Raises: OSError, naming ``folder``, when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:  # without a name, so nothing can be left
            probe.write(b"poolbench")
    except OSError as error:
        raise OSError(error.errno, f"runs_dir={folder} cannot be written to: {error.strerror}") from error


def _context(cells: list[Cell]) -> Any:
    """Processes forked from a server that has torch loaded and has never computed: a fork after the first parallel
    region hangs, and a fresh interpreter takes seconds. Where there is no fork, fresh ones."""
    if sys.platform != "linux":  # macOS's libraries do not bear a fork after they were loaded
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Every module that a cell will want, now: quicker, and files that are edited while the sweep runs change nothing.
    modules = ["poolbench.cell", "poolbench.sweep.workers", "poolbench.data.augment", *_modules(cells)]
    # The first optimiser that is made imports torch._dynamo, two seconds of work for each cell. Where there is a GPU
    # that import may ask it something, and after a fork it could not be used.
    names = ("nvidia[0-9]*", "kfd", "dxg", *(["dri/renderD*"] if environment.torch_build() == "xpu" else []))
    if not any(path for name in names for path in Path("/dev").glob(name)):
        modules.append("torch._dynamo")
    context.set_forkserver_preload(modules)
    atexit.unregister(_end_servers)
    atexit.register(_end_servers)
    return context


def _end_servers() -> None:
    """Wait for the server of the forks and for its companion, which end a second after the program else: who looks
    then finds processes that nobody asked for. Python itself has no public word for it."""
    from multiprocessing import forkserver, resource_tracker

    for server in (forkserver._forkserver, resource_tracker._resource_tracker):
        with contextlib.suppress(AttributeError, OSError):
            server._stop()


def _modules(cells: list[Cell]) -> list[str]:
    """Where the components of ``cells`` are defined, ours only: a user's own code is imported when a cell needs it."""
    targets = set()
    for cell in cells:
        pools = cell.config["pool"] if isinstance(cell.config["pool"], list) else [cell.config["pool"]]
        targets |= {block["_target_"] for block in [*pools, *(cell.config[group] for group in COMPONENTS[1:])]}
    tables = {"poolbench.pooling": POOLS, "poolbench.heads": HEADS, "poolbench.models": MODELS, "poolbench.data": DATA}
    modules = set()
    for target in targets:
        package, _, name = target.rpartition(".")
        if package in tables:
            modules |= {
                place.partition(":")[0] for place in tables[package].table.values() if place.endswith(f":{name}")
            }
    return sorted(modules)


def _start(context: Any, function: Any, *arguments: Any) -> tuple[BaseProcess, Any]:
    for attempt in range(_STARTS):
        try:
            return _start_once(context, function, *arguments)
        except (EOFError, ConnectionError):  # the server of the forks was killed; the next start makes another one
            if attempt == _STARTS - 1:
                message = f"no worker could be started in {_STARTS} attempts: their server dies (out of memory?)"
                raise OSError(message) from None
            time.sleep(POLL_SECONDS)
    raise AssertionError("there is at least one attempt")


def _start_once(context: Any, function: Any, *arguments: Any) -> tuple[BaseProcess, Any]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(theirs, *arguments), daemon=True)
    # The server of the forks loads torch for seconds, and Ctrl-C in a terminal reaches it too: it shall not die of it
    # with a traceback. The mask is inherited.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        with _no_main():
            process.start()
    finally:
        if masked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        theirs.close()
    return process, ours


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Hide the script that started this sweep. A worker would run it once more on its way in, although it needs
    nothing of it; and should the package be updated while the sweep runs, it would run another version's."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def prepare(cells: list[Cell]) -> None:
    """Check each distinct config and have the data ready here. Raises: CellsRefused."""
    _check_and_prepare(_context(cells), cells)


def _check_and_prepare(context: Any, cells: list[Cell]) -> tuple[str, int]:
    """Check each distinct config and have the data ready, in a process of its own: this one does without torch.

    Returns: the kind of the accelerators to use, and their number; 0 for the CPU.
    """
    distinct = {digest({k: v for k, v in c.config.items() if k not in ("seed", "run_id")}): c.config for c in cells}
    process, pipe = _start(context, _check, list(distinct.values()))
    try:
        word, answer = pipe.recv()
    except EOFError:
        process.join()
        raise CellsRefused(f"checking the cells ended with exit code {process.exitcode}") from None
    process.join()
    if word == "refused":
        raise CellsRefused(answer)
    return answer


def _check(pipe: Any, configs: list[dict[str, Any]]) -> None:
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the sweep ends its workers itself
    import torch

    from poolbench import accelerator
    from poolbench.assembly import assemble
    from poolbench.data.base import DataError

    torch.set_num_threads(1)
    prepared = set()
    try:
        for config in configs:
            try:
                parts = assemble(config)
                key = repr(config["data"])
                if key not in prepared:
                    prepared.add(key)
                    parts.source.prepare()
            except (ValueError, DataError) as error:
                pools = config["names"]["pool"]
                pipe.send(("refused", f"{pools} in {config['names']['model']}: {error}"))
                return
            except Exception as error:  # a user's own component may raise anything
                pipe.send(("refused", f"{config['names']['pool']} in {config['names']['model']}: {error!r}"))
                return
        pipe.send(("accelerators", accelerator.shared({config["trainer"]["device"] for config in configs})))
    finally:
        pipe.close()


def _work(pipe: Any, config: dict[str, Any], code: dict[str, Any], threads: int, device: str | None) -> None:
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path(config["runs_dir"]) / config["run_id"]
    try:
        # What torch or a user's component prints belongs to the cell, not into the middle of the table on screen.
        with files.logged(folder):
            from poolbench.cell import train_cell

            pipe.send((train_cell(config, code, threads, device), ""))
    except OSError as error:
        pipe.send((FAILED, files.os_reason(error)))
    finally:
        pipe.close()


def _outcome(process: BaseProcess, pipe: Any, cell: Cell) -> tuple[str, str]:
    """How the cell ended; a process that ended without a word leaves a failed record all the same."""
    process.join()
    # The server of the forks was killed and took the knowledge of its children along: this one is at work all the same.
    if not pipe.poll(0) and cell.state() == RUNNING:
        return "busy", ""
    with contextlib.suppress(EOFError, OSError):
        state, reason = pipe.recv()
        return state, reason or (failure_reason(cell) if state == FAILED else "")
    if cell.state() == DONE:  # it was killed after its last word
        tidy(cell.folder)
        return DONE, ""
    code = process.exitcode or 0
    reason = f"the process was ended by signal {-code}" if code < 0 else f"the process ended with exit code {code}"
    if code == -9:
        reason += " (out of memory?)"
    status = {
        "schema_version": SCHEMA_VERSION,
        "run_id": cell.run_id,
        "state": FAILED,
        "epoch": None,
        "epochs": cell.trainer.epochs,
        "error": reason,
        "updated": now(),
    }
    own = Ownership(cell.folder)
    with contextlib.suppress(OSError):
        if not own.acquire():
            return "busy", ""  # another sweep has it by now
        try:
            files.write_json(cell.folder / "status.json", {**(read_status(cell.folder) or {}), **status})
        finally:
            own.release()
    return FAILED, reason


def read_status(folder: Path) -> dict[str, Any] | None:
    """What ``status.json`` in ``folder`` says now, or None."""
    try:
        return parsed_json(read_bytes(folder / "status.json", inside=folder))
    except (OSError, ValueError):
        return None


def failure_reason(cell: Cell) -> str:
    """Why the cell failed, as its record says."""
    return str((read_status(cell.folder) or {}).get("error") or "no reason is recorded")


def is_lasting(cell: Cell) -> bool:
    """Whether the cell failed for a reason that trying again would not change, as a loss that is no number."""
    return bool((read_status(cell.folder) or {}).get("lasting"))


def _end_with_parent() -> None:
    """End this process as soon as the sweep that started it is gone, whatever it is doing."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
