"""One row per pool of each group: what it reaches, how it differs from the baseline, and what it costs."""

import math
from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Any

import pandas as pd

from poolbench.records.fields import costs
from poolbench.registry import nearest
from poolbench.statistics.best import not_told_apart
from poolbench.statistics.blocks import Values, accuracy_floor, fit_or_none
from poolbench.statistics.comparisons import LEAST_PAIRS, Comparison, compare
from poolbench.statistics.estimates import Estimate, mean_interval

USUAL_BASELINE, NATIVE = "max", "native"
CONSTANT = ("head", "model", "data", "optimizer", "schedule", "epochs", "batch_size", "precision", "validation")
_MEDIANS = tuple(field.name for field in costs())
# Time of a pass over the baseline's in the same round, median and quartiles: see poolbench.report.speeds.
TIMES = tuple(f"{kind}_time_ratio{end}" for kind in ("train", "forward") for end in ("", "_low", "_high"))
COLUMNS = (  # Accuracies, differences and gaps are fractions, as in the records; *_low, *_high of them: 95 % bounds.
    *("group", "setting", "pool", *CONSTANT, "baseline", "seeds", "unfinished", "failed"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("blocks", "difference", "difference_low", "difference_high", "difference_error", "difference_df"),
    *("p", "p_holm", "verdict", "among_best"),
    *("test_loss", "test_loss_low", "test_loss_high"),
    *("loss_difference", "loss_difference_low", "loss_difference_high", "loss_p", "loss_p_holm", "loss_verdict"),
    *("train_test_gap", "train_test_gap_low", "train_test_gap_high", *_MEDIANS, *TIMES),
    *("missing_seeds", "unpaired_seeds"),
)
_OWN_LOSS = ("capsule",)  # heads of ours whose loss is not cross-entropy; a new record tells it itself


Row = dict[str, Any]
Baseline = str | tuple[str, ...]  # a label, or several of which the first counts that a group has


def summarise(cells: pd.DataFrame, baseline: Baseline = USUAL_BASELINE) -> pd.DataFrame:
    """One row per group and pool from the tidy table of cells, most accurate first within each group.

    A pool of which no cell has finished has its row too, at the end. Costs are medians over a pool's finished cells;
    ratios of time are not told by cells and are left empty.
    """
    rows = []
    by_setting = sorted(by(plain(cells), "setting", "group").items())
    for (_, group), members in by_setting:
        pools = list(dict.fromkeys(cell["pool"] for cell in members))
        rows += _group_rows(group, members, find_baseline(pools, baseline))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"blocks": "Int64", "among_best": "boolean"})


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


def find_baseline(pools: Any, baseline: Baseline) -> str | None:
    """The pool that ``baseline`` names: the label itself, or the only one that adds options to it: ``max(k=3)``; of
    several names the first that names one."""
    for name in (baseline,) if isinstance(baseline, str) else baseline:
        if name in pools:
            return name
        alike = [pool for pool in pools if pool.startswith(f"{name}(")]
        if len(alike) == 1:
            return alike[0]
    return None


def usual_baselines(groups: Iterable[Collection[str]]) -> tuple[str, ...]:
    """What pools are compared with where nothing else is said, a group each with the first of these that it has: the
    net as its author built it, where each of ``groups`` of pools has that, else ``max``, else the former."""
    groups = list(groups)
    everywhere = groups and all(NATIVE in pools for pools in groups)
    return (NATIVE,) if everywhere else (USUAL_BASELINE, NATIVE)


def check_baseline(pools: Any, baseline: str, option: str = "--baseline", word: str = "pool") -> None:
    """See that ``baseline``, given by ``option``, names one of ``pools``, or of what ``word`` says. Raises: ValueError
    with the nearest and all that there are."""
    pools = sorted({str(pool) for pool in pools})
    if not pools or find_baseline(pools, baseline) is not None:
        return
    if alike := [pool for pool in pools if pool.startswith(f"{baseline}(")]:
        raise ValueError(f"{option} {baseline!r} stands for several {word}s: {', '.join(alike)}; say which")
    hint = nearest(baseline, pools)
    raise ValueError(f"{option}: there is no {word} {baseline!r} here.{hint} There are: {', '.join(pools)}")


