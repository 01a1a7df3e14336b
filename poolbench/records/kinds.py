"""Whether the fields of a record are of the kinds that its readers rely on: a record may be somebody else's."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from poolbench.checks import is_number, is_whole
from poolbench.foreign import wrong_value
from poolbench.options import DEFAULTS, names
from poolbench.records.fields import FIELDS
from poolbench.records.probes import is_share

_LONGEST_NAME = 1000
_LONGEST_RUN_ID = 255  # it is the name of a folder
_LARGEST, _LARGEST_COUNT = 1e30, 2**53  # far beyond what is measured, within what a table's columns hold


def _count(value: Any) -> bool:
    return is_whole(value, 0, _LARGEST_COUNT - 1)


def _seed(value: Any) -> bool:
    return is_whole(value, 0, 2**63 - 1)


def _number(value: Any) -> bool:
    return is_number(value) and -_LARGEST < value < _LARGEST


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _curve_number(value: Any) -> bool:
    """A number of a learning curve: one that diverges passes every bound, and is no reason to hide the record."""
    return is_whole(value, -sys.float_info.max, sys.float_info.max) or isinstance(value, float)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _label(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


_WORDS: dict[Callable[[Any], bool], str] = {
    _count: "a whole number from 0 to 2^53",
    _seed: "a whole number from 0 to 2^63",
    _number: "a finite number",
    _share: "a number from 0 to 1",
    _curve_number: "a number",
    _truth: "true or false",
    _text: "text",
    _label: f"text of at most {_LONGEST_NAME} characters",
}
# Fields that tables, figures and commands read. Each may be missing or null; others may be anything.
_CONFIG = {"seed": _seed}
_TRAINER = {name: _text if isinstance(DEFAULTS[name], str) else _count for name in names(column=True)}
_DATA = {"validation": _share}
_OF_KIND = {"share": _share, "loss": _curve_number, "number": _number, "operations": _number}
_OF_KIND |= {"count": _count, "truth": _truth, "text": _text}
_RESULT = {field.name: _OF_KIND[field.kind] for field in FIELDS.values()}
_ENVIRONMENT = {
    **dict.fromkeys(("fingerprint", "cpu", "capability", "device", "torch", "commit"), _label),
    "threads": _count,
    "allocator_kept": _truth,
    "dirty": _truth,
}
_STATUS = {
    **dict.fromkeys(("state", "host", "started", "updated", "error"), _text),
    **dict.fromkeys(("epoch", "seconds_left", "images_per_second"), _number),
    "epochs": _count,
    **dict.fromkeys(("train_accuracy", "share_done"), _share),
}
_ROW = {"epoch": _count, "train_accuracy": _share, "validation_accuracy": _share}


def wrong_config(run_id: str, config: Mapping[str, Any]) -> str | None:
    """Why a record with this completed config could not be read again, in one line; or None."""
    if reason := wrong_value(dict(config)):
        return f"the config {reason}"
    return wrong_kind(run_id, config, {}, None, None, [])


def wrong_kind(
    run_id: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    status: Mapping[str, Any] | None,
    metrics: list[dict[str, Any]],
) -> str | None:
    """The first field of a record that is not what readers rely on, and what it should be, in one line; or None."""
    if len(run_id) > _LONGEST_RUN_ID or "/" in run_id or "\\" in run_id or "\0" in run_id or run_id in ("", ".", ".."):
        return f"run_id {run_id[:80]!r} is no name for a folder"
    names = dict.fromkeys(config["names"], _label)
    probed = {name: _share for name in result or {} if is_share(name)}
    for part, values, kinds in (
        ("config", config, _CONFIG),
        ("config: names", config["names"], names),
        ("config: trainer", config["trainer"], _TRAINER),
        ("config: data", config["data"], _DATA),
        ("environment", environment, _ENVIRONMENT),
        ("result", result or {}, {**probed, **_RESULT}),
        ("status", status or {}, _STATUS),
    ):
        if reason := _first_wrong(part, values, kinds):
            return reason
    for number, row in enumerate(metrics, start=1):
        kinds = {name: _ROW.get(name, _curve_number) for name in row}
        if reason := _first_wrong(f"metrics: row {number}", row, kinds):
            return reason
    return None


def sound_status(status: Mapping[str, Any]) -> bool:
    """Whether the fields of a status are of the kinds that readers rely on."""
    return _first_wrong("status", status, _STATUS) is None


def _first_wrong(part: str, values: Mapping[str, Any], kinds: Mapping[Any, Callable[[Any], bool]]) -> str | None:
    for name, right in kinds.items():
        value = values.get(name)
        if value is not None and not right(value):
            return f"{part}: {str(name)[:80]} is {_shown(value)}, not {_WORDS[right]}"
    return None


def _shown(value: Any) -> str:
    if is_whole(value) and abs(value) > _LARGEST:
        return "a huge number"  # Python refuses to write out the hugest
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
