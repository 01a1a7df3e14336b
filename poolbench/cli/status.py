"""Show what is done, running, failed and interrupted in a folder of records."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from poolbench.cli.words import duration, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs_dir", nargs="?", type=Path, default=Path("runs"), help="folder of records (runs)")
    parser.add_argument("--json", action="store_true", help="one object a cell, for scripts")


def main(arguments: argparse.Namespace) -> int:
    runs_dir = arguments.runs_dir
    if not runs_dir.is_dir():
        raise ValueError(f"there is no folder {runs_dir}: nothing was trained here, or runs_dir= was another")
    rows = [row for path in sorted(runs_dir.iterdir()) if path.is_dir() and (row := _row(path)) is not None]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        if row["state"] == "running" and row["epochs"]:
            tail = (
                f"epoch {row['epoch']:.1f}/{row['epochs']}  train {percent(row['train_accuracy'])}  "
                f"{duration(row['seconds_left'])} left"
            )
        elif row["state"] == "done":
            tail = f"test {percent(row['test_accuracy'])}"
        else:
            tail = row["error"] or (f"epoch {row['epoch']:.1f}/{row['epochs']}" if row["epochs"] else "")
        print(f"{row['state']:<12}{row['run_id']:<44}  {tail}".rstrip())
    counts = Counter(row["state"] for row in rows)
    print(f"{len(rows)} cells: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    return 0


def _row(folder: Path) -> dict[str, Any] | None:
    from poolbench.records.read import RecordError, read_record
    from poolbench.records.state import NEW, cell_state

    if folder.name.startswith("."):
        return None
    row: dict[str, Any] = dict.fromkeys(("epoch", "epochs", "train_accuracy", "seconds_left", "test_accuracy", "error"))
    if ".damaged-" in folder.name:
        return {"run_id": folder.name, "state": "set aside", **row}
    state = cell_state(folder)
    if state == NEW:
        return None
    try:
        record = read_record(folder)
    except RecordError as error:
        return {"run_id": folder.name, "state": state, **row, "error": str(error)}
    known = {**(record.status or {}), **(record.result or {})}
    known["epoch"] = known.get("epoch") or 0.0
    return {"run_id": folder.name, "state": state, **{key: known.get(key) for key in row}}
