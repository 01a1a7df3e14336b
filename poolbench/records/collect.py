"""From records to one tidy table, a row per cell, and to an archive, a line per cell."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from poolbench.dotted import flatten
from poolbench.options import names
from poolbench.records.fields import FIELDS
from poolbench.records.fields import columns as result_columns
from poolbench.records.files import json_ready, write_text
from poolbench.records.groups import group_hash, pool_labels, settings
from poolbench.records.identity import digest
from poolbench.records.labels import label
from poolbench.records.printable import printable
from poolbench.records.read import Record

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("pool", "head", "model", "data", "optimizer", "schedule")
# Column -> where the config has it; epochs comes from the result once there is one.
CONFIG = {**{name: f"trainer.{name}" for name in names(column=True)}, "validation": "data.validation"}
RESULT = result_columns()
ENVIRONMENT = ("fingerprint", "cpu", "capability", "threads", "device", "torch", "allocator_kept", "commit", "dirty")
_PLACES = ("runs_dir", "report_dir", "root")  # options that are paths, the last one of ``data``
STATUS = ("host", "started", "updated", "error")
_WHOLE = ("count", "operations")
_COUNTS = {"seed", "batch_size", "threads", *(field.name for field in FIELDS.values() if field.kind in _WHOLE)}
_TRUTHS = {"allocator_kept", "dirty", *(field.name for field in FIELDS.values() if field.kind == "truth")}
_TEXTS = {field.name for field in FIELDS.values() if field.kind == "text"}


def collect(records: Iterable[Record]) -> "pd.DataFrame":
    """One row a cell, sorted by setting, pool and seed, with the columns of :func:`columns` in a fixed order.

    ``group`` is a short hash of all that cells must share to be compared, ``setting`` the same for people. Where two
    pool configs of one group bear one label, the options that differ are appended to it, so that rows never mix.
    Numbers that a cell does not have, because it has not finished, are NaN, or NA in columns of counts.
    """
    import pandas as pd

    records = list(records)
    configs = [record.config for record in records]
    texts = settings(configs)
    rows = []
    for record, pool in zip(records, pool_labels(configs), strict=True):
        config, group, result = record.config, group_hash(record.config), record.numbers
        row = {
            "run_id": record.run_id,
            "group": group,
            "setting": texts[group],
            "state": record.state,
            "seed": config["seed"],
            **{name: label(config, name) for name in LABELS},
            "pool": pool,
            **{column: _option(config, key) for column, key in CONFIG.items()},
            **{name: record.environment.get(name) for name in ENVIRONMENT},
            **{name: _status(record).get(name) for name in STATUS},
            **{name: result[name] for name in (*RESULT, "epochs") if name in result},
        }
        # What else a result has must not take the place of a column of ours, whatever it calls itself.
        own = {*row, *RESULT, "schema_version"}
        row |= {name: value for name, value in flatten(result).items() if name and name not in own}
        rows.append({printable(name): _shown(value) for name, value in row.items()})
    table = pd.DataFrame(rows, columns=columns(rows))
    for name in table.columns:
        table[name] = _typed(table[name])
    return table.sort_values(["setting", "group", "pool", "seed", "run_id"], ignore_index=True)


def collect_metrics(records: Iterable[Record]) -> "pd.DataFrame":
    """One row an epoch of each *finished* cell: run_id, group, pool and seed as in :func:`collect`, and the metrics."""
    import pandas as pd

    records = list(records)
    rows = []
    for record, pool in zip(records, pool_labels([record.config for record in records]), strict=True):
        if record.result is not None:
            cell = {"group": group_hash(record.config), "pool": pool, "seed": record.config["seed"]}
            cell = {"run_id": record.run_id, **cell}
            rows += [{**row, **{name: _shown(value) for name, value in cell.items()}} for row in record.metrics]
    head = ["run_id", "group", "pool", "seed", "epoch", "train_accuracy", "validation_accuracy"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*head, *(name for row in rows for name in row)])))


def columns(rows: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The table's columns: a fixed list, then, sorted, whatever else results in ``rows`` have (a probe's numbers)."""
    fixed = ["run_id", "group", "setting", "state", "seed", *LABELS, *CONFIG, *RESULT, *ENVIRONMENT, *STATUS]
    return [*fixed, *sorted({name for row in rows for name in row} - set(fixed))]


def write_archive(records: Iterable[Record], path: str | Path) -> None:
    """Write ``records`` as the archive ``path``: a line a cell, sorted by run_id; same records, same bytes.

    It is made to be published: machines are told apart and not named, and of paths that lead out of
    the working folder the last part is left.
    """
    lines = []
    for record in sorted(records, key=lambda record: record.run_id):
        config, _ = _without_places(record.config)
        content = {"run_id": record.run_id, "config": config, "environment": record.environment}
        content |= {"result": record.result, "status": _status(record) or None, "metrics": record.metrics}
        content |= {"outcomes": record.outcomes} if record.outcomes is not None else {}
        content |= {"probes": record.probes} if record.probes else {}
        lines.append(json.dumps(json_ready(content), sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n")
    write_text(Path(path), "".join(lines))


def write_csv(table: "pd.DataFrame", path: str | Path) -> None:
    """Write ``table`` to ``path``: every digit, an empty field where there is no number.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    texts = [name for name in table.columns if table[name].map(lambda value: isinstance(value, str)).any()]
    harmless = table.assign(**{name: table[name].map(_no_formula) for name in texts})
    write_text(Path(path), harmless.rename(columns=_no_formula).to_csv(index=False, lineterminator="\n"))


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _option(config: Mapping[str, Any], key: str) -> Any:
    group, _, name = key.partition(".")
    return config[group].get(name)


def _shown(value: Any) -> Any:
    """A value of the table: text without anything that would do something where it is shown."""
    return printable(value) if isinstance(value, str | list) else value


def _without_places(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``config`` with the last part of each path that leads out of the working folder, which is no part of a cell's
    identity, and what became of which."""
    places: dict[str, str] = {}

    def last_part(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        path = PureWindowsPath(value)  # takes slashes of both kinds
        if not (PurePosixPath(value).is_absolute() or path.drive or ".." in path.parts):
            return value
        return places.setdefault(value, path.name or ".")

    changed = {key: last_part(value) if key in _PLACES else value for key, value in config.items()}
    if isinstance(config.get("data"), dict):
        changed["data"] = {k: last_part(v) if k in _PLACES else v for k, v in config["data"].items()}
    return changed, places


def _status(record: Record) -> dict[str, Any]:
    """The status as it may be published: machines can be told apart and are not named."""
    status = {key: value for key, value in (record.status or {}).items() if key != "pid"}
    if isinstance(status.get("error"), str):
        _, places = _without_places(record.config)
        for place in sorted(places, key=len, reverse=True):
            status["error"] = status["error"].replace(place, places[place])
    host = status.get("host")
    if isinstance(host, str) and not host.startswith("machine-"):
        status["host"] = f"machine-{digest(host)[:6]}"
    return status


def _typed(column: "pd.Series") -> "pd.Series":
    """Counts and truth values stay such when some cells have none; measurements are floats; the rest is as it is."""
    if column.name in _TRUTHS:
        return column.astype("boolean")
    if column.name in _COUNTS:
        if column.dtype.kind == "i":  # a large seed would lose its last digits as a float
            return column.astype("Int64")
        numbers = column.astype("float64")
        known = numbers.dropna()
        return numbers.astype("Int64") if ((known % 1 == 0) & (known.abs() < 2**53)).all() else numbers
    return column.astype("float64") if column.name in RESULT and column.name not in _TEXTS else column
