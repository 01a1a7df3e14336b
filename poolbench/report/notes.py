"""What a reader must know beside the numbers: budget, seeds, what is missing, and what makes cells hard to compare."""

import math
from collections import Counter
from collections.abc import Iterable

from poolbench.messages import counted
from poolbench.report.summary import Baseline, Row, counting
from poolbench.statistics.comparisons import LEAST_PAIRS

RULE = (
    "Test accuracy ± is the 95 % t interval over seeds. Differences to the baseline are taken within blocks, one seed "
    "on one kind of processor, with the spread that all pools of the table leave over; ± is their 95 % interval. A "
    "pool is called higher or lower than the baseline when the two-sided test has p < 0.05 after Holm's correction "
    "over its table; an interval is not corrected, so it may leave out 0 where the verdict is that we cannot tell. "
    "best?: maybe, where no other pool is surely better (Hsu's comparison with the best at 5 %). By loss: the same "
    "verdict on the test cross-entropy, better where it is lower; a second metric with 5 % of its own. Gap: training "
    "accuracy, read like the test accuracy, minus test accuracy, in points. FLOPs: forward, one image, pooling "
    "counted. Train time x and forward time x, where nets were timed in turn (poolbench bench nets): time of a pass as "
    "a multiple of the baseline's in the same round, median [quartiles]. Seconds of cells, which train side by side, "
    "are in no table."
)
_PLACE = ("cpu", "capability", "threads", "device", "torch", "allocator_kept")  # what the fingerprint covers
FEW_STEPS, MUCH_LEFT_OUT = 20, 0.1  # of an epoch
_MOST_NAMED = 4  # run_ids named in a note; the rest is counted


def notes(cells: list[Row], rows: list[Row], baseline: Baseline) -> list[str]:
    """Sentences about one group.

    Args:
        cells, rows: of the tidy table and of the summary, as :func:`plain` gives them.
    """
    done = counting(cells)
    return [
        *_budget(done),
        *_thin(done),
        *_seeds(done),
        *_pairing(rows, baseline),
        *_alike(done, rows),
        *_few(rows),
        *_uncounted(done),
        *_missing(cells, done),
        *_environments(done, rows),
    ]


