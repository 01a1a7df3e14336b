"""What a reader must know of tables at tuned recipes, and of the table at the shared one beside them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from poolbench.dotted import flatten
from poolbench.messages import counted
from poolbench.records.groups import group_hash, pool_labels
from poolbench.records.printable import printable
from poolbench.records.read import Record
from poolbench.records.tuning import Mark, mark, view_group


def tuned_notes(records: Iterable[Record]) -> dict[str, list[str]]:
    """Group -> sentences, for each group of the tuned view and each one at a shared recipe that has a tuned one beside.

    Args:
        records: as :func:`poolbench.records.tuning.views` gives them.
    """
    records = list(records)
    tuned: dict[str, list[tuple[str, Mark]]] = defaultdict(list)
    for record, pool in zip(records, pool_labels([record.config for record in records]), strict=True):
        found = mark(record.config)
        if found is not None and "view" in record.config:
            tuned[group_hash(record.config)].append((pool, found))
    said = {group: [_how(own[0][1]), _values(own)] for group, own in tuned.items()}
    searches = {own[0][1].search: own[0][1] for own in tuned.values()}
    for record in records:
        group = group_hash(record.config)
        if "view" in record.config or group in said:
            continue
        beside = [search for search in searches.values() if view_group(record.config, search) in tuned]
        if beside:
            options = sorted({option for search in beside for option in search.parameters})
            flat = flatten(record.config)
            values = [f"{option}={_short(flat.get(option))}" for option in options]
            said[group] = [
                f"The same recipe for every pool: {', '.join(values)}. "
                "Each at its own best: the table whose title ends in 'tuned'."
            ]
    return {group: [printable(text) for text in texts] for group, texts in said.items()}


def left_out(count: int) -> str:
    """A sentence about trials that are in no table; empty when there are none."""
    if not count:
        return ""
    return (
        f"{counted(count, 'cell')} that did not read the test set (trainer.test=false), as the trials of a search, "
        f"{'is' if count == 1 else 'are'} left out."
    )


def _how(search: Mark) -> str:
    ranges = ", ".join(f"{option} in {text}" for option, text in search.parameters.items())
    trials, epochs = search.rungs[-1]
    halving = ""
    if len(search.rungs) > 1:
        halving = (
            f" by successive halving, the last {trials} trained in full" if trials > 1 else " by successive halving"
        )
    seeds = f"seed{'s' if len(search.seeds) > 1 else ''} {', '.join(map(str, search.seeds))}"
    return (
        f"Tuned for each pool by itself: {ranges}; {counted(search.trials, 'trial')} a pool ({search.sampler}, {seeds})"
        f"{halving}, up to {counted(epochs, 'epoch')}. Chosen on {100 * search.validation:g} % of the training images, "
        "held out; the test set had no part in it."
    )


def _values(own: list[tuple[str, Mark]]) -> str:
    texts = {}
    for pool, found in own:
        values = ", ".join(f"{option}={_short(found.set[option])}" for option in found.parameters)
        accuracy = f" (validation {100 * found.accuracy:.1f} %)" if found.accuracy is not None else ""
        texts[pool] = max(texts.get(pool, ""), f"{pool} {values}{accuracy}", key=len)
    return f"Found: {'; '.join(texts[pool] for pool in sorted(texts))}."


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
