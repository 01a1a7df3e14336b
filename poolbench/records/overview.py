"""How cells are getting on, from their folders alone: a row for each, and what that comes to in all."""

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from poolbench.foreign import Unreadable, parsed_yaml, read_bytes
from poolbench.records.files import os_reason
from poolbench.records.labels import cell_name
from poolbench.records.read import RecordError, read_json, read_record
from poolbench.records.state import DAMAGED, DONE, FAILED, INTERRUPTED, NEW, RUNNING, cell_state

QUEUED, SET_ASIDE, UNREADABLE = "queued", "set aside", "unreadable"
STATES = (RUNNING, QUEUED, INTERRUPTED, FAILED, DAMAGED, UNREADABLE, SET_ASIDE, DONE)
FIELDS = (  # beside run_id, name, state and folder
    *("epoch", "epochs", "share_done", "train_accuracy", "seconds_left", "test_accuracy", "error"),
    *("images_per_second", "cell_seconds", "finished", "host"),
)
_WINDOW = 3600.0  # seconds before the last end in which ends are counted
_LEAST_WINDOW = 10.0  # seconds; less says nothing of an hour

Row = dict[str, Any]


def folder_rows(runs_dir: Path, known: MutableMapping[str, Row] | None = None) -> list[Row]:
    """A row for each cell in ``runs_dir`` and for each record set aside there, by name.

    Args:
        known: rows of cells that were done at an earlier look, which are not read again; new ones are added to it.
    """
    rows = []
    for path in sorted(runs_dir.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if ".damaged-" in path.name:
            rows.append(_row(path, SET_ASIDE))
        elif (row := cell_row(path, known))["state"] != QUEUED:
            rows.append(row)
    return rows


def cell_row(folder: Path, known: MutableMapping[str, Row] | None = None) -> Row:
    """What is known of the cell in ``folder``; ``queued`` where there is no such cell yet."""
    known = {} if known is None else known
    if str(folder) in known:
        return known[str(folder)]
    try:
        state = cell_state(folder)
        if state == NEW:
            return _row(folder, QUEUED)
        if state == DONE:  # read whole just now, so this part is sound
            known[str(folder)] = _done(folder, read_json(folder / "result.json") or {})
            return known[str(folder)]
        record = read_record(folder)
    except RecordError as error:
        # Of a cell that has just begun not even the config is written.
        return _row(folder, state, {"error": None if state == RUNNING else str(error)})
    except OSError as error:
        return _row(folder, UNREADABLE, {"error": os_reason(error)})
    if state == DAMAGED:
        return _row(folder, state, {"error": f"it lies in the folder of {record.run_id!r}'s name"})
    if record.result is not None:  # it ended between the two looks
        return _done(folder, record.result)
    status = {"epoch": 0, "epochs": record.config["trainer"].get("epochs"), **(record.status or {})}
    if state != RUNNING:
        status |= {"seconds_left": None, "images_per_second": None}  # of then, not of now
    return _row(folder, state, status)


def share_done(status: Mapping[str, Any]) -> float:
    """How much of its training is behind a cell, from 0 to 1, by its ``status.json`` or its row.

    By FLOPs, since epochs differ where images grow or are left out; by epochs where that is not told.
    """
    share, epoch, epochs = status.get("share_done"), status.get("epoch"), status.get("epochs")
    if share is None:
        share = (epoch or 0) / epochs if epochs else 0.0
    return min(1.0, max(0.0, share))


def _done(folder: Path, result: Mapping[str, Any]) -> Row:
    return _row(folder, DONE, {**result, "epoch": result.get("epochs"), "share_done": 1.0, "seconds_left": 0.0})


def _row(folder: Path, state: str, values: Mapping[str, Any] | None = None) -> Row:
    row = {"run_id": folder.name, "name": _name(folder), "state": state, "folder": str(folder)}
    return {**row, **{name: (values or {}).get(name) for name in FIELDS}}


def _name(folder: Path) -> str | None:
    """What the cell in ``folder`` is called where people read it; None where its config does not tell."""
    try:
        config = parsed_yaml(read_bytes(folder / "config.yaml", inside=folder))
        return cell_name(config)
    except (OSError, Unreadable, KeyError, TypeError, AttributeError):
        return None  # it has just begun, or it is broken


def totals(rows: Iterable[Row], kinds: Mapping[str, str] | None = None, at_once: int = 1) -> dict[str, Any]:
    """What ``rows`` come to.

    Args:
        rows: as :func:`folder_rows` gives them.
        kinds: ``run_id`` -> a name for what costs the same, as cells that differ in their seed; given for a sweep,
            whose queued and interrupted cells are still to be trained.
        at_once: how many cells will run at once, where none runs now.
    Returns: ``cells``; ``counts``, of each state that there is; ``images_per_second``, of all running cells together
        (None when none says); ``cells_per_hour``, ended in the last hour in which some did; ``seconds_left``, None
        where it cannot be told.
    """
    rows = list(rows)
    counts = Counter(row["state"] for row in rows)
    speeds = [row["images_per_second"] for row in rows if row["state"] == RUNNING and row["images_per_second"]]
    return {
        "cells": len(rows) - counts[SET_ASIDE],
        "counts": {state: counts[state] for state in STATES if counts[state]},
        "images_per_second": sum(speeds) if speeds else None,
        "cells_per_hour": _cells_per_hour(rows),
        "seconds_left": _seconds_left(rows, kinds, at_once),
    }


def _cells_per_hour(rows: Iterable[Row]) -> float | None:
    spans = []
    for row in rows:
        if row["state"] == DONE and (end := _moment(row["finished"])) is not None and row["cell_seconds"] is not None:
            spans.append((end - row["cell_seconds"], end))
    if not spans:
        return None
    last = max(end for _, end in spans)
    first = max(last - _WINDOW, min(start for start, _ in spans))
    if last - first < _LEAST_WINDOW:  # records tell whole seconds
        return None
    return 3600 * sum(end > first for _, end in spans) / (last - first)


def _moment(text: Any) -> float | None:
    """Seconds since 1970 of a record's time of day, None where it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _seconds_left(rows: list[Row], kinds: Mapping[str, str] | None, at_once: int) -> float | None:
    running = [row for row in rows if row["state"] == RUNNING]
    waiting = [row for row in rows if kinds is not None and row["state"] in (QUEUED, INTERRUPTED)]
    if not running and not waiting:
        return None if kinds is None else 0.0
    kinds = kinds or {}
    cost = _costs(rows, kinds)
    left = []
    for row in [*running, *waiting]:
        if row["state"] == RUNNING and row["seconds_left"] is not None:
            left.append(row["seconds_left"])
        elif cost:
            left.append(cost.get(kinds.get(row["run_id"]), cost[None]) * (1 - share_done(row)))
        else:
            return None
    # No cell ends before its own time is up, however many others run beside it.
    return max(sum(left) / (len(running) or at_once), max(left))


def _costs(rows: Iterable[Row], kinds: Mapping[str, str]) -> dict[str | None, float]:
    """Kind -> seconds that a cell of it takes, None -> any cell; from done cells, or before there are, running ones."""
    seconds: dict[str | None, list[float]] = {}
    for state in (DONE, RUNNING):
        for row in rows:
            took = row["cell_seconds"] if state == DONE else _foreseen(row)
            if row["state"] == state and took is not None:
                seconds.setdefault(kinds.get(row["run_id"]), []).append(took)
        if seconds:
            break
    if not seconds:
        return {}
    return {
        **{kind: fmean(took) for kind, took in seconds.items()},
        None: fmean(each for took in seconds.values() for each in took),
    }


def _foreseen(row: Row) -> float | None:
    share = share_done(row)
    return row["seconds_left"] / (1 - share) if row["seconds_left"] is not None and share < 1 else None
