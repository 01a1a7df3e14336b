"""Writing a record: whole files or none."""

import json
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from poolbench.records.processes import place_mark, process_start

Guard = Callable[[], None]  # raises when a file must not take its place any more

_TEMPORARY = re.compile(r"\.(\d+)-([0-9a-f]{4})[0-9a-f]{6}\.tmp$")  # whose, and where it ran


@contextmanager
def replacing(path: Path, durable: bool = True, guard: Guard | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends well; else ``path`` stays as it was.

    Args:
        path: the file; its folder is made if need be.
        durable: wait until the disk has it, so that a power cut cannot leave an empty file behind the name.
        guard: called at the last moment; what it raises leaves ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{place_mark()}{secrets.token_hex(3)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if guard is not None:
            guard()
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:
            raise type(error)(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise


def _sync_folder(folder: Path) -> None:
    """Have the disk know a new name in ``folder``; the name is there for everybody else already."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    with suppress(OSError):  # some network file systems refuse
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str, durable: bool = True, guard: Guard | None = None) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with replacing(path, durable, guard) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, durable: bool = True, guard: Guard | None = None) -> None:
    """Write plain data to ``path`` as JSON, whole or not at all. Raises: ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", durable, guard)


def json_ready(value: Any) -> Any:
    """``value`` with null for what JSON cannot say: a diverged loss is not a number."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(part) for key, part in value.items()}
    if isinstance(value, list):
        return [json_ready(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_yaml(path: Path, value: Any, guard: Guard | None = None) -> None:
    """Write plain data to ``path`` as YAML, whole or not at all."""
    import yaml

    write_text(path, yaml.safe_dump(value, sort_keys=False), guard=guard)


def write_metrics(path: Path, rows: list[dict[str, Any]], guard: Guard | None = None) -> None:
    """Write ``metrics.csv``, one row an epoch; None becomes an empty field."""
    columns = list(rows[0]) if rows else ["epoch"]
    lines = [",".join(columns)]
    lines += [",".join("" if row[c] is None else repr(row[c]) for c in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n", guard=guard)


def os_reason(error: OSError) -> str:
    """What went wrong and where, without the number."""
    if not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written in ``folder``; only its owner may call this."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sweep_abandoned(folder: Path) -> None:
    """Remove what killed processes of this host left half written in ``folder``, which many may write to."""
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.search(path.name)
        if match and match[2] == place_mark() and process_start(int(match[1])) is None:
            path.unlink(missing_ok=True)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Send what this process prints, torch and a user's component too, to the end of ``log.txt`` in ``folder``, which
    is made if need be; put it back after.

    Raises: OSError, also where a link stands in its place, which may lead to anybody's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    log = os.open(folder / "log.txt", flags, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(log)
