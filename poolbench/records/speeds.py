"""Kept records of `poolbench bench nets`: what nets took in each round, each found by what it computes."""

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.checks import is_number, is_whole
from poolbench.foreign import Unreadable, parsed_json, read_bytes
from poolbench.options import DEFAULTS
from poolbench.records.identity import digest, identity
from poolbench.records.printable import printable
from poolbench.records.read import Problem, RecordError

FILE = "speeds.json"  # beside records it is found without being named
SCHEMA_VERSION = 1  # of such a file; the first ones do not say it
BUSY = 0.5  # load of a core by others, above which milliseconds say little
_WANTED = "it must be what `poolbench bench nets --json FILE` writes"
_LARGEST_FILE = 10_000_000  # bytes; a net takes 3,000 and 100 a round
_NET = ("model", "pool", "head")
_TRAINER = ("channels_last", "precision", "compile")  # what else decides the computation of a pass


@dataclass(frozen=True)
class Timed:
    """A net that was timed: milliseconds of a pass, one for each round, in ``train`` (forward and backward) and in
    ``forward``; ``size`` is the height and width of its images in pixels."""

    train: tuple[float, ...]
    forward: tuple[float, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Speeds:
    """A kept record.

    Args:
        path: its file.
        nets: what a net computes, see :func:`net_of` -> its times.
        rounds: in which each net was timed once; batch: images of a pass, the largest batch that was timed.
        where: the device and its threads, the version of torch and the precision, for people.
        load: of a core, by other processes, before it began; None where that is not known.
    """

    path: Path
    nets: Mapping[str, Timed]
    rounds: int
    batch: int
    where: str
    load: float | None


def net_of(config: Mapping[str, Any], numbers: Mapping[str, Any]) -> str | None:
    """A hash of all that decides what a pass of a net computes, the same for nets that differ in their weights alone.

    The size of the images and the number of classes are in no cell's config, and to ask the data set would be to
    build what a stranger's record names. They are told by the parameters and the FLOPs that they lead to.

    Args:
        config: completed; its ``trainer`` may hold less.
        numbers: of the result, with ``parameters`` and ``forward_flops`` of one image, or ``seen_flops`` where a
            pool says none.
    Returns: None where these are not known.
    """
    flops = numbers.get("forward_flops")
    counts = [numbers.get("parameters"), numbers.get("seen_flops") if flops is None else flops]
    if None in counts:
        return None
    trainer = {**DEFAULTS, **config["trainer"]}
    own = identity({name: config.get(name) for name in _NET})
    return digest([[own[name] for name in _NET], [trainer[name] for name in _TRAINER], counts])


def find_speeds(given: Iterable[str | Path], folders: Iterable[Path]) -> tuple[list[Speeds], list[Problem]]:
    """The records ``given``, then those called ``speeds.json`` in ``folders``, each once.

    Returns: what was read, and a problem for each file of ``folders`` that is no such record.
    Raises: ValueError, as :func:`read_speeds`, for one that is given.
    """
    read = {os.path.realpath(path): read_speeds(path) for path in given}
    problems = []
    for path in dict.fromkeys(folder / FILE for folder in folders):
        if os.path.isfile(path) and os.path.realpath(path) not in read:
            try:
                read[os.path.realpath(path)] = _read(path, inside=path.parent)
            except RecordError as error:
                problems.append(Problem(path, str(error)))
    return list(read.values()), problems


def read_speeds(path: str | Path) -> Speeds:
    """Read the record in the file ``path``. Raises: ValueError naming it, what is wrong, and what it must be."""
    try:
        return _read(Path(path))
    except RecordError as error:
        raise ValueError(f"{printable(path)}: {error}") from error


def quartiles(values: Sequence[float]) -> list[float]:
    """The lower and the upper one; of a single value itself."""
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]


def _read(path: Path, inside: Path | None = None) -> Speeds:
    """Raises: RecordError with the reason, without the path."""
    try:
        content = parsed_json(read_bytes(path, _LARGEST_FILE, inside))
        return _speeds(path, content)
    except OSError as error:
        raise RecordError(f"{error.strerror or error}; {_WANTED}") from error
    except Unreadable as error:
        raise RecordError(f"{printable(error)}; {_WANTED}") from error


