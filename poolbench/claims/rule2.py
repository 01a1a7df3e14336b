"""Claims judged by rule 2, on the cells that rule 1 paired: blocks, one spread for all arms, words from one side.

Rule 2 came on 2026-11-30, when all published cells had been seen; both verdicts stand in ``claims.csv``.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from poolbench.claims.claim import NO_RECORD, Claim, Judgement, amount
from poolbench.records.fields import FIELDS
from poolbench.records.groups import data_set
from poolbench.statistics.blocks import Difference, accuracy_floor, between, fit_or_none
from poolbench.statistics.comparisons import LEAST_PAIRS
from poolbench.statistics.estimates import LEVEL, Estimate, mean_interval
from poolbench.statistics.nets import OverNets, over_nets, together
from poolbench.statistics.power import MOST_BLOCKS, blocks_for
from poolbench.statistics.words import CANNOT_TELL, ERROR, SUPPORTS, Errors, errors_of, grade, words

_OVER = "over nets"
_APART = "its arms never met on one kind of processor"
_EQUAL = "all differences are equal: nothing tells their spread"
# Heads that are fitted to a trunk which trains as another head's does: such arms share a net, and not their noise.
_FITTED = ("mop",)


@dataclass
class _Group:
    """Arms of one net that one metric is read of."""

    arms: dict[int, dict[Any, float]] = field(default_factory=dict)
    arm_of: dict[str, int] = field(default_factory=dict)  # run_id -> arm

    def add(self, runs: Mapping[int, str], values: Mapping[Any, float]) -> int:
        """Take in what one arm of a claim has; claims may share arms. Returns: the arm's number."""
        number = next((self.arm_of[run] for run in runs.values() if run in self.arm_of), len(self.arms))
        self.arm_of |= dict.fromkeys(runs.values(), number)
        self.arms.setdefault(number, {}).update(values)
        return number


def judge_again(judgements: Sequence[Judgement], cells: pd.DataFrame, looks: Sequence[int] = ()) -> list[Judgement]:
    """``judgements`` of one experiment by rule 2, in their order; headline claims are one family, the others another.

    A claim that three nets or more are judged for gets a row over them before its own, and that row stands in its
    family; those of its nets are among the others.

    Args:
        judgements: by rule 1, which stay in them as ``first``.
        cells: of the experiment, as :func:`poolbench.records.collect.collect` gives them.
        looks: numbers of seeds at which it was declared to be judged: each gets its part of the error, and what
            counts is the last one that a claim has the seeds for. Once, on all seeds, without.
    """
    if not looks:
        return _judged(judgements, cells, ERROR)
    told: dict[tuple[str, str], list[tuple[int, Judgement]]] = defaultdict(list)
    for look in looks:
        reached = {_key(one) for one in judgements if len(one.gains) >= look}
        for one in _judged([_first_seeds(one, look) for one in judgements], cells, ERROR / len(looks)):
            if one.over or _key(one) in reached:
                told[_key(one)].append((look, one))
    found = []
    for one in judgements:
        over = told.pop((one.claim.id, _OVER), [])
        found += [_at_look(over, looks)] if over else []
        own = told.get(_key(one), [])
        if own:
            found.append(replace(_at_look(own, looks, len(one.gains)), first=one))
        elif one.verdict == NO_RECORD:
            found.append(one)
        else:
            why = f"the first look is at {looks[0]} seeds"
            found.append(replace(one, verdict=CANNOT_TELL, why=why, first=one, p=math.nan, seeds_needed=None))
    return found


def with_second(judgements: Sequence[Judgement], seconds: Sequence[Judgement]) -> list[Judgement]:
    """``judgements`` with those by their second metrics, which :func:`judge_again` gave too, beside them."""
    known = {_key(one): one for one in seconds}
    return [replace(one, second=known.get(_key(one))) for one in judgements]


def _key(one: Judgement) -> tuple[str, str]:
    return one.claim.id, _OVER if one.over else one.stratum


def _first_seeds(one: Judgement, look: int) -> Judgement:
    """``one`` on its first ``look`` seeds; on none where it has not so many."""
    seeds = sorted(one.gains)[:look] if len(one.gains) >= look else []
    names = ("control_values", "treatment_values", "gains", "control_runs", "treatment_runs")
    cut: dict[str, Any] = {name: {seed: getattr(one, name)[seed] for seed in seeds} for name in names}
    means = {name: mean_interval(cut[f"{name}_values"].values()) for name in ("control", "treatment")}
    return replace(one, **cut, **means)


def _at_look(found: Sequence[tuple[int, Judgement]], looks: Sequence[int], seeds: int = 0) -> Judgement:
    """The judgement of the last look, and what the looks before said where that was something else."""
    look, one = found[-1]
    notes = [f"Judged at {look} seeds, look {looks.index(look) + 1} of {len(looks)} that were declared."]
    notes += [f"{seeds - look} more wait for the next look."] if seeds > look and look != looks[-1] else []
    notes += [f"At {before} seeds: {other.verdict}." for before, other in found[:-1] if other.verdict != one.verdict]
    return replace(one, notes=(*one.notes, *notes))


