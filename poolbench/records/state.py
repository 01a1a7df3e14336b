"""How far a cell is, from its folder alone."""

from pathlib import Path

from poolbench.records.ownership import is_owned
from poolbench.records.read import RecordError, read_record

NEW, RUNNING, INTERRUPTED, FAILED, DONE, DAMAGED = "new", "running", "interrupted", "failed", "done", "damaged"


def record_state(folder: Path) -> str:
    """One of the states above, whoever owns the folder (see :func:`cell_state`).

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
    return RUNNING if is_owned(folder) else state
