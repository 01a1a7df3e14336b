"""What must be true of a runs folder when a sweep was disturbed and then ended: each breach as a line of text."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from poolbench.records.identity import cell_hash
from poolbench.records.read import read_records
from poolbench.records.state import DONE, cell_state
from poolbench.training import checkpoint

# What a kill may change: how long things took and how often they were taken up. All else must be equal, bit for bit.
OF_TIME = {
    "train_seconds",
    "cell_seconds",
    "seconds",
    "images_per_second",
    "peak_memory_bytes",
    "resumed",
    "attempts",
    "finished",
}
WHERE = {"runs_dir", "report_dir"}
_ASIDE = re.compile(r"(.+)\.damaged-\d+$")


def violations(runs: Path, undisturbed: Path, damaged: Mapping[str, int], folders: Iterable[Path] = ()) -> list[str]:
    """All that is wrong with ``runs`` after its last sweep.

    Args:
        runs: the disturbed sweep's records.
        undisturbed: the same sweep's records, trained in peace.
        damaged: how many times each cell's files were damaged on purpose.
        folders: where else nothing temporary may be left, as the cache and the report.
    """
    expected = {path.parent.name for path in undisturbed.glob("*/result.json")}
    return [
        *wrong_cells(runs, expected),
        *leftovers([runs, *folders]),
        *unreadable(runs, expected),
        *set_aside_for_nothing(runs, damaged),
        *(line for name in sorted(expected) for line in differences(runs / name, undisturbed / name)),
    ]


def wrong_cells(runs: Path, expected: set[str]) -> list[str]:
    """Cells that are missing, strange or there under two names."""
    there = {path.name for path in runs.iterdir() if path.is_dir() and not _ASIDE.match(path.name)}
    results = Counter(path.parent.name for path in runs.rglob("result.json") if not _ASIDE.match(path.parent.name))
    hashes = Counter(cell_hash(name) for name in there)
    return [
        *(f"{name}: the cell has {results[name]} results instead of one" for name in expected if results[name] != 1),
        *(f"{name}: a folder that the undisturbed sweep does not have" for name in there - expected),
        *(f"{digest}: one cell under {count} names" for digest, count in hashes.items() if count > 1),
    ]


def leftovers(folders: Iterable[Path]) -> list[str]:
    """Temporary files, claims and traces of failures, in done cells and set-aside ones alike."""
    left = []
    for folder in folders:
        for path in folder.rglob("*"):
            hidden = path.name.startswith(".") or path.name.endswith(".tmp")
            if hidden or path.name.startswith("claim."):
                left.append(f"{path}: left over")
            if path.name == "error.txt" and not _ASIDE.match(path.parent.name):
                left.append(f"{path}: tells of a failure, and the cell is done")
    return left


def unreadable(runs: Path, expected: set[str]) -> list[str]:
    """Records that a reader stumbles over, and cells that do not count as done."""
    _, problems = read_records(runs)
    states = {name: cell_state(runs / name) for name in sorted(expected)}
    return [
        *(f"{problem.path}: cannot be read: {problem.reason}" for problem in problems),
        *(f"{name}: is {state}, not done" for name, state in states.items() if state != DONE),
    ]


def set_aside_for_nothing(runs: Path, damaged: Mapping[str, int]) -> list[str]:
    """Records set aside more often than their files were damaged."""
    aside = Counter(match[1] for path in runs.iterdir() if (match := _ASIDE.match(path.name)))
    return [
        f"{name}: set aside {count} times, damaged {damaged.get(name, 0)} times"
        for name, count in aside.items()
        if count > damaged.get(name, 0)
    ]


def differences(cell: Path, undisturbed: Path) -> list[str]:
    """What of a finished cell is not, to the last bit, what it became in peace."""
    found = []
    for name, read in _READERS.items():
        try:
            there, here = read(undisturbed / name), read(cell / name)
        except (OSError, ValueError, yaml.YAMLError) as error:
            found.append(f"{cell / name}: cannot be compared: {error}")
            continue
        found += [f"{cell / name}: {where} differs" for where in _unequal(there, here)]
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_READERS: dict[str, Any] = {
    "config.yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    "result.json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    "metrics.csv": _rows,
    "checkpoint.pt": lambda path: checkpoint.read(path, path.parent.name),
}


def _unequal(a: Any, b: Any, where: str = "") -> list[str]:
    """The places in which ``a`` and ``b`` differ, apart from what measures time and tells places."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [key for key in {**a, **b} if key not in OF_TIME | WHERE]
        missing = [f"{where}/{key}" for key in keys if key not in a or key not in b]
        return missing + [line for k in keys if k in a and k in b for line in _unequal(a[k], b[k], f"{where}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{where} (its length)"]
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in _unequal(x, y, f"{where}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = (
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
        )
        return [] if same else [where]
    return [] if type(a) is type(b) and repr(a) == repr(b) else [where]
