"""What a reader must know beside the numbers: budget, seeds, what is missing, and what makes cells hard to compare."""

import pandas as pd

from poolbench.report.summary import finished
from poolbench.report.tables import counted
from poolbench.statistics.comparisons import LEAST_PAIRS, least_seeds

RULE = (
    "± is the 95 % t interval over seeds. Differences are paired by seed. A pool is called higher or lower than the "
    "baseline when the paired two-sided t test has p < 0.05 after Holm's correction over the comparisons of its table; "
    "an interval is not corrected, so it may leave out 0 where the verdict is that we cannot tell. "
    "Gap: training accuracy, read like the test accuracy, minus test accuracy, in points. FLOPs: forward, one image, "
    "pooling counted. Speed and time: medians over cells."
)
_PLACE = ("cpu", "capability", "threads", "device", "torch", "allocator_kept")  # what the fingerprint covers
_MOST_NAMED = 4  # run_ids named in a note; the rest is counted


def notes(cells: pd.DataFrame, rows: pd.DataFrame, baseline: str, all_cells: pd.DataFrame | None = None) -> list[str]:
    """Sentences about one group: its ``cells`` of the tidy table and its ``rows`` of the summary.

    ``all_cells`` are those of every group, among which cells that ran at the same time are looked for.
    """
    done = finished(cells)
    return [
        *_budget(done),
        *_seeds(done),
        *_pairing(rows, baseline),
        *_power(rows),
        *_missing(cells, done),
        *_environments(done, rows),
        *_neighbours(done, cells if all_cells is None else all_cells),
    ]