def _judged(judgements: Sequence[Judgement], cells: pd.DataFrame, error: float) -> list[Judgement]:
    """Rule 2 with ``error`` for each family; rows over nets stand before those of their nets."""
    rows = _rows(judgements, gains(judgements, cells), cells)
    over = {one.claim.id for one, _ in rows if one.over}
    told: dict[int, Judgement] = {}
    first = [one.claim.headline and (bool(one.over) or one.claim.id not in over) for one, _ in rows]
    for headline in (True, False):
        family = [place for place, own in enumerate(first) if own == headline]
        counted = [place for place in family if rows[place][0].verdict != NO_RECORD]
        asked = [_errors(*rows[place]) for place in counted]
        for place, errors, (word, share) in zip(counted, asked, words(asked, error), strict=True):
            told[place] = _told(*rows[place], errors, word, share, len(counted))
    return [told.get(place, one) for place, (one, _) in enumerate(rows)]


def _rows(
    judgements: Sequence[Judgement], found: Sequence[Difference], cells: pd.DataFrame
) -> list[tuple[Judgement, Difference]]:
    """The judgements with their gains, and before those of a claim the one over its nets, where there are enough."""
    known = cells.drop_duplicates("run_id").set_index("run_id") if len(cells) else cells
    rows: list[tuple[Judgement, Difference]] = []
    for _, places in itertools.groupby(range(len(judgements)), key=lambda place: judgements[place].claim.id):
        own = [(judgements[place], found[place]) for place in places]
        nets: dict[tuple[str, str], list[tuple[Judgement, Difference]]] = defaultdict(list)
        for one, gain in own:
            if gain.blocks >= LEAST_PAIRS and gain.error > 0:
                run = next(iter(one.control_runs.values()))
                nets[str(known["model"].get(run)), data_set(str(known["data"].get(run)))].append((one, gain))
        over = over_nets([together([gain for _, gain in members]) for members in nets.values()])
        rows += [(_over(nets, over), over.difference)] if over else []
        rows += own
    return rows


def _over(nets: Mapping[tuple[str, str], Sequence[tuple[Judgement, Difference]]], over: OverNets) -> Judgement:
    """A judgement about several nets, each net in the place of a seed; its word comes later."""
    claim = next(iter(nets.values()))[0][0].claim
    sides = {
        side: {
            place: sum(getattr(one, side).mean for one, _ in members) / len(members)
            for place, members in enumerate(nets.values())
        }
        for side in ("control", "treatment")
    }
    gained = {place: together([gain for _, gain in members]).mean for place, members in enumerate(nets.values())}
    names = [" on ".join(net) for net in nets]
    each = ", ".join(f"{name} {amount(claim, gained[place], signed=True)}" for place, name in enumerate(names))
    notes = [f"By net: {each}; they differ by {amount(claim, float(f'{over.between:.2g}'))} (sd)."]
    if not math.isnan(over.low):
        ends = (amount(claim, end, signed=True) for end in (over.low, over.high))
        notes.append(f"In a net not tried the gain should lie between {' and '.join(ends)} (95 %).")
    gain = _estimate(over.difference, LEVEL)
    empty = Estimate(0, math.nan, math.nan, math.nan)
    one = Judgement(
        claim=claim,
        stratum=f"over {over.nets} nets",
        control=mean_interval(sides["control"].values()),
        treatment=mean_interval(sides["treatment"].values()),
        control_values=sides["control"],
        treatment_values=sides["treatment"],
        gain=gain,
        gains=gained,
        level=LEVEL,
        judged=gain,
        verdict="",
        why="",
        notes=tuple(notes),
        net=f"{over.nets} nets",
        over=over,
    )
    return replace(one, first=replace(one, gain=empty, judged=empty, why="rule 1 knows no nets"))


def _errors(judgement: Judgement, gain: Difference) -> Errors:
    if gain.blocks < LEAST_PAIRS:
        return Errors(math.nan, math.nan)
    return errors_of(judgement.claim.kind, gain, judgement.claim.smallest_difference)


def _told(one: Judgement, gain: Difference, errors: Errors, word: str, error: float, claims: int) -> Judgement:
    """``one`` with the word that it got when that may be wrong with probability ``error``."""
    if not gain.blocks:
        plain = {"level": LEVEL, "judged": one.gain, "p": math.nan, "seeds_needed": None}
        return replace(one, verdict=CANNOT_TELL, why=_APART, first=one.first or one, **plain)
    more = _more(one.claim, gain, claims) if word == CANNOT_TELL and gain.blocks >= LEAST_PAIRS else None
    return replace(
        one,
        gain=_estimate(gain, LEVEL),
        level=1 - 2 * error,  # a word stands on one side of it
        judged=_estimate(gain, 1 - 2 * error),
        verdict=word,
        why=_why(one.claim, gain, word, error) if word != CANNOT_TELL else _few(one, gain, more),
        seeds_needed=more,
        p=errors.least,
        first=one.first or one,
    )


