"""A cell: who owns its folder, how it gets on, and what came of it. The training itself is a session."""

import os
import platform
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from poolbench.data.base import DataError
from poolbench.records import files
from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.ownership import HEARTBEAT_SECONDS, Ownership, set_aside
from poolbench.records.state import DAMAGED, DONE, record_state
from poolbench.records.times import now
from poolbench.session import Desk, Session, UselessCheckpoint
from poolbench.training.loop import TrainingFailed

Announce = Callable[[dict[str, Any]], None]  # takes what status.json holds


def train_cell(
    config: dict[str, Any],
    code: dict[str, Any],
    threads: int | None = None,
    device: str | None = None,
    announce: Announce = lambda status: None,
) -> str:
    """Train the cell that ``config`` names, or go on where it was killed, and leave its record.

    Args:
        config: completed, with ``run_id``.
        code: what :func:`poolbench.records.environment.code_version` said when the program started.
        threads, device: what ``null`` and ``auto`` in the config stand for here.
        announce: gets each status as it is written.
    Returns: ``done``, ``failed`` (the record says why) or ``busy`` (another process has the cell).
    Raises: OSError when the record cannot be written.
    """
    folder = Path(config["runs_dir"]) / config["run_id"]
    folder.mkdir(parents=True, exist_ok=True)
    ownership = Ownership(folder)
    if not ownership.acquire():
        return "busy"
    with _heartbeat(ownership):
        try:
            state = record_state(folder)
            if state != DAMAGED:
                files.sweep_temporaries(folder)
            if state == DONE:
                return "done"
            if state != DAMAGED:
                with suppress(UselessCheckpoint):
                    return _Attempt(ownership, config, announce).run(code, threads, device)
            if not ownership.holds():  # while we slept another process began anew
                return "busy"
            aside = set_aside(folder)
        finally:
            ownership.release()
    announce({"state": "damaged", "run_id": config["run_id"], "error": f"set aside as {aside.name}"})
    return train_cell(config, code, threads, device, announce)


class _Attempt:
    """One attempt at a cell, by the owner of its folder."""

    def __init__(self, ownership: Ownership, config: dict[str, Any], announce: Announce):
        self.ownership, self.folder, self.config, self.announce = ownership, ownership.folder, config, announce
        self.status: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": config["run_id"],
            "state": "running",
            "epoch": 0,
            "epochs": config["trainer"]["epochs"],
            "share_done": None,
            "train_accuracy": None,
            "seconds_left": None,
            "images_per_second": None,
            "error": None,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": now(),
            "updated": now(),
        }

    def run(self, code: dict[str, Any], threads: int | None, device: str | None) -> str:
        try:
            files.write_yaml(self.folder / "config.yaml", self.config, self._check_ownership)
            self._tell()
            desk = Desk(self.folder, self._check_ownership, self._tell, code, threads, device)
            result = Session(self.config, desk).run()
            # The last file, since it is what makes a cell done.
            files.write_json(self.folder / "result.json", result, guard=self._check_ownership)
        except UselessCheckpoint:
            raise
        except _OwnershipLost:
            return "busy"
        except Exception as error:
            return self._failed(error)
        with suppress(OSError, _OwnershipLost):  # the cell is done all the same
            self._tell(state="done", epoch=self.status["epochs"], share_done=1.0, seconds_left=0.0)
            (self.folder / "error.txt").unlink(missing_ok=True)
        return "done"

    def _failed(self, error: Exception) -> str:
        """Leave word of ``error`` in the record. Raises: it, where nothing can be written."""
        if not self.ownership.holds():
            return "busy"
        reason = str(error) if isinstance(error, TrainingFailed | ValueError | DataError) else repr(error)
        if isinstance(error, OSError):
            reason = files.os_reason(error)
        with suppress(OSError, _OwnershipLost):
            text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
            files.write_text(self.folder / "error.txt", text, durable=False, guard=self._check_ownership)
        with suppress(_OwnershipLost):
            self._tell(state="failed", error=reason, lasting=isinstance(error, TrainingFailed))
        if isinstance(error, OSError):
            raise error
        return "failed"

    def _check_ownership(self) -> None:
        """Called right before each file takes its place, so that an owner that slept and was passed over changes
        nothing any more."""
        if not self.ownership.holds():
            raise _OwnershipLost

    def _tell(self, **news: Any) -> None:
        self.status |= {**news, "updated": now()}
        # A status that cannot be written is no reason to stop: the checkpoint and the result are.
        with suppress(OSError):
            files.write_json(self.folder / "status.json", self.status, durable=False, guard=self._check_ownership)
        with suppress(OSError):  # nor is a terminal that was closed
            self.announce(dict(self.status))


class _OwnershipLost(Exception):
    """Another process took this one for dead and has the cell now."""


@contextmanager
def _heartbeat(ownership: Ownership) -> Iterator[None]:
    """Show every few seconds that the owner lives, from a thread of its own: loading and evaluating take their time."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            ownership.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
