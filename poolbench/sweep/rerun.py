"""The config of a rerun: that of a record, with what may differ, and what a record may not say, in the user's words."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from poolbench.configuration import COMPONENTS
from poolbench.limits import check
from poolbench.options import names
from poolbench.overrides import parse
from poolbench.records.identity import cell_hash, run_id, with_added
from poolbench.records.read import Record
from poolbench.registry import component

MAY_CHANGE = (
    *("data.root", "data.download", "data.mirrors", "runs_dir"),
    *(f"trainer.{name}" for name in names(counts="never")),
)
_MOST_THREADS = 1024  # a record may say anything


def given_options(overrides: Iterable[str]) -> dict[str, Any]:
    """Option -> value. Raises: ValueError for an option that may not change."""
    given: dict[str, Any] = {}
    for text in overrides:
        override = parse(text)
        key = text.partition("=")[0]
        if key not in MAY_CHANGE:
            raise ValueError(
                f"{key} cannot be changed in a rerun: that would be another cell, for `poolbench run`, or nothing that "
                f"a cell has. What may be changed: {', '.join(MAY_CHANGE)}"
            )
        if key in given:
            raise ValueError(f"{key} is given twice")
        if override.is_sweep_override():
            raise ValueError(f"{text!r}: a rerun takes one value of an option")
        given[key] = override.value()
    return given


def rerun_config(record: Record, given: Mapping[str, Any], into: Path | None) -> dict[str, Any]:
    """The completed config of the rerun of ``record``, whose ``_target_``s the caller has found to be trusted.

    Args:
        record: the old one, perhaps somebody else's.
        given: what :func:`given_options` made of the command line.
        into: the folder for the new record; ``reruns`` when neither it nor ``given`` says.
    Raises: ValueError for a config that is not one of a cell, or is another cell's than it says; DataError.
    """
    old = record.config
    if into is not None and "runs_dir" in given:
        raise ValueError("give either --into or runs_dir=..., which say the same")
    for group in COMPONENTS:
        blocks = old.get(group) if group == "pool" and isinstance(old.get(group), list) else [old.get(group)]
        if not blocks or not all(isinstance(block, dict) and "_target_" in block for block in blocks):
            raise ValueError(f"the record's config has no {group}")
        if not isinstance(old["names"].get(group), str):
            raise ValueError(f"the record's config has no names.{group}")
    config = {key: value for key, value in with_added(old).items() if key != "sweep"}
    config["trainer"] = {**config["trainer"], **_as_before(record.environment)}
    config |= {
        "runs_dir": str(into or given.get("runs_dir", "reruns")),
        "report_dir": "report",
        "data": dict(old["data"]),
    }
    # Where data comes from is for whoever downloads it to say.
    config["data"] |= {"download": False} if "download" in config["data"] else {}
    config["data"].pop("mirrors", None)
    for key, value in given.items():
        group, _, name = key.partition(".")
        if group == "data" and name not in old["data"]:
            raise ValueError(f"{key}: the data of this record, {old['names']['data']!r}, has no such option")
        if name:
            config[group] = {**config[group], name: value}
    root = str(config["data"].get("root", ""))
    if config["data"].get("download") is True and "data.root" not in given and _leads_out(root):
        raise ValueError(
            f"data.root: the record says {root!r}; say yourself where downloaded data goes, data.root=FOLDER"
        )
    check(config)
    config["data_fingerprint"] = _fingerprint(config)
    if config["data_fingerprint"] != old.get("data_fingerprint"):
        raise ValueError(
            f"the data there, {config['data_fingerprint']}, is not the record's, {old.get('data_fingerprint')}: "
            "data.root=FOLDER says where that is"
        )
    config["run_id"] = run_id(config)
    if cell_hash(config["run_id"]) != cell_hash(str(old.get("run_id"))):
        raise ValueError(
            f"the record's config is not that of {old.get('run_id')} but of {config['run_id']}: somebody changed it, "
            "or it is of a version with other options"
        )
    return config


def _as_before(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What of the old training's machine changes the last bits and can be had here."""
    threads = environment.get("threads")
    before = {"threads": threads} if threads and threads <= _MOST_THREADS else {}
    return before | ({"device": "cpu"} if environment.get("device") == "cpu" else {})


def _leads_out(place: str) -> bool:
    """Whether a path leads out of the working folder, on any system."""
    path = PureWindowsPath(place)  # takes slashes of both kinds
    return bool(path.root or path.drive) or ".." in path.parts or place.startswith("~")


def _fingerprint(config: dict[str, Any]) -> str:
    """Of the data as it is here. Raises: DataError when it is not there."""
    source = component("data", config["data"], config["names"]["data"])()
    source.check()
    return source.info().fingerprint
