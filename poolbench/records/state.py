"""How far a cell is, from its folder alone."""

from pathlib import Path

from poolbench.records.read import RecordError, read_record
from poolbench.records.store import current_claim, is_alive

NEW, RUNNING, INTERRUPTED, FAILED, DONE, DAMAGED = "new", "running", "interrupted", "failed", "done", "damaged"


def record_state(folder: Path) -> str:
    """One of the states above, the owner of the folder's claim not considered (see :func:`cell_state`).

    Raises: OSError when the files are there and cannot be read now.
    """
    if not (folder / "config.yaml").exists() and not (folder / "result.json").exists():
        return NEW
    try:
        record = read_record(folder)
    except RecordError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise cause from error  # a disk or network that fails has damaged nothing
        return DAMAGED
    if record.config.get("run_id") != folder.name:  # the last line of the file: without it the end is missing
        return DAMAGED
    if record.result is not None:
        return DONE
    if (record.status or {}).get("state") == "failed":
        return FAILED
    return INTERRUPTED


def cell_state(folder: Path) -> str:
    """State of the cell in ``folder``: ``running`` while a live process owns it."""
    state = record_state(folder)
    if state == DONE:
        return DONE
    number, owner = current_claim(folder)
    if owner is not None and is_alive(owner, folder / f"claim.{number}"):
        return RUNNING
    return state
