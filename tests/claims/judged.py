"""Judgements with invented numbers, and the cells behind them: for tests of what is drawn and written from them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from poolbench.claims.claim import Claim, Judgement, Paper
from poolbench.statistics.estimates import Estimate, mean_interval

NO_NUMBERS = Estimate(0, math.nan, math.nan, math.nan)


def make_claim(name: str = "lower_error", **changes: Any) -> Claim:
    """A claim about overlapping windows; ``paper`` replaces parts of the paper's side, others parts of the claim."""
    paper = {
        "metric": "top-1 error on ILSVRC-2010",
        "better": "lower",
        "control": None,
        "treatment": None,
        "gain": 0.004,
        "where": "section 3.4",
        "status": "verified",
        "unknown": "",
    }
    parts = {
        "id": name,
        "says": "overlapping windows lower the test error",
        "headline": True,
        "kind": "better",
        "metric_control": "test_accuracy",
        "metric_treatment": "test_accuracy",
        "direction": "higher",
        "control": {"pool": "max"},
        "treatment": {"pool": "overlapping"},
        "where": {},
        "smallest_difference": 0.002,
    }
    return Claim(**{**parts, **changes, "paper": Paper(**{**paper, **changes.get("paper", {})})})


def make_judgement(
    claim: Claim, control: Sequence[float] = (), treatment: Sequence[float] = (), stratum: str = "", **changes: Any
) -> Judgement:
    """A judgement of the values of both arms by seed, without values that of no record; ``changes`` replace fields."""
    seeds = range(len(control))
    sign = -1 if claim.direction == "lower" else 1
    gains = {seed: sign * (treatment[seed] - control[seed]) for seed in seeds}
    runs = {
        side: {seed: f"{'-'.join(map(str, pattern.values()))}-{stratum}-s{seed}" for seed in seeds}
        for side, pattern in (("control", claim.control), ("treatment", claim.treatment))
    }
    parts = {
        "claim": claim,
        "stratum": stratum,
        "control": mean_interval(control) if seeds else NO_NUMBERS,
        "treatment": mean_interval(treatment) if seeds else NO_NUMBERS,
        "control_values": dict(zip(seeds, control, strict=True)),
        "treatment_values": dict(zip(seeds, treatment, strict=True)),
        "gain": mean_interval(gains.values()) if seeds else NO_NUMBERS,
        "gains": gains,
        "level": 0.975,
        "judged": mean_interval(gains.values(), 0.975) if seeds else NO_NUMBERS,
        "verdict": "cannot tell" if seeds else "no record",
        "why": "",
        "control_runs": runs["control"],
        "treatment_runs": runs["treatment"],
    }
    return Judgement(**{**parts, **changes})


def draw_values(seeds: int, level: float, gain: float, number: int = 0) -> tuple[list[float], list[float]]:
    """Accuracies of both arms, paired, the treatment ``gain`` higher on average."""
    generator = np.random.default_rng(number)
    shared = level + generator.normal(0, 0.003, seeds)
    noise = generator.normal(0, 0.002, (2, seeds))
    return (shared + noise[0]).tolist(), (shared + gain + noise[1]).tolist()


def make_cells(judgements: Sequence[Judgement], probes: Sequence[str] = ()) -> pd.DataFrame:
    """The table's columns that figures read, a row a run, with a falling accuracy for each of ``probes``."""
    rows: dict[str, dict[str, Any]] = {}
    for judgement in judgements:
        for runs, values in (
            (judgement.control_runs, judgement.control_values),
            (judgement.treatment_runs, judgement.treatment_values),
        ):
            for seed, run_id in runs.items():
                row = rows.setdefault(run_id, {"run_id": run_id, "seed": seed, "test_accuracy": values[seed]})
                lost = itertools.count(1)
                row |= {f"test_accuracy_{name}": values[seed] - 0.01 * next(lost) for name in probes}
    return pd.DataFrame(
        rows.values(), columns=["run_id", "seed", "test_accuracy", *map("test_accuracy_{}".format, probes)]
    )
