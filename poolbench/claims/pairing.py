"""Which records a claim is tested on: those that its arms match, apart by model and the like, paired by seed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.checks import is_number
from poolbench.claims.claim import Claim, ClaimError, arm_text, numbers_of
from poolbench.dotted import flatten
from poolbench.records.collect import LABELS
from poolbench.records.identity import identity, with_added
from poolbench.records.printable import printable
from poolbench.records.read import Record, same_content
from poolbench.records.tuning import reads_test, views
from poolbench.registry import nearest

_NET = ("model", "data")
_TELLING = (*_NET, *(group for group in LABELS if group not in _NET))  # models and data bring recipes of their own
_STATES = ("failed", "running", "unknown")
_MOST_NAMED = 5  # options or cells named in a note; the rest is counted


@dataclass(frozen=True)
class Tested:
    """A record as claims look at it.

    Args:
        options: dotted option -> value, the names of the groups apart.
        identity: the same of all that can change its result, seeds apart.
    """

    record: Record
    options: dict[str, Any]
    identity: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of the cell."""
        return self.record.config["seed"]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the value and the cell of each seed.

    Args:
        values: seed -> the claim's metric; cells: seed -> the cell.
        failed: cells that match and failed; unfinished: those that have no result yet; without: finished ones that do
            not have the number, or not a finite one. All run_ids, sorted.
    """

    values: dict[int, float]
    cells: dict[int, Tested]
    failed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairing:
    """Both arms in one stratum; ``stratum`` names it, empty where there is one only."""

    stratum: str
    control: Arm
    treatment: Arm


def comparable(records: Iterable[Record]) -> list[Tested]:
    """The cells that claims are tested on: all that read the test set, those at tuned values in a view of their own.

    A cell that is there twice counts once.
    """
    records = views(record for record in records if reads_test(record))
    once = {(record.run_id, record.config.get("view")): record for record in records}
    return [_cell(record) for record in once.values()]


def matches(cell: Tested, pattern: Mapping[str, Any]) -> bool:
    """Whether ``cell`` has all that ``pattern`` says: group -> choice, dotted option -> value (2 equals 2.0)."""
    return all(_has(cell, key, value) for key, value in pattern.items())


def pairings(claim: Claim, cells: Sequence[Tested]) -> list[Pairing]:
    """Both arms of ``claim``, for each stratum: the labels (model, head, data, ...) that neither arm mentions and vary.

    Args:
        cells: as :func:`comparable` gives them.
    Raises: ClaimError where an arm is not one config up to the seed, or asks for an option or a number that its records
        do not have.
    """
    arms = {"control": claim.control, "treatment": claim.treatment}
    metrics = {"control": claim.metric_control, "treatment": claim.metric_treatment}
    found = {}
    for name, arm in arms.items():
        pattern = {**claim.where, **arm}
        _check_options(claim, name, pattern, cells)
        found[name] = [cell for cell in cells if matches(cell, pattern)]
        _check_metric(claim, name, metrics[name], found[name])
    mentioned = {key.partition(".")[0] for arm in arms.values() for key in arm}
    configs = [cell.record.config for own in found.values() for cell in own]
    varying = _varying([config["names"] for config in configs], [group for group in LABELS if group not in mentioned])
    # Cells at tuned values are compared with one another, also where the searched option has no label.
    mixed = len({config.get("view") for config in configs}) > 1
    strata: dict[str, dict[str, list[Tested]]] = defaultdict(lambda: {name: [] for name in arms})
    for name, own in found.items():
        for cell in own:
            words = [f"{group} {cell.record.config['names'].get(group)}" for group in varying]
            words += ["tuned"] if mixed and cell.record.config.get("view") else []
            strata[printable(", ".join(words))][name].append(cell)
    return [
        Pairing(stratum, *(_arm(claim, name, metrics[name], own[name]) for name in arms))
        for stratum, own in sorted(strata.items())
    ]


def pair_notes(claim: Claim, pairing: Pairing) -> list[str]:
    """What a reader must know of a stratum's pairs: what is left out, and in what else the arms differ."""
    said = []
    control, treatment = pairing.control, pairing.treatment
    for name, arm, other in (("control", control, treatment), ("treatment", treatment, control)):
        for what, own in (
            ("failed", arm.failed),
            ("not finished", arm.unfinished),
            ("without a finite number for this metric", arm.without),
        ):
            if own:
                said.append(f"Of the {name}, {len(own)} {'cell' if len(own) == 1 else 'cells'} {what}: {_named(own)}.")
        if other.values and (alone := sorted(arm.values.keys() - other.values.keys())):
            other_name = "treatment" if name == "control" else "control"
            said.append(f"Left out: seed {_named(map(str, alone))}, which the {other_name} does not have.")
    seeds = sorted(control.values.keys() & treatment.values.keys())
    pairs = [(control.cells[seed], treatment.cells[seed]) for seed in seeds]
    if other_options := _also_differing(claim, pairs):
        said.append(f"The arms differ in more than the claim names: {_named(other_options)}.")
    prints = [[cell.record.environment.get("fingerprint") for cell in pair] for pair in pairs]
    if crossing := sum(a != b for a, b in prints):
        said.append(f"{crossing} of {len(pairs)} pairs compare cells of two environments.")
    return [printable(text) for text in said]