def _speeds(path: Path, content: Any) -> Speeds:
    if not isinstance(content, dict):
        raise Unreadable("holds no mapping")
    version = content.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise Unreadable(f"schema_version is {str(version)[:40]}, this poolbench reads {SCHEMA_VERSION}")
    rows = content.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise Unreadable("rows is no list of nets")
    if "settings" not in content and "shape" in rows[0]:
        raise Unreadable("it is a record of `bench pools`, of operators outside of a net")
    settings, machine = (_mapping(content, name, name) for name in ("settings", "machine"))
    rounds, threads = (_whole(settings, name) for name in ("rounds", "threads"))
    batches = settings.get("batches")
    if not isinstance(batches, list) or not batches or not all(is_whole(batch, 1) for batch in batches):
        raise Unreadable("settings: batches is no list of whole numbers")
    nets: dict[str, Timed] = {}
    for number, row in enumerate(rows, start=1):
        if "error" not in row:  # a net that failed has no times
            what = f"row {number} ({str(row.get('pool'))[:40]})"
            net, timed = _timed(what, row, rounds, max(batches), str(settings.get("precision")))
            nets.setdefault(net, timed)
    cpu, device, torch = (str(machine.get(name) or "unknown")[:80] for name in ("cpu", "device", "torch"))
    place = device if settings.get("device") == "cuda" else f"{threads} thread{'s' if threads > 1 else ''} of {cpu}"
    load = settings.get("load_per_core")
    return Speeds(
        path,
        nets,
        rounds,
        max(batches),
        where=printable(f"{place} (torch {torch}, {str(settings.get('precision'))[:20]})"),
        load=load if is_number(load) and 0 <= load < 1e6 else None,
    )


def _timed(what: str, row: Mapping[str, Any], rounds: int, batch: int, precision: str) -> tuple[str, Timed]:
    """What the net of a row computes, and its times."""
    config = _mapping(row, "config", f"{what}: config")
    if absent := [name for name in _NET if name not in config]:
        raise Unreadable(f"{what}: config has no {absent[0]}")
    trainer = {**_mapping(config, "trainer", f"{what}: config.trainer"), "precision": precision, "compile": False}
    size = _mapping(config, "data", f"{what}: config.data").get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(is_whole(side, 1) for side in size):
        raise Unreadable(f"{what}: config.data.size is no height and width in pixels")
    net = net_of({**config, "trainer": trainer}, row)
    if net is None:
        raise Unreadable(f"{what}: parameters or forward_flops is missing")
    forward = row.get("forward")
    passes = forward if isinstance(forward, list) else []
    largest = next((one for one in passes if isinstance(one, dict) and one.get("batch") == batch), {})
    train = _mapping(row, "train", f"{what}: train")
    return net, Timed(
        _rounds(train, rounds, f"{what}: train"),
        _rounds(largest, rounds, f"{what}: forward of {batch}"),
        (size[0], size[1]),
    )


def _mapping(block: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    if not isinstance(block.get(name), dict):
        raise Unreadable(f"{what} is {'no mapping' if name in block else 'missing'}")
    return block[name]


def _whole(settings: Mapping[str, Any], name: str) -> int:
    if not is_whole(settings.get(name), 1):
        raise Unreadable(f"settings: {name} is {str(settings.get(name))[:40]}, not a whole number of at least 1")
    return settings[name]


def _rounds(block: Mapping[str, Any], rounds: int, what: str) -> tuple[float, ...]:
    """Milliseconds of each round."""
    values = block.get("rounds_ms")
    sound = isinstance(values, list) and all(is_number(value) and 0 < value < float("inf") for value in values)
    if not sound or len(values) != rounds:
        count = f"{len(values)} of them" if sound else "none"
        raise Unreadable(f"{what}: rounds_ms must be {rounds} numbers above 0, one for each round, and holds {count}")
    return tuple(map(float, values))
