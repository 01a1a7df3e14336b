"""Claims and records with invented numbers, made without files: for tests of verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from poolbench.claims.claim import Claim
from poolbench.claims.reading import read_claims
from poolbench.records.read import Record
from tests.report.synthetic import make_config

CLAIM = {
    "id": "lower_error",
    "says": "overlapping windows lower the test error",
    "headline": True,
    "kind": "better",
    "metric": "test_accuracy",
    "control": {"pool": "max"},
    "treatment": {"pool": "overlapping"},
    "paper": {"metric": "top-1 error", "better": "lower", "gain": 0.004, "where": "section 3.4", "status": "verified"},
    "smallest_difference_of_interest": 0.01,
    "wider_than_paper": "made up",
}


def write_claims(folder: Path, *changes: Mapping[str, Any]) -> Path:
    """A ``claim.yaml`` in ``folder``: a claim for each of ``changes``, which replace keys; one of None is left out."""
    claims = []
    for number, change in enumerate(changes or [{}]):
        claim = CLAIM | ({"id": f"claim_{number}"} if number else {}) | dict(change)
        claims.append({key: value for key, value in claim.items() if value is not None})
    path = folder / "claim.yaml"
    path.write_text(yaml.safe_dump(claims, sort_keys=False))
    return path


def make_claims(folder: Path, *changes: Mapping[str, Any]) -> list[Claim]:
    """The claims of :func:`write_claims`, read."""
    return read_claims(write_claims(folder, *changes))


def make_record(
    pool: str = "max", seed: int = 0, accuracy: float | None = 0.8, state: str | None = None, **changes: Any
) -> Record:
    """A cell's record. ``changes`` are of the config, dotted keys with ``__`` for the dot; ``result`` adds numbers."""
    more = changes.pop("result", {})
    config = make_config(pool, seed, **changes)
    result = {"schema_version": 1, "run_id": config["run_id"], "test_accuracy": accuracy, "epochs": 8, **more}
    return Record(
        run_id=config["run_id"],
        path=Path(config["run_id"]),
        config=config,
        environment={"fingerprint": "0011223344"},
        result=None if state else result,
        status={"state": state} if state else None,
    )


def make_arms(values: Mapping[str, Mapping[int, float] | list[float]], **changes: Any) -> list[Record]:
    """Records of pools: name -> accuracy by seed."""
    by_seed = {pool: own if isinstance(own, Mapping) else dict(enumerate(own)) for pool, own in values.items()}
    return [make_record(pool, seed, value, **changes) for pool, own in by_seed.items() for seed, value in own.items()]