def net_words(cells: Iterable[Tested]) -> str:
    """``fast_cnn_small, cifar10, 7 epochs``: what ``cells`` are, several of a kind as ``5 / 7 epochs``."""
    configs = [cell.record.config for cell in cells]
    words = [dict.fromkeys(_choice(str(config["names"].get(group, ""))) for config in configs) for group in _NET]
    epochs = sorted({config["trainer"]["epochs"] for config in configs if config["trainer"].get("epochs") is not None})
    budget = [f"{' / '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}"] if epochs else []
    return printable(", ".join([*(" / ".join(own) for own in words), *budget]))


def _varying(names: Sequence[Mapping[str, Any]], groups: Iterable[str]) -> list[str]:
    """Those of ``groups`` that tell cells apart which those before do not: a model's own optimizer says nothing new."""
    varying: list[str] = []
    kinds = 1
    for group in sorted(groups, key=_TELLING.index):
        now = len({tuple(own.get(name) for name in (*varying, group)) for own in names})
        if now > kinds:
            varying, kinds = [*varying, group], now
    return [group for group in LABELS if group in varying]


def _cell(record: Record) -> Tested:
    options = flatten({key: value for key, value in with_added(record.config).items() if key != "names"})
    # Seeds of parts, as of made images, follow the cell's own.
    apart = {k: v for k, v in flatten(identity(record.config)).items() if not k.rpartition(".")[2].endswith("seed")}
    return Tested(record, options, apart)


def _has(cell: Tested, key: str, value: Any) -> bool:
    if "." not in key:
        return _choice(str(cell.record.config["names"].get(key, ""))) == value
    return key in cell.options and same_content(cell.options[key], value)


def _choice(label: str) -> str:
    """``lp(p=3.0)+max`` -> ``lp+max``: a label without the options that it lists."""
    kept, depth = "", 0
    for character in label:
        depth += character == "("
        kept += character if depth == 0 else ""
        depth -= character == ")" and depth > 0
    return kept


def _check_options(claim: Claim, name: str, pattern: Mapping[str, Any], cells: Sequence[Tested]) -> None:
    """Raises: ClaimError for an option that no cell of the right choices has: it is misspelt."""
    named = {key: value for key, value in pattern.items() if "." not in key}
    known = dict.fromkeys(key for cell in cells if matches(cell, named) for key in cell.options)
    for key in pattern:
        if known and "." in key and key not in known:
            beside = [other for other in known if other.partition(".")[0] == key.partition(".")[0]]
            raise ClaimError(
                f"claim {claim.id!r}: {name} asks for {key!r}, which no record has"
                f"{f' of those with {arm_text(named)}' if named else ''}.{nearest(key, beside)} "
                f"There: {printable(', '.join(beside)) or 'no such group'}"
            )