def _estimate(gain: Difference, level: float) -> Estimate:
    return Estimate(gain.blocks, gain.mean, *gain.interval(level))


def _more(claim: Claim, gain: Difference, claims: int) -> int | None:
    """Blocks with which four of five such experiments would decide, if the gain is what was found."""
    sd = gain.error * math.sqrt(gain.blocks / 2)
    if not sd > 0:
        return None
    found = blocks_for(claim.kind, gain.mean, claim.smallest_difference, sd, 2 + gain.pooled, claims)
    return None if found is None else max(found, gain.blocks + 1)


def _few(one: Judgement, gain: Difference, more: int | None) -> str:
    if gain.blocks < LEAST_PAIRS:
        return f"fewer than {LEAST_PAIRS} seeds on one kind of processor"
    if not gain.error > 0:
        return _EQUAL
    what = "nets" if one.over else "seeds"
    return f"about {more} {what} would, four times of five" if more else f"{MOST_BLOCKS} {what} would not either"


def _why(claim: Claim, gain: Difference, word: str, error: float) -> str:
    d, more = amount(claim, claim.smallest_difference), grade(claim.kind, gain, claim.smallest_difference, error)
    if claim.kind == "better":
        if word == SUPPORTS:
            return f"better, by {d} or more" if more else "better"
        return "worse" if more else f"a gain of {d} or more is excluded"
    if claim.kind == "not_worse":
        return f"a loss of {d} or more is excluded" if word == SUPPORTS else "worse"
    if word == SUPPORTS:
        return f"a difference of {d} or more is excluded"
    return f"{'better' if gain.mean > 0 else 'worse'}, by {d} or more"


def gains(judgements: Sequence[Judgement], cells: pd.DataFrame) -> list[Difference]:
    """The gain of each judgement, as :func:`judge_again` takes it; of no blocks where its arms never met."""
    known = cells.drop_duplicates("run_id").set_index("run_id")
    groups: dict[Any, _Group] = defaultdict(_Group)
    places = []
    for number, one in enumerate(judgements):
        claim = one.claim
        alike = claim.metric_control == claim.metric_treatment and not _share_a_net(one, known)
        key = (one.net, claim.metric_control, claim.direction) if alike else number
        sign = 1 if claim.direction == "higher" else -1
        sides = ((one.control_runs, one.control_values), (one.treatment_runs, one.treatment_values))
        if not alike:  # of one net two numbers may be read: these are two arms all the same
            sides = tuple(
                ({seed: f"{run} {side}" for seed, run in runs.items()}, values)
                for side, (runs, values) in enumerate(sides)
            )
        arms = [
            groups[key].add(runs, {_block(seed, runs[seed], known): sign * value for seed, value in values.items()})
            for runs, values in sides
        ]
        places.append((key, *arms))
    fits = {key: fit_or_none(group.arms) for key, group in groups.items()}
    return [
        _difference(fits[key], treatment, control, _floor(one, known), _counted(one.claim))
        for (key, control, treatment), one in zip(places, judgements, strict=True)
    ]


def _difference(fitted: Any, arm: int, control: int, floor: float, counted: bool) -> Difference:
    found = between(fitted, arm, control, floor)
    return replace(found, exact=True) if counted and found.blocks and not found.error > 0 else found


def _block(seed: int, run: str, known: pd.DataFrame) -> tuple[int, str]:
    """One seed on one kind of processor."""
    run = run.partition(" ")[0]
    return seed, str(known["fingerprint"].get(run, "unknown"))


def _share_a_net(judgement: Judgement, known: pd.DataFrame) -> bool:
    runs = [*judgement.control_runs.values(), *judgement.treatment_runs.values()]
    heads = {str(known["head"].get(run, "")).partition("(")[0] for run in runs}
    return bool(heads & set(_FITTED)) or len(set(runs)) < len(runs)


def _counted(claim: Claim) -> bool:
    """Whether both numbers are counted, not measured nor drawn: that all blocks agree is then no chance."""
    known = [FIELDS.get(metric) for metric in (claim.metric_control, claim.metric_treatment)]
    return all(one is not None and one.kind in ("count", "operations") and not one.measured for one in known)


def _floor(judgement: Judgement, known: pd.DataFrame) -> float:
    """The least variance of a value, where the metric is the accuracy on a test set of known size."""
    if judgement.claim.metric_control != "test_accuracy" or not judgement.treatment_runs:
        return 0.0
    images = known["test_samples"].get(next(iter(judgement.treatment_runs.values())))
    return accuracy_floor(judgement.treatment.mean, int(images)) if pd.notna(images) and images else 0.0
