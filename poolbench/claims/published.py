"""The experiments that have claims, and what is published of their records."""

from collections.abc import Iterable
from pathlib import Path

from poolbench.config_files import ConfigError, experiments_dir, shipped
from poolbench.records.identity import cell_hash
from poolbench.records.read import ARCHIVE, Problem, Record, read_records
from poolbench.records.speeds import FILE as SPEEDS
from poolbench.registry import nearest


def experiments_with_claims(name: str = "all") -> dict[str, Path]:
    """Name -> folder of the experiment called ``name``, or of all that have a ``claim.yaml``.

    Raises: ConfigError for another name.
    """
    folders = {path.parent.name: path.parent for path in sorted(experiments_dir().glob("*/claim.yaml"))}
    if name == "all" and folders:
        return folders
    if name not in folders:
        known = (
            ", ".join(["all", *folders]) if folders else f"nothing: no folder of {experiments_dir()} has a claim.yaml"
        )
        raise ConfigError(f"unknown experiment {name!r}.{nearest(name, list(folders))} Known: {known}")
    return {name: folders[name]}


def results_dir() -> Path:
    """``results/`` beside the experiments; it need not exist. The wheel's holds records and times alone."""
    return experiments_dir().parent / "results"


def published_archives(name: str = "all") -> list[Path]:
    """The records that are published of the experiment called ``name``, or of all.

    They lie in ``results/`` beside the experiments, or, where that has none, as beside experiments of one's own, in the
    checkout's or the wheel's.
    Raises: ConfigError for a name of which nothing is published.
    """
    found: dict[str, Path] = {}
    for folder in (results_dir(), shipped("results")):
        found = found or {path.parent.name: path for path in sorted(folder.glob(f"*/{ARCHIVE}"))}
    if not found:
        raise ConfigError(f"there is no {ARCHIVE} in a folder of {results_dir()}; name records by their paths")
    if name == "all":
        return list(found.values())
    if name not in found:
        known = ", ".join(["all", *found])
        raise ConfigError(f"nothing is published of {name!r}.{nearest(name, list(found))} There are: {known}")
    return [found[name]]


def published_speeds(folder: Path) -> list[Path]:
    """The file with times of nets in ``folder``, of one experiment's results, where there is one."""
    return [folder / SPEEDS] if (folder / SPEEDS).is_file() else []


def published(name: str, run_ids: Iterable[str]) -> tuple[dict[str, Record], list[Problem]]:
    """What ``results/`` has of the plan called ``name``, whose cells are ``run_ids``.

    Returns: ``run_id`` of a cell -> its finished record, and what could not be read.
    """
    archive = results_dir() / name / ARCHIVE
    if not archive.is_file():
        return {}, []
    records, problems = read_records(archive)
    # By their hashes: a record keeps the name that it got first, in whatever words.
    known = {cell_hash(record.run_id): record for record in records if record.result is not None}
    return {run_id: known[cell_hash(run_id)] for run_id in run_ids if cell_hash(run_id) in known}, problems
