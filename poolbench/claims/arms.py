"""The arms of an experiment's claims: short words for each, a style that tells them apart, and the runs behind them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poolbench.report.colours import COLOURS, DASHES, MARKERS, Style, styles

if TYPE_CHECKING:
    from poolbench.claims.claim import Claim, Judgement

CONTROL, TREATMENT = "control", "treatment"

_Key = tuple[str, str]  # what an arm asks for, and the stratum
_Found = tuple[dict[str, Any], set[str]]  # the same as a mapping, and the run_ids


@dataclass(frozen=True)
class ArmLook:
    """One arm in one stratum.

    Args:
        label: its words, unique among the arms of a figure.
        runs: the run_ids of its cells.
    """

    label: str
    style: Style
    runs: tuple[str, ...]


def arm_words(claim: "Claim") -> tuple[str, str]:
    """What tells the claim's control and treatment apart: ``max`` and ``overlapping, padding=0``.

    What both arms demand is left out as long as each keeps a word; where they differ in nothing, or are read by two
    metrics, the metric is named.
    """
    patterns = (claim.control, claim.treatment)
    own = [{k: v for k, v in a.items() if not (k in b and b[k] == v)} for a, b in (patterns, patterns[::-1])]
    if claim.control == claim.treatment:
        words = ["", ""]
    else:
        words = [_words(short) for short in (own if all(own) else patterns)]
    if claim.metric_control != claim.metric_treatment:
        metrics = _apart(metric_words(claim.metric_control), metric_words(claim.metric_treatment), any(words))
        words = [", ".join(filter(None, both)) for both in zip(words, metrics, strict=True)]
    return words[0] or CONTROL, words[1] or TREATMENT


def metric_words(metric: str) -> str:
    """A metric as a figure has it: ``train accuracy − test accuracy``."""
    return metric.replace(" - ", " − ").replace("_", " ")


def arms(judgements: Sequence["Judgement"]) -> dict[tuple[int, str], ArmLook]:
    """The arm of each (place of the judgement, ``control`` or ``treatment``); arms of the same runs are one.

    A pool keeps the colour it has in all figures where no other arm has it; markers and line styles differ too, so that
    no arm hangs on its colour.
    """
    found: dict[_Key, _Found] = {}
    places = {}
    for place, judgement in enumerate(judgements):
        claim = judgement.claim
        for side, pattern, runs in (
            (CONTROL, claim.control, judgement.control_runs),
            (TREATMENT, claim.treatment, judgement.treatment_runs),
        ):
            pattern = {**claim.where, **pattern}
            key = repr(sorted(pattern.items())), judgement.stratum
            found.setdefault(key, (pattern, set()))[1].update(runs.values())
            places[place, side] = key
    same: dict[object, _Key] = {}
    # Of several ways to ask for the same runs, the one that says most.
    for key, (_, runs) in sorted(found.items(), key=lambda item: -len(item[1][0])):
        same.setdefault(frozenset(runs) or key, key)
    first = {key: same[frozenset(runs) or key] for key, (_, runs) in found.items()}
    kept = {key: found[key] for key in dict.fromkeys(first.values())}
    labels, look = _labels(kept), _styles(kept)
    made = {key: ArmLook(labels[key], look[key], tuple(sorted(runs))) for key, (_, runs) in kept.items()}
    return {place: made[first[key]] for place, key in places.items()}


def _labels(kept: Mapping[_Key, _Found]) -> dict[_Key, str]:
    """Words for each arm without what all demand, and with the stratum where there are several."""
    patterns = [pattern for pattern, _ in kept.values()]
    strata = {stratum for _, stratum in kept}
    common = {k: v for k, v in patterns[0].items() if all(k in p and p[k] == v for p in patterns)}
    labels: dict[_Key, str] = {}
    for key, (pattern, _) in kept.items():
        own = _words({k: v for k, v in pattern.items() if k not in common} or pattern)
        label = "; ".join(filter(None, (own, key[1] if len(strata) > 1 else ""))) or "all cells"
        while label in labels.values():
            label += "'"
        labels[key] = label
    return labels


def _styles(kept: Mapping[_Key, _Found]) -> dict[_Key, Style]:
    """A colour for each pattern, or each stratum where there is one pattern; marker and line style for each arm."""
    one = len({pattern for pattern, _ in kept}) == 1
    pools = {key[one]: None if one else pattern.get("pool") for key, (pattern, _) in kept.items()}
    known = styles({pool for pool in pools.values() if pool})
    colours: dict[str, str] = {}
    for name, pool in pools.items():
        if pool and known[pool].colour not in colours.values():
            colours[name] = known[pool].colour
    free = itertools.cycle([colour for colour in COLOURS if colour not in colours.values()] or COLOURS)
    for name in (name for name in pools if name not in colours):
        colours[name] = next(free)
    return {
        key: Style(colours[key[one]], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
        for place, key in enumerate(kept)
    }


def _words(pattern: Mapping[str, Any]) -> str:
    """``{pool: lp, pool.p: 3}`` as ``lp, p=3``."""
    return ", ".join(
        f"{key.rpartition('.')[2]}={_value(value)}" if "." in key else _value(value) for key, value in pattern.items()
    )


def _value(value: Any) -> str:
    """A value as YAML has it, lists without spaces."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"[{', '.join(map(_value, value))}]" if isinstance(value, list | tuple) else str(value)


def _apart(control: str, treatment: str, named: bool) -> tuple[str, str]:
    """Two metrics without what both begin with: ``test accuracy draws 1`` and ``... 12`` as ``draws 1``, ``draws 12``.

    Of a metric and one that goes on from it only what comes then, if the arms are ``named`` already.
    """
    a, b = control.split(), treatment.split()
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if "−" in control + treatment:
        return control, treatment
    if same < min(len(a), len(b)):
        same = max(same - 1, 0)  # a word says what the number is
    elif not named:
        return control, treatment
    return " ".join(a[same:]), " ".join(b[same:])