def _budget(done: pd.DataFrame) -> list[str]:
    if done.empty:
        return []
    first = done.iloc[0]
    parts = [f"{counted(first['epochs'], 'epoch')} of {_range(done['train_samples'], '{:,.0f}')} training images"]
    whole = done["epochs"] * (done["train_samples"] // done["batch_size"] * done["batch_size"])
    seen = (done["images_seen"] / whole).mean()
    if pd.notna(seen) and seen < 1:  # by trainer.skip_easy
        parts.append(f"{100 * (1 - seen):.0f} % of them skipped as easy")
    parts += [f"batch {first['batch_size']}", str(first["precision"])]
    if pd.notna(first["validation"]) and first["validation"]:
        parts.append(f"{100 * first['validation']:g} % held out for validation")
    parts += [f"{first['optimizer']} with {first['schedule']}"]
    parts.append(f"{_range(done['train_flops'], '{:.3g}')} training FLOPs a cell")
    return [f"Budget: {', '.join(parts)}. Test set: {_range(done['test_samples'], '{:,.0f}')} images, read once."]


def _seeds(done: pd.DataFrame) -> list[str]:
    by_pool = {pool: frozenset(own["seed"].astype(int)) for pool, own in done.groupby("pool")}
    every = frozenset().union(*by_pool.values())
    if not every:
        return []
    odd = [f"{pool} has {spans(own)}" for pool, own in by_pool.items() if own != every]
    return [f"Seed{'s' if len(every) > 1 else ''} {spans(every)}{'; ' + ', '.join(odd) if odd else ''}."]


def _pairing(rows: pd.DataFrame, baseline: str) -> list[str]:
    said = []
    others = rows[~rows["baseline"] & (rows["seeds"] > 0)]
    if not (rows["baseline"] & (rows["seeds"] > 0)).any():
        said.append(f"The baseline {baseline!r} has no finished cell here: no differences, no verdicts.")
    for _, row in others[others["pairs"].notna()].iterrows():
        if row["missing_seeds"] or row["unpaired_seeds"]:
            lacks = [f"it lacks seed {row['missing_seeds']}"] if row["missing_seeds"] else []
            lacks += [f"the baseline lacks seed {row['unpaired_seeds']}"] if row["unpaired_seeds"] else []
            said.append(f"{row['pool']}: {counted(row['pairs'], 'pair')} ({', '.join(lacks)}).")
        if row["constant"] and row["pairs"] > 1:
            what = "the same accuracy as" if row["difference"] == 0 else "the same difference to"
            said.append(
                f"{row['pool']} has {what} the baseline with every seed: no spread, so the exact test's p is used."
            )
    return said


def _power(rows: pd.DataFrame) -> list[str]:
    compared = rows[rows["pairs"].notna()]
    if compared.empty:
        return []
    tested = compared[compared["pairs"] >= 2]
    said = []
    if (compared["pairs"] < LEAST_PAIRS).any():
        few = ", ".join(compared[compared["pairs"] < LEAST_PAIRS]["pool"])
        said.append(f"No verdict from fewer than {LEAST_PAIRS} pairs: {few}.")
    weak = tested[~tested["exact_can_tell"].astype(bool)]
    if len(weak):
        needed, m, n = least_seeds(len(tested)), len(tested), int(weak["pairs"].min())
        said.append(
            f"With {n} seeds the exact sign-flip test cannot come below p = {min(1.0, m * 2 / 2**n):.3g} "
            f"for {counted(m, 'comparison')} (it needs {needed} seeds), so verdicts rest on the t test alone, which "
            "takes the differences to be normally distributed."
        )
    return said


def _missing(cells: pd.DataFrame, done: pd.DataFrame) -> list[str]:
    said = []
    failed, other = cells[cells["state"] == "failed"], cells[~cells["state"].isin(["done", "failed"])]
    twice = cells[(cells["state"] == "done") & ~cells["run_id"].isin(done["run_id"])]
    for what, own in {"failed": failed, "not finished": other, "of a pool and seed counted already": twice}.items():
        if len(own):
            said.append(f"{counted(len(own), 'cell')} {what}, not in any number here: {_named(own['run_id'])}.")
    return said


def _environments(done: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    said = []
    prints = done["fingerprint"].fillna("unknown").astype(str)
    if prints.nunique() > 1:
        counts = ", ".join(
            f"{name} ({counted(count, 'cell')})" for name, count in sorted(prints.value_counts().items())
        )
        varying = [name for name in _PLACE if done[name].nunique(dropna=False) > 1]
        differ = f", which differ in {', '.join(varying)}" if varying else ""
        text = f"Environments are mixed: {counts}{differ}; they change the last bits of a training, and its speed."
        crossing, pairs = _crossing(done.assign(fingerprint=prints), rows)
        if crossing:
            text += f" {crossing} of {pairs} pairs compare cells of two environments."
        said.append(text)
    commits = sorted(done["commit"].fillna("unknown").astype(str).str[:10].unique())
    if len(commits) > 1:
        said.append(f"Cells come from {len(commits)} commits of the code: {', '.join(commits)}.")
    dirty, resumed = done[done["dirty"].eq(True)], done[done["mixed_environment"].eq(True)]
    if len(dirty):
        said.append(f"{len(dirty)} of {len(done)} cells were trained by code with uncommitted changes.")
    if len(resumed):
        said.append(f"{len(resumed)} of {len(done)} cells went on in another environment than they began in: ")
        said[-1] += f"{_named(resumed['run_id'])}."
    return said


def _crossing(done: pd.DataFrame, rows: pd.DataFrame) -> tuple[int, int]:
    """How many pairs have different fingerprints, and how many there are."""
    control = done[done["pool"].isin(rows[rows["baseline"]]["pool"])].set_index("seed")["fingerprint"]
    others = done[~done["pool"].isin(rows[rows["baseline"]]["pool"]) & done["seed"].isin(control.index)]
    return int((others["seed"].map(control) != others["fingerprint"]).sum()), len(others)


def _neighbours(done: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Whether cells shared a machine with other cells of the records while they were timed."""
    timed = cells.dropna(subset=["host", "started", "updated"])
    started, ended = (
        pd.to_datetime(timed[name], utc=True, errors="coerce", format="ISO8601") for name in ("started", "updated")
    )
    beside, most = set(), 1
    for _, own in timed.groupby("host"):
        for index in own.index:
            at_once = own.index[(started[own.index] < ended[index]) & (ended[own.index] > started[index])]
            if len(at_once) > 1:
                beside.add(timed.loc[index, "run_id"])
                most = max(most, int(((started[at_once] <= started[index]) & (ended[at_once] > started[index])).sum()))
    count = int(done["run_id"].isin(beside).sum())
    if not count:
        return []
    return [f"{count} of {len(done)} cells were timed while others ran on the same machine (up to {most} at once)."]


def spans(seeds: "frozenset[int] | set[int] | list[int]") -> str:
    """``{0, 1, 2, 5}`` -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _named(run_ids: pd.Series) -> str:
    names = sorted(run_ids)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _range(values: pd.Series, form: str) -> str:
    values = values.dropna()
    if values.empty:
        return "an unknown number of"
    low, high = (form.format(float(end)).replace("e+", "e") for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
