"""The experiments that have claims, and what is published of their records."""

from pathlib import Path

from poolbench.config_files import ConfigError, experiments_dir
from poolbench.records.read import ARCHIVE, Problem, Record, read_records
from poolbench.registry import nearest
from poolbench.sweep.plan import Plan


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
    """``results/`` beside the experiments; it need not exist, as in a wheel."""
    return experiments_dir().parent / "results"


def published(plan: Plan) -> tuple[dict[str, Record], list[Problem]]:
    """What ``results/`` has of ``plan``.

    Returns: ``run_id`` of a cell -> its finished record, and what could not be read.
    """
    archive = results_dir() / plan.name / ARCHIVE
    if not archive.is_file():
        return {}, []
    records, problems = read_records(archive)
    # By their hashes: a record keeps the name that it got first, in whatever words.
    known = {record.run_id.rpartition("-")[2]: record for record in records if record.result is not None}
    cells = {cell.run_id: cell.run_id.rpartition("-")[2] for cell in plan.cells}
    return {run_id: known[digest] for run_id, digest in cells.items() if digest in known}, problems
