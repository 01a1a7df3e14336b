"""Reading records: run directories, folders of them and archives; a broken one never hides the others."""

import csv
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poolbench.foreign import Unreadable, opened, parsed_json, read_bytes, read_text
from poolbench.records.config_text import parsed_config
from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.kinds import sound_status, wrong_kind
from poolbench.records.later import PATTERN as PROBES
from poolbench.records.later import numbers_of, wrong_later
from poolbench.records.outcomes import FILE as OUTCOMES
from poolbench.records.outcomes import wrong_outcomes
from poolbench.records.printable import printable

ARCHIVE = "records.jsonl"
_DAMAGED = re.compile(r"\.damaged-\d+$")
_MEMBERS = ("config.yaml", "status.json", "result.json")  # Any of these makes a folder a record.
_MOST_TOLD = 20  # problems; the rest is counted
_LONGEST_LINE = 4_000_000  # bytes of a line of an archive; ours have 10,000


class RecordError(ValueError):
    """A record that cannot be read; the text is the reason, in one line, without the path."""


@dataclass(frozen=True)
class Record:
    """What one cell left behind.

    Args:
        run_id: the cell's name.
        path: its directory, or the archive that holds it.
        config: the completed config.
        environment: where it ran; empty when a cell has not come so far.
        result: the flat result, None for a cell that has not finished.
        status: the last status, None when there is none.
        metrics: one row per epoch; an empty field of the CSV is None.
        outcomes: which test images were right, see :mod:`poolbench.records.outcomes`; None in records of before.
        probes: what was read of its checkpoint later, see :mod:`poolbench.records.later`.
    """

    run_id: str
    path: Path
    config: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    metrics: list[dict[str, int | float | None]] = field(default_factory=list)
    outcomes: dict[str, Any] | None = None
    probes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, Any]:
        """What the result holds, and whatever was read later under other names; empty before the end."""
        return {**numbers_of(self.probes), **self.result} if self.result is not None else {}

    @property
    def state(self) -> str:
        """``done`` when there is a result, else what the status says (``running``, ``failed``), else ``unknown``."""
        if self.result is not None:
            return "done"
        said = (self.status or {}).get("state")
        return said if said in ("running", "failed") else "unknown"


