"""Reading records: run directories, folders of them and archives; a broken one never hides the others."""

import csv
import json
import math
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.kinds import sound_status, wrong_kind, wrong_value
from poolbench.records.printable import printable

ARCHIVE = "records.jsonl"
_DAMAGED = re.compile(r"\.damaged-\d+$")
_MEMBERS = ("config.yaml", "status.json", "result.json")  # Any of these makes a folder a record.
_LARGEST_FILE = 64 << 20  # bytes; what a cell leaves is a thousand times smaller, what somebody sends may be anything
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times quicker, where it was built in.


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
    """

    run_id: str
    path: Path
    config: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    metrics: list[dict[str, int | float | None]] = field(default_factory=list)

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
        )
    )


def read_records(paths: str | Path | Iterable[str | Path]) -> tuple[list[Record], list[Problem]]:
    """Read every record under ``paths``: folders of run directories, run directories and archives, in any mixture.

    Folders that hold no record, hidden ones and those set aside as ``<run_id>.damaged-N`` are passed over. A run_id met
    twice gives one record: the finished one; of two finished ones with different results the earlier, and a problem.

    Returns: the records sorted by run_id, and a problem for each place that could not be read.
    Raises: ValueError when the records are of several schema versions, or of one that this code does not know.
    """
    problems: list[Problem] = []
    kept: dict[str, Record] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for found in _records_at(Path(path)):
            if isinstance(found, Problem):
                problems.append(found)
            elif found.run_id not in kept:
                kept[found.run_id] = found
            else:
                kept[found.run_id], problem = _merged(kept[found.run_id], found)
                problems += [problem] if problem else []
    records = [kept[run_id] for run_id in sorted(kept)]
    _refuse_other_schemas(records)
    return records, problems


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
    found = False
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and not _DAMAGED.search(child.name) and _is_record(child):
            found = True
            yield _record_or_problem(child)
    if (path / ARCHIVE).is_file():
        found = True
        yield from archived(path / ARCHIVE)
    if not found:
        yield Problem(path, f"holds no record and no {ARCHIVE}")


def _is_record(path: Path) -> bool:
    return any((path / member).is_file() for member in _MEMBERS)


def _record_or_problem(path: Path) -> Record | Problem:
    try:
        return read_record(path)
    except RecordError as error:
        return Problem(path, str(error))


def archived(path: Path) -> Iterator[Record | Problem]:
    """The lines of the archive ``path``, each a record or a problem."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        yield Problem(path, error.strerror or str(error))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _from_archive(path, line)
        except RecordError as error:
            yield Problem(path, f"line {number}: {error}")


def _from_archive(path: Path, line: bytes) -> Record:
    content = _mapping(lambda: json.loads(line), "this line")
    for key in ("run_id", "config"):
        if key not in content:
            raise RecordError(f"{key} is missing")
    rows = content.get("metrics") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError("metrics is not a list of rows")
    members = {key: content.get(key) for key in ("config", "environment", "result", "status")}
    for key, value in members.items():
        if value is not None and not isinstance(value, dict):
            raise RecordError(f"{key} is not a mapping")
    members["environment"] = members["environment"] or {}
    return _checked(Record(run_id=str(content["run_id"]), path=path, metrics=rows, **members))


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
    if result is not None:
        unread = config["trainer"].get("test") is False and result.get("test_accuracy") is None
        if not unread and not isinstance(result.get("test_accuracy"), int | float):
            raise RecordError(f"result: test_accuracy is {result.get('test_accuracy')!r}, not a number")
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
        return first, None
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


def _refuse_other_schemas(records: Iterable[Record]) -> None:
    places: dict[int, Path] = {}
    for record in records:
        for part in (record.result, record.status):
            if part is not None:
                places.setdefault(part["schema_version"], record.path)
    if len(places) > 1:
        shown = ", ".join(f"{version} ({places[version]})" for version in sorted(places))
        raise ValueError(f"records of several schema versions cannot be mixed: {shown}; report them apart")
    for version, path in places.items():
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path}: schema_version is {version}, this poolbench reads {SCHEMA_VERSION}")


def _mapping(parse: Any, name: str) -> dict[str, Any]:
    """What ``parse()`` gives. Raises: RecordError naming ``name`` unless it is a mapping."""
    try:
        content = parse()
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: JSON, and bytes that are no UTF-8.
        first_line = " ".join(str(error).split())
        raise RecordError(f"{name} cannot be parsed: {first_line}") from error
    except FileNotFoundError as error:
        raise RecordError(f"{name} is missing") from error
    except OSError as error:
        raise RecordError(f"{name}: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{name} is {'empty' if content is None else 'not a mapping'}")
    if reason := wrong_value(content):
        raise RecordError(f"{name} {reason}")
    return content


def _yaml(path: Path) -> dict[str, Any]:
    return _mapping(lambda: yaml.load(_content(path), Loader=_YAML_LOADER), path.name)


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in ``path``, None when there is no such file."""
    return _mapping(lambda: json.loads(_content(path)), path.name) if path.exists() else None


def _content(path: Path) -> bytes:
    """All of ``path``. Raises: OSError; ValueError for what is too long, or no file, as a pipe without a writer."""
    found = path.stat()
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) or found.st_size > _LARGEST_FILE:
        raise ValueError("no file of a record" if found.st_size <= _LARGEST_FILE else f"{found.st_size:,} bytes long")
    return path.read_bytes()


def _metrics(path: Path, finished: bool) -> list[dict[str, int | float | None]]:
    """Rows of ``path``; None where a field is empty. A running cell's last row may be half written: it is dropped."""
    try:
        text = _content(path).decode()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from error
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
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
            rows.append({name: _number(name, text) for name, text in zip(names, fields, strict=True)})
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path.name}: line {reader.line_num}: {error}") from error
    return rows


def _number(name: str, text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if name == "epoch" else float(text)
