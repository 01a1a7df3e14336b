"""One row per pool of each group: what it reaches, how it differs from the baseline, and what it costs."""

import math
from collections.abc import Iterable
from statistics import median
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


Row = dict[str, Any]


def summarise(cells: pd.DataFrame, baseline: str = USUAL_BASELINE) -> pd.DataFrame:
    """One row per group and pool from the tidy table of cells, most accurate first within each group.

    A pool of which no cell has finished has its row too, at the end. Costs are medians over a pool's finished cells.
    """
    rows = []
    by_setting = sorted(by(plain(cells), "setting", "group").items())
    for (_, group), members in by_setting:
        pools = list(dict.fromkeys(cell["pool"] for cell in members))
        rows += _group_rows(group, members, find_baseline(pools, baseline))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"pairs": "Int64"})


def plain(table: pd.DataFrame) -> list[Row]:
    """The rows of ``table``, None for what is not there.

    A report may have hundreds of groups of a cell or two, and to ask a table of two rows takes as long as of thousands.
    """
    columns = {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in table.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def by(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Those of one value in ``names`` together; for several names the key is a tuple."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[names[0]] if len(names) == 1 else tuple(row[name] for name in names), []).append(row)
    return found


def counting(cells: Iterable[Row]) -> list[Row]:
    """Those of one group that count: done, with an accuracy, one for each pool and seed."""
    done: dict[tuple[str, int], Row] = {}
    for cell in cells:
        if cell["state"] == "done" and cell["test_accuracy"] is not None:
            done.setdefault((cell["pool"], cell["seed"]), cell)
    return list(done.values())


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


def _group_rows(group: str, cells: list[Row], baseline: str | None) -> list[Row]:
    done = by(counting(cells), "pool")
    accuracies = {pool: {int(cell["seed"]): cell["test_accuracy"] for cell in done[pool]} for pool in sorted(done)}
    comparisons = compare(accuracies, baseline) if baseline else {}
    rows = []
    for pool, own in sorted(by(cells, "pool").items()):
        own_done = done.get(pool, [])
        accuracy = mean_interval(cell["test_accuracy"] for cell in own_done)
        row = {"group": group, "setting": own[0]["setting"], "pool": pool, "baseline": pool == baseline}
        row |= {name: own[0][name] for name in CONSTANT}
        row |= {"seeds": accuracy.n, "failed": sum(cell["state"] == "failed" for cell in own)}
        row |= {"unfinished": sum(cell["state"] not in ("done", "failed") for cell in own)}
        row |= _estimate("test_accuracy", accuracy)
        gaps = [
            cell["train_accuracy"] - cell["test_accuracy"] for cell in own_done if cell["train_accuracy"] is not None
        ]
        row |= _estimate("train_test_gap", mean_interval(gaps))
        row |= {name: _median([cell[name] for cell in own_done if cell[name] is not None]) for name in _MEDIANS}
        if pool in comparisons:
            pair = comparisons[pool]
            row |= _estimate("difference", pair.difference) | {"pairs": pair.difference.n}
            row |= {name: getattr(pair, name) for name in ("p_t", "p_holm", "p_exact", "p_exact_holm", "verdict")}
            row |= {name: getattr(pair, name) for name in ("exact_can_tell", "constant")}
            row |= {"missing_seeds": _listed(pair.missing), "unpaired_seeds": _listed(pair.unpaired)}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["seeds"] == 0, -row["test_accuracy"] if row["seeds"] else 0, row["pool"]))


def _median(values: list[float]) -> float:
    return float(median(values)) if values else math.nan


def _estimate(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _listed(seeds: tuple[int, ...]) -> str:
    return " ".join(map(str, seeds))