def _check_metric(claim: Claim, name: str, metric: str, cells: Sequence[Tested]) -> None:
    """Raises: ClaimError for a number that no finished cell has."""
    results = [flatten(cell.record.numbers) for cell in cells if cell.record.result is not None]
    for number in numbers_of(metric):
        if results and all(result.get(number) is None for result in results):
            known = sorted({key for result in results for key, value in result.items() if is_number(value)})
            raise ClaimError(
                f"claim {claim.id!r}: metric of the {name}: {number!r} is in none of the {len(results)} finished "
                f"records that it matches.{nearest(number, known)} There: {printable(', '.join(known))}"
            )


def _arm(claim: Claim, name: str, metric: str, cells: Sequence[Tested]) -> Arm:
    """Raises: ClaimError unless the finished ones of ``cells`` are of one config up to the seed, one for each seed."""
    cells = sorted(cells, key=lambda cell: (cell.seed, cell.record.run_id))
    finished = [cell for cell in cells if cell.record.result is not None]
    seen: dict[int, Tested] = {}
    for cell in finished:
        rival = seen.setdefault(cell.seed, cell)
        first = finished[0] if rival is cell else rival
        apart = _differing(first, cell)
        if apart or rival is not cell:
            differ = "; ".join(apart[:3]) or "nothing that is part of a cell's identity"
            asked = arm_text({**claim.where, **getattr(claim, name)})
            raise ClaimError(
                f"claim {claim.id!r}: {name} {{{asked}}} matches two configs: {printable(first.record.run_id)} and "
                f"{printable(cell.record.run_id)} differ in {printable(differ)}. Say which one is meant, in the arm or "
                "in where"
            )
    values = {seed: value for seed, cell in seen.items() if (value := _value(cell.record, metric)) is not None}
    states = {state: [cell.record.run_id for cell in cells if cell.record.state == state] for state in _STATES}
    return Arm(
        values=values,
        cells={seed: seen[seed] for seed in values},
        failed=tuple(states["failed"]),
        unfinished=(*states["running"], *states["unknown"]),
        without=tuple(cell.record.run_id for seed, cell in seen.items() if seed not in values),
    )


def _value(record: Record, metric: str) -> float | None:
    result = flatten(record.numbers)
    numbers = [result.get(name) for name in numbers_of(metric)]
    if not all(map(is_number, numbers)):
        return None
    return float(numbers[0] - numbers[1] if len(numbers) == 2 else numbers[0])


def _differing(a: Tested, b: Tested) -> list[str]:
    """``trainer.epochs (7 and 10)`` for each option that differs; what one does not have is null there."""
    return [
        f"{key} ({_short(a.identity.get(key))} and {_short(b.identity.get(key))})"
        for key in dict.fromkeys([*a.identity, *b.identity])
        if not same_content(a.identity.get(key), b.identity.get(key))
    ]


def _also_differing(claim: Claim, pairs: Sequence[tuple[Tested, Tested]]) -> list[str]:
    """Options in which the cells of a pair differ and that no arm mentions, nor the group that it names."""
    mentioned = {*claim.control, *claim.treatment, "probe"}  # What else the test set is read for changes no number.
    found = dict.fromkeys(text for a, b in pairs for text in _differing(a, b))
    keys = {text: text.partition(" ")[0] for text in found}
    return [text for text, key in keys.items() if key not in mentioned and key.partition(".")[0] not in mentioned]


def _named(texts: Iterable[str]) -> str:
    texts = list(texts)
    more = [f"{len(texts) - _MOST_NAMED} more"] if len(texts) > _MOST_NAMED else []
    return ", ".join([*texts[:_MOST_NAMED], *more])


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