def finished(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that count: done, with an accuracy, one for each pool and seed."""
    done = cells[(cells["state"] == "done") & cells["test_accuracy"].notna()]
    return done.drop_duplicates(["group", "pool", "seed"])


def blocks(cells: Iterable[Row], number: str) -> dict[Any, float]:
    """Block, one seed on one kind of processor -> ``number`` of a pool's ``cells``, of those that have it."""
    return {
        (int(cell["seed"]), str(cell["fingerprint"] or "unknown")): cell[number]
        for cell in cells
        if cell[number] is not None
    }


def floors(done: Mapping[str, list[Row]]) -> dict[str, float]:
    """The least variance of an accuracy of each pool, where the size of its test set is known."""
    found = {}
    for pool, own in done.items():
        if images := next((cell["test_samples"] for cell in own if cell["test_samples"]), None):
            found[pool] = accuracy_floor(sum(cell["test_accuracy"] for cell in own) / len(own), int(images))
    return found


def cross_entropy(cell: Row) -> bool:
    """Whether the loss of a finished cell is cross-entropy: only then may losses be compared."""
    if cell["true_class_probability"] is not None:
        return True
    older = cell["mirror_mean_accuracy"] is None  # than these two readings
    return older and str(cell["head"]).partition("(")[0] not in _OWN_LOSS


def best(values: Values, least: Mapping[str, float] | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """Which pools are not told apart from the best, and of which that was asked: those with three blocks or more."""
    asked = {pool: own for pool, own in values.items() if len(own) >= LEAST_PAIRS}
    fitted = fit_or_none(asked)
    if fitted is None or fitted.df == 0 or len(fitted.effects) < 2:
        return frozenset(), frozenset()
    asked = {pool for pool, own in fitted.values.items() if len(own) >= LEAST_PAIRS}
    return not_told_apart(fitted, least) & asked, frozenset(asked)


def _group_rows(group: str, cells: list[Row], baseline: str | None) -> list[Row]:
    done = by(counting(cells), "pool")
    accuracies = {pool: blocks(done[pool], "test_accuracy") for pool in sorted(done)}
    losses = {pool: blocks(filter(cross_entropy, done[pool]), "test_loss") for pool in sorted(done)}
    least = floors(done)
    comparisons = compare(accuracies, baseline, least) if baseline else {}
    by_loss = compare({pool: own for pool, own in losses.items() if own}, baseline) if baseline else {}
    among, asked = best(accuracies, least)
    seeds = {pool: {seed for seed, _ in own} for pool, own in accuracies.items()}
    rows = []
    for pool, own in sorted(by(cells, "pool").items()):
        own_done = done.get(pool, [])
        accuracy = mean_interval(cell["test_accuracy"] for cell in own_done)
        row = {"group": group, "setting": own[0]["setting"], "pool": pool, "baseline": pool == baseline}
        row |= {name: own[0][name] for name in CONSTANT}
        row |= {"seeds": accuracy.n, "failed": sum(cell["state"] == "failed" for cell in own)}
        row |= {"unfinished": sum(cell["state"] not in ("done", "failed") for cell in own)}
        row |= _estimate("test_accuracy", accuracy)
        row |= _estimate("test_loss", mean_interval(losses.get(pool, {}).values()))
        row |= {"among_best": pool in among if pool in asked else None}
        gaps = [
            cell["train_accuracy"] - cell["test_accuracy"] for cell in own_done if cell["train_accuracy"] is not None
        ]
        row |= _estimate("train_test_gap", mean_interval(gaps))
        row |= {name: _median([cell[name] for cell in own_done if cell[name] is not None]) for name in _MEDIANS}
        row |= dict.fromkeys(TIMES, math.nan)
        if pool in comparisons:
            row |= _compared("", comparisons[pool]) | {"blocks": comparisons[pool].difference.blocks}
            row |= {"difference_error": comparisons[pool].difference.error}
            row |= {"difference_df": comparisons[pool].difference.df}
            row |= {"missing_seeds": _listed(seeds[baseline] - seeds[pool])}
            row |= {"unpaired_seeds": _listed(seeds[pool] - seeds[baseline])}
        if pool in by_loss:
            row |= _compared("loss_", by_loss[pool])
        rows.append(row)
    return sorted(rows, key=lambda row: (row["seeds"] == 0, -row["test_accuracy"] if row["seeds"] else 0, row["pool"]))


def _compared(prefix: str, one: Comparison) -> Row:
    low, high = one.difference.interval()
    row = {"difference": one.difference.mean, "difference_low": low, "difference_high": high}
    row |= {"p": one.p, "p_holm": one.p_holm, "verdict": one.verdict}
    return {f"{prefix}{name}": value for name, value in row.items()}


def _median(values: list[float]) -> float:
    return float(median(values)) if values else math.nan


def _estimate(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _listed(seeds: Iterable[int]) -> str:
    return " ".join(map(str, sorted(seeds)))