@dataclass(frozen=True)
class Problem:
    """A place that could not be read, and why, in one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        reason = printable(self.reason)
        return f"{printable(self.path)}: {reason if len(reason) <= 400 else f'{reason[:397]}...'}"


def told(problems: Sequence[Problem]) -> Iterator[str]:
    """A line each, and how many more there are where they are many."""
    yield from map(str, problems[:_MOST_TOLD])
    if len(problems) > _MOST_TOLD:
        yield f"and {len(problems) - _MOST_TOLD:,} more"


def read_record(path: str | Path) -> Record:
    """Read the run directory ``path``. Raises: RecordError when a file is missing, torn or contradicts another."""
    path = Path(path)
    result = read_json(path / "result.json")  # First: when it is there, all the other files are complete.
    config = _yaml(path / "config.yaml")
    finished = result is not None
    environment = read_json(path / "environment.json")
    if finished and environment is None:
        raise RecordError("environment.json is missing")
    metrics = _metrics(path / "metrics.csv", finished)
    if finished and not metrics and result.get("epochs") != 0:
        raise RecordError("metrics.csv is missing or empty")
    return _checked(
        Record(
            run_id=str(config.get("run_id", path.name)),
            path=path,
            config=config,
            environment=environment or {},
            result=result,
            status=_status(path / "status.json", str(config.get("run_id", path.name))),
            metrics=metrics,
            outcomes=read_json(path / OUTCOMES) if finished else None,
            probes=[one for file in sorted(path.glob(PROBES)) if (one := read_json(file))] if finished else [],
        )
    )


def read_records(paths: str | Path | Iterable[str | Path]) -> tuple[list[Record], list[Problem]]:
    """Read every record under ``paths``: folders of run directories, run directories and archives, in any mixture.

    Folders that hold no record, hidden ones and those set aside as ``<run_id>.damaged-N`` are passed over. A run_id met
    twice gives one record: the finished one; of two finished ones with different results the earlier, and a problem.

    Returns: the records sorted by run_id, and a problem for each place that could not be read, as one of a schema
        version that this code does not know.
    """
    problems: list[Problem] = []
    kept: dict[str, Record] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for found in _records_at(Path(path)):
            if isinstance(found, Problem):
                problems.append(found)
            elif (version := _other_schema(found)) is not None:
                reason = f"schema_version is {version}, this poolbench reads {SCHEMA_VERSION}"
                problems.append(Problem(found.path, f"{found.run_id}: {reason}" if found.path.is_file() else reason))
            elif found.run_id not in kept:
                kept[found.run_id] = found
            else:
                kept[found.run_id], problem = _merged(kept[found.run_id], found)
                problems += [problem] if problem else []
    return [kept[run_id] for run_id in sorted(kept)], problems


def _records_at(path: Path) -> Iterator[Record | Problem]:
    """Whatever ``path`` holds: one record, the records one level below, or the lines of an archive."""
    if path.is_file():
        yield from archived(path)
        return
    if not path.is_dir():
        yield Problem(path, "no such file or folder")
        return
    if _is_record(path):
        yield _record_or_problem(path)
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        yield Problem(path, error.strerror or str(error))
        return
    found = False
    for name in names:
        if not name.startswith(".") and not _DAMAGED.search(name) and _is_record(path / name):
            found = True
            yield _record_or_problem(path / name)
    if (path / ARCHIVE).is_file():
        found = True
        yield from archived(path / ARCHIVE)
    if not found:
        yield Problem(path, f"holds no record and no {ARCHIVE}")


def _is_record(path: Path) -> bool:
    """Whether ``path`` is the folder of a record, or one that nobody lets us look into, which may be."""
    try:
        return stat.S_ISDIR(path.stat().st_mode) and any(member in os.listdir(path) for member in _MEMBERS)
    except PermissionError:
        return True
    except OSError:
        return False


def _record_or_problem(path: Path) -> Record | Problem:
    try:
        return read_record(path)
    except RecordError as error:
        return Problem(path, str(error))
    except OSError as error:
        return Problem(path, error.strerror or str(error))


def archived(path: Path) -> Iterator[Record | Problem]:
    """The lines of the archive ``path``, each a record or a problem."""
    number = 0
    try:
        with opened(path) as file:
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    yield Problem(
                        path, f"line {number} has over {_LONGEST_LINE:,} bytes; from there on nothing is read"
                    )
                    return
                if line.strip():
                    try:
                        yield _from_archive(path, line)
                    except RecordError as error:
                        yield Problem(path, f"line {number}: {error}")
    except OSError as error:
        yield Problem(path, error.strerror or str(error))


def _from_archive(path: Path, line: bytes) -> Record:
    members = _mapping(lambda: parsed_json(line), "this line")
    for key in ("run_id", "config"):
        if key not in members:
            raise RecordError(f"{key} is missing")
    rows = members.get("metrics") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError("metrics is not a list of rows")
    parts = {key: members.get(key) for key in ("config", "environment", "result", "status", "outcomes")}
    for key, value in parts.items():
        if not isinstance(value, dict) and not (value is None and key != "config"):
            raise RecordError(f"{key} is not a mapping")
    parts["environment"] = parts["environment"] or {}
    later = members.get("probes") or []
    return _checked(Record(run_id=str(members["run_id"]), path=path, metrics=rows, probes=later, **parts))


def _status(path: Path, run_id: str) -> dict[str, Any] | None:
    """The status, or None when it is torn: it is written every second and nothing hangs on it."""
    try:
        status = read_json(path)
    except RecordError:
        return None
    if status is None or status.get("run_id") != run_id or not isinstance(status.get("schema_version"), int):
        return None
    return status if sound_status(status) else None


def _checked(record: Record) -> Record:
    """``record``, when its parts agree and hold what every reader needs. Raises: RecordError."""
    config, result = record.config, record.result
    for key, kind in {
        "seed": int,
        "pool": (Mapping, list, str),
        "names": Mapping,
        "data": Mapping,
        "trainer": Mapping,
    }.items():
        if not isinstance(config.get(key), kind):
            raise RecordError(f"config: {key} is missing or of the wrong kind")
    if config.get("run_id", record.run_id) != record.run_id:
        raise RecordError(f"config: run_id is {config['run_id']!r}, the record is called {record.run_id!r}")
    for name, part in {"result": result, "status": record.status}.items():
        if part is None:
            continue
        if part.get("run_id") != record.run_id:
            raise RecordError(f"{name}: run_id is {part.get('run_id')!r}, the config's is {record.run_id!r}")
        if not isinstance(part.get("schema_version"), int):
            raise RecordError(f"{name}: schema_version is missing")
    if reason := wrong_kind(record.run_id, config, record.environment, result, record.status, record.metrics):
        raise RecordError(reason)
    if reason := wrong_later(record.probes):
        raise RecordError(reason)
    if result is not None:
        unread = config["trainer"].get("test") is False and result.get("test_accuracy") is None
        if not unread and not isinstance(result.get("test_accuracy"), int | float):
            raise RecordError(f"result: test_accuracy is {result.get('test_accuracy')!r}, not a number")
        if record.outcomes is not None and (reason := wrong_outcomes(record.outcomes, result.get("test_accuracy"))):
            raise RecordError(reason)
        if record.metrics and record.metrics[-1].get("epoch") != result.get("epochs"):
            last = record.metrics[-1].get("epoch")
            raise RecordError(f"metrics end with epoch {last}, the result has {result.get('epochs')} epochs")
    return record


def _merged(first: Record, second: Record) -> tuple[Record, Problem | None]:
    """One of two records of the same cell, and a problem when both finished with different results."""
    if first.result is None or second.result is None:
        finished = [record for record in (first, second) if record.result is not None]
        return (finished or [max(first, second, key=_updated)])[0], None
    if same_content(first.result, second.result):
        more = [one for one in second.probes if not any(same_content(one, own) for own in first.probes)]
        return (replace(first, probes=[*first.probes, *more]) if more else first), None
    early, late = sorted((first, second), key=lambda record: str(record.result.get("finished") or "9"))
    differing = [key for key in early.result if not same_content(early.result[key], late.result.get(key))]
    shown = "".join(f"{key} {early.result[key]} there, {late.result.get(key)} here; " for key in differing[:1])
    return early, Problem(
        late.path,
        f"{late.run_id} has another result than in {early.path}: {shown}the one that finished first is kept",
    )


def _updated(record: Record) -> str:
    return str((record.status or {}).get("updated") or "")


def same_content(a: Any, b: Any) -> bool:
    """Equal as JSON: 2 equals 2.0, and not-a-number equals itself."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_content(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_content, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _other_schema(record: Record) -> int | None:
    """The schema version of ``record`` where it is one that this code does not know."""
    versions = [part["schema_version"] for part in (record.result, record.status) if part is not None]
    return next((version for version in versions if version != SCHEMA_VERSION), None)


