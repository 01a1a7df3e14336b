"""One row per pool of each group: what it reaches, how it differs from the baseline, and what it costs."""

import math
from typing import Any

import pandas as pd

from poolbench.records.fields import costs
from poolbench.registry import nearest
from poolbench.statistics.comparisons import compare
from poolbench.statistics.estimates import Estimate, mean_interval

USUAL_BASELINE = "max"
CONSTANT = ("head", "model", "data", "optimizer", "schedule", "epochs", "batch_size", "precision", "validation")
_MEDIANS = tuple(field.name for field in costs())
COLUMNS = (  # Accuracies, differences and gaps are fractions, as in the records; *_low and *_high are 95 % bounds.
    *("group", "setting", "pool", *CONSTANT, "baseline", "seeds", "unfinished", "failed"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *(
        "pairs",
        "difference",
        "difference_low",
        "difference_high",
        "p_t",
        "p_holm",
        "p_exact",
        "p_exact_holm",
        "verdict",
    ),
    *("train_test_gap", "train_test_gap_low", "train_test_gap_high", *_MEDIANS),
    *("exact_can_tell", "constant", "missing_seeds", "unpaired_seeds"),
)


def summarise(cells: pd.DataFrame, baseline: str = USUAL_BASELINE) -> pd.DataFrame:
    """One row per group and pool from the tidy table of cells, most accurate first within each group.

    A pool of which no cell has finished has its row too, at the end. Costs are medians over a pool's finished cells.
    """
    rows = []
    for (_, group), members in cells.groupby(["setting", "group"], sort=True):
        rows += _group_rows(group, members, find_baseline(members["pool"].unique(), baseline))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"pairs": "Int64"})


def find_baseline(pools: Any, baseline: str) -> str | None:
    """The pool that ``baseline`` names: the label itself, or the only one that adds options to it: ``max(k=3)``."""
    if baseline in pools:
        return baseline
    alike = [pool for pool in pools if pool.startswith(f"{baseline}(")]
    return alike[0] if len(alike) == 1 else None


def check_baseline(pools: Any, baseline: str) -> None:
    """See that ``baseline`` names one of ``pools``. Raises: ValueError with the nearest and all that there are."""
    pools = sorted({str(pool) for pool in pools})
    if not pools or find_baseline(pools, baseline) is not None:
        return
    if alike := [pool for pool in pools if pool.startswith(f"{baseline}(")]:
        raise ValueError(f"--baseline {baseline!r} stands for several pools: {', '.join(alike)}; say which")
    hint = nearest(baseline, pools)
    raise ValueError(f"--baseline: there is no pool {baseline!r} here.{hint} There are: {', '.join(pools)}")


def finished(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that count: done, with an accuracy, one for each pool and seed."""
    done = cells[(cells["state"] == "done") & cells["test_accuracy"].notna()]
    return done.drop_duplicates(["group", "pool", "seed"])


def _group_rows(group: str, cells: pd.DataFrame, baseline: str | None) -> list[dict[str, Any]]:
    done = finished(cells)
    accuracies = {
        pool: dict(zip(own["seed"].astype(int), own["test_accuracy"], strict=True))
        for pool, own in done.groupby("pool", sort=True)
    }
    comparisons = compare(accuracies, baseline) if baseline else {}
    rows = []
    for pool, own in cells.groupby("pool", sort=True):
        own_done = done[done["pool"] == pool]
        accuracy = mean_interval(own_done["test_accuracy"])
        row = {"group": group, "setting": own["setting"].iloc[0], "pool": pool, "baseline": pool == baseline}
        row |= {name: own[name].iloc[0] for name in CONSTANT}
        row |= {"seeds": accuracy.n, "failed": int((own["state"] == "failed").sum())}
        row |= {"unfinished": int((~own["state"].isin(["done", "failed"])).sum())}
        row |= _estimate("test_accuracy", accuracy)
        row |= _estimate(
            "train_test_gap", mean_interval((own_done["train_accuracy"] - own_done["test_accuracy"]).dropna())
        )
        row |= {name: _median(own_done[name]) for name in _MEDIANS}
        if pool in comparisons:
            pair = comparisons[pool]
            row |= _estimate("difference", pair.difference) | {"pairs": pair.difference.n}
            row |= {name: getattr(pair, name) for name in ("p_t", "p_holm", "p_exact", "p_exact_holm", "verdict")}
            row |= {name: getattr(pair, name) for name in ("exact_can_tell", "constant")}
            row |= {"missing_seeds": _listed(pair.missing), "unpaired_seeds": _listed(pair.unpaired)}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["seeds"] == 0, -row["test_accuracy"] if row["seeds"] else 0, row["pool"]))


def _median(values: pd.Series) -> float:
    known = values.dropna()
    return float(known.median()) if len(known) else math.nan


def _estimate(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _listed(seeds: tuple[int, ...]) -> str:
    return " ".join(map(str, seeds))