def _budget(done: list[Row]) -> list[str]:
    if not done:
        return []
    first = done[0]
    parts = [f"{counted(first['epochs'], 'epoch')} of {_range(done, 'train_samples', '{:,.0f}')} training images"]
    shares = []
    for cell in done:
        if None not in (cell["train_samples"], cell["images_seen"]):
            whole = cell["epochs"] * (cell["train_samples"] // cell["batch_size"] * cell["batch_size"])
            shares += [cell["images_seen"] / whole] if whole else []
    seen = sum(shares) / len(shares) if shares else 1.0
    if seen < 1:  # by trainer.skip_easy
        parts.append(f"{100 * (1 - seen):.0f} % of them skipped as easy")
    parts += [f"batch {first['batch_size']}", str(first["precision"])]
    if first["validation"]:
        parts.append(f"{100 * first['validation']:g} % held out for validation")
    parts += [f"{first['optimizer']} with {first['schedule']}"]
    parts.append(f"{_range(done, 'train_flops', '{:.3g}')} training FLOPs a cell")
    return [f"Budget: {', '.join(parts)}. Test set: {_range(done, 'test_samples', '{:,.0f}')} images, read once."]


def _uncounted(done: list[Row]) -> list[str]:
    pools = dict.fromkeys(cell["pool"] for cell in done if cell["forward_flops"] is None and cell["parameters"])
    if not pools:
        return []
    says, its = ("says", "its") if len(pools) == 1 else ("say", "their")
    return [f"FLOPs not counted of {', '.join(pools)}, which {says} none of {its} own by flops(size)."]


def _thin(done: list[Row]) -> list[str]:
    """What makes it a comparison of nets that learned little: few steps, images left out, no better than a guess."""
    said = []
    steps = [(cell["train_samples"], cell["batch_size"]) for cell in done if cell["train_samples"] and cell["epochs"]]
    if few := [samples // batch for samples, batch in steps if samples // batch < FEW_STEPS]:
        said.append(f"An epoch has {counted(min(few), 'step')} only: a smaller trainer.batch_size makes more.")
    left_out = max((samples % batch / samples for samples, batch in steps), default=0.0)
    if left_out > MUCH_LEFT_OUT:
        said.append(f"Each epoch leaves out {100 * left_out:.0f} % of the images, which make no whole batch.")
    if done and all(map(_guesses, done)):
        said.append("All cells are at the level of guessing: nets that learned nothing tell nothing of pools.")
    return said


def _guesses(cell: Row) -> bool:
    """Whether a cell is no better than always naming the largest class, within what chance makes of it."""
    share, images = cell["largest_class_share"], cell["test_samples"]
    if share is None or not images:
        return False
    return cell["test_accuracy"] <= share + 2 * math.sqrt(share * (1 - share) / images)


def _seeds(done: list[Row]) -> list[str]:
    by_pool: dict[str, set[int]] = {}
    for cell in sorted(done, key=lambda cell: cell["pool"]):
        by_pool.setdefault(cell["pool"], set()).add(int(cell["seed"]))
    every = set().union(*by_pool.values())
    if not every:
        return []
    odd = [f"{pool} has {spans(own)}" for pool, own in by_pool.items() if own != every]
    return [f"Seed{'s' if len(every) > 1 else ''} {spans(every)}{'; ' + ', '.join(odd) if odd else ''}."]


def _pairing(rows: list[Row], baseline: Baseline) -> list[str]:
    said = []
    if not any(row["baseline"] and row["seeds"] for row in rows):
        name = baseline if isinstance(baseline, str) else baseline[0]
        said.append(f"The baseline {name!r} has no finished cell here: no differences, no verdicts.")
    for row in rows:
        if row["baseline"] or not row["seeds"] or row["blocks"] is None:
            continue
        if row["missing_seeds"] or row["unpaired_seeds"]:
            lacks = [f"it lacks seed {row['missing_seeds']}"] if row["missing_seeds"] else []
            lacks += [f"the baseline lacks seed {row['unpaired_seeds']}"] if row["unpaired_seeds"] else []
            said.append(f"{row['pool']}: {counted(row['blocks'], 'block')} ({', '.join(lacks)}).")
    return said


def _alike(done: list[Row], rows: list[Row]) -> list[str]:
    """Pools that give what the baseline gives, image for image as far as accuracies tell: are they another pool?"""
    seen: dict[str, dict[int, float]] = {}
    for cell in done:
        seen.setdefault(cell["pool"], {})[cell["seed"]] = cell["test_accuracy"]
    control = next((seen[row["pool"]] for row in rows if row["baseline"] and row["pool"] in seen), None)
    return [
        f"{row['pool']} has the same accuracy as the baseline with every seed."
        for row in rows
        if not row["baseline"] and control and len(control) > 1 and seen.get(row["pool"]) == control
    ]


def _few(rows: list[Row]) -> list[str]:
    compared = [row for row in rows if row["blocks"] is not None]
    said = []
    if apart := [row["pool"] for row in compared if not row["blocks"] and not row["missing_seeds"]]:
        said.append(f"Never met the baseline on one kind of processor, so no difference: {', '.join(apart)}.")
    if few := [row["pool"] for row in compared if row["blocks"] < LEAST_PAIRS and row["pool"] not in apart]:
        said.append(f"No verdict from fewer than {LEAST_PAIRS} blocks: {', '.join(few)}.")
    return said


def _missing(cells: list[Row], done: list[Row]) -> list[str]:
    counting = {cell["run_id"] for cell in done}
    found: dict[str, list[str]] = {"failed": [], "not finished": [], "of a pool and seed counted already": []}
    for cell in cells:
        if cell["state"] == "failed":
            found["failed"].append(cell["run_id"])
        elif cell["state"] != "done":
            found["not finished"].append(cell["run_id"])
        elif cell["run_id"] not in counting:
            found["of a pool and seed counted already"].append(cell["run_id"])
    return [
        f"{counted(len(own), 'cell')} {what}, not in any number here: {_named(own)}."
        for what, own in found.items()
        if own
    ]


def _environments(done: list[Row], rows: list[Row]) -> list[str]:
    said = []
    prints = Counter(str(cell["fingerprint"] or "unknown") for cell in done)
    if len(prints) > 1:
        counts = ", ".join(f"{name} ({counted(count, 'cell')})" for name, count in sorted(prints.items()))
        varying = [name for name in _PLACE if len({cell[name] for cell in done}) > 1]
        differ = f", which differ in {', '.join(varying)}" if varying else ""
        text = f"Environments are mixed: {counts}{differ}; they change the last bits of a training, and its speed."
        crossing, pairs = _crossing(done, rows)
        if crossing:
            text += f" {crossing} of {pairs} pairs of a seed cross two environments: they are in no difference."
        said.append(text)
    commits = sorted({str(cell["commit"] or "unknown")[:10] for cell in done})
    if len(commits) > 1:
        said.append(f"Cells come from {len(commits)} commits of the code: {', '.join(commits)}.")
    if dirty := sum(cell["dirty"] is True for cell in done):
        said.append(f"{dirty} of {len(done)} cells were trained by code with uncommitted changes.")
    if resumed := [cell["run_id"] for cell in done if cell["mixed_environment"] is True]:
        said.append(
            f"{len(resumed)} of {len(done)} cells went on in another environment than they began in: {_named(resumed)}."
        )
    return said


def _crossing(done: list[Row], rows: list[Row]) -> tuple[int, int]:
    """How many pairs have different fingerprints, and how many there are."""
    controls = {row["pool"] for row in rows if row["baseline"]}
    control = {cell["seed"]: cell["fingerprint"] or "unknown" for cell in done if cell["pool"] in controls}
    others = [cell for cell in done if cell["pool"] not in controls and cell["seed"] in control]
    return sum(control[cell["seed"]] != (cell["fingerprint"] or "unknown") for cell in others), len(others)


def spans(seeds: "frozenset[int] | set[int] | list[int]") -> str:
    """``{0, 1, 2, 5}`` -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _named(run_ids: Iterable[str]) -> str:
    names = sorted(run_ids)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _range(cells: list[Row], name: str, form: str) -> str:
    values = [cell[name] for cell in cells if cell[name] is not None]
    if not values:
        return "an unknown number of"
    low, high = (form.format(float(end)).replace("e+", "e") for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