def _mapping(parse: Callable[[], Any], name: str) -> dict[str, Any]:
    """What ``parse()`` gives. Raises: RecordError naming ``name`` unless it is a mapping."""
    try:
        members = parse()
    except Unreadable as error:
        raise RecordError(f"{name} {error}") from error
    except FileNotFoundError as error:
        raise RecordError(f"{name} is missing") from error
    except OSError as error:
        raise RecordError(f"{name}: {error.strerror or error}") from error
    if not isinstance(members, dict):
        raise RecordError(f"{name} is {'empty' if members is None else 'not a mapping'}")
    return members


def _yaml(path: Path) -> dict[str, Any]:
    return _mapping(lambda: parsed_config(read_bytes(path, inside=path.parent)), path.name)


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in ``path``, None when there is no such file. Raises: RecordError."""
    return _mapping(lambda: parsed_json(read_bytes(path, inside=path.parent)), path.name) if path.exists() else None


def _metrics(path: Path, finished: bool) -> list[dict[str, int | float | None]]:
    """Rows of ``path``; None where a field is empty. A running cell's last row may be half written: it is dropped."""
    try:
        table = read_text(path, inside=path.parent)
    except FileNotFoundError:
        return []
    except Unreadable as error:
        raise RecordError(f"{path.name} {error}") from error
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from error
    lines = table.splitlines()
    if lines and not table.endswith("\n"):
        if finished:
            raise RecordError(f"{path.name} is cut off in line {len(lines)}")
        lines.pop()
    rows = []
    reader = csv.reader(lines)
    try:
        names = next(reader, [])
        for fields in reader:
            if len(fields) != len(names):
                raise ValueError(f"has {len(fields)} fields instead of {len(names)}")
            rows.append({name: _number(name, field) for name, field in zip(names, fields, strict=True)})
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path.name}: line {reader.line_num}: {error}") from error
    return rows


def _number(name: str, field: str) -> int | float | None:
    if field == "":
        return None
    return int(field) if name == "epoch" else float(field)
