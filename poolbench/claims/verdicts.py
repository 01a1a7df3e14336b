"""The one rule by which records support or contradict a claim: paired t intervals at the level of Holm's procedure.

A claim's gain is tested against the values that matter to it: of *better* 0 and the smallest difference of interest d,
of *not worse* -d, of *equal* -d and d. Excluding one of them can decide a claim; it is *settled* when all are excluded.
The levels are Holm's (1979), with Shaffer's remark (1986) that at most one of a claim's values is true: a settled claim
passes its share of the 5 % on. One that is decided but not settled keeps it, since it may have been decided wrongly.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from poolbench.claims.claim import NO_RECORD, Claim, Judgement, amount, arm_text
from poolbench.claims.pairing import Arm, Pairing, Tested, comparable, net_words, pair_notes, pairings
from poolbench.records.read import Record
from poolbench.statistics.comparisons import ALPHA, LEAST_PAIRS, difference_p
from poolbench.statistics.estimates import LEVEL, Estimate, mean_interval, spreadless
from poolbench.statistics.words import CANNOT_TELL, CONTRADICTS, SUPPORTS

MOST_SEEDS = 1000  # beyond, nobody waits for a verdict
_EMPTY = mean_interval([])


@dataclass(frozen=True)
class GainTests:
    """The gains of one judgement, tested against the values that matter to its claim.

    Args:
        kind: the claim's; smallest: its smallest difference of interest, d; mean: the mean gain.
        p: value -> two-sided p of the hypothesis that it is the true mean gain.
    """

    kind: str
    smallest: float
    mean: float
    p: dict[float, float]

    @property
    def settled_p(self) -> float:
        """The smallest two-sided error at which all the values are excluded."""
        return max(self.p.values())

    @property
    def decided_p(self) -> float:
        """The smallest two-sided error at which the verdict is not that we cannot tell."""
        just_above = {p: math.nextafter(p, math.inf) for p in self.p.values()}
        return min((p for p, error in just_above.items() if self.verdict(error) != CANNOT_TELL), default=1.0)

    def above(self, value: float, error: float) -> bool:
        """Whether the interval at the two-sided ``error`` lies above ``value``, one of the tested ones."""
        return self.mean > value and self.p.get(value, 1.0) < error

    def below(self, value: float, error: float) -> bool:
        """Whether it lies below ``value``."""
        return self.mean < value and self.p.get(value, 1.0) < error

    def verdict(self, error: float) -> str:
        """``supports``, ``contradicts`` or ``cannot tell`` at the two-sided ``error``."""
        return _verdict(
            self.kind, self.smallest, lambda value: self.above(value, error), lambda value: self.below(value, error)
        )


def gain_tests(kind: str, gains: Sequence[float], smallest: float) -> GainTests:
    """Tests of the ``gains`` by seed, two or more, of a claim of this kind and smallest difference of interest."""
    values = {"better": (0.0, smallest), "not_worse": (-smallest,), "equal": (-smallest, smallest)}[kind]
    return GainTests(kind, smallest, float(np.mean(gains)), {value: difference_p(gains, value) for value in values})


def errors(tests: Sequence[GainTests]) -> list[float]:
    """The two-sided error at which each of ``tests`` is judged, so that any is wrong in at most 5 % of cases.

    The test that is settled at the smallest error is judged at 0.05 / m, the next at 0.05 / (m - 1), and so on up to
    the first that is not settled: this one and the rest are judged at the same.
    """
    allowed, left = [0.0] * len(tests), len(tests)
    for index in sorted(range(len(tests)), key=lambda index: tests[index].settled_p):
        allowed[index] = ALPHA / left
        left -= tests[index].settled_p < ALPHA / left  # After one that is not, none is: the rest have larger p.
    return allowed


def judge(claims: Iterable[Claim], records: Iterable[Record]) -> list[Judgement]:
    """A judgement for each claim and stratum, in the order of the claims.

    Args:
        claims: of one experiment: their verdicts hold together, a wrong one among all of them in at most 5 % of cases.
        records: in any order; those that have not finished are told and not counted.
    Raises: ClaimError where an arm does not name one config, or asks for what no record has.
    """
    cells = comparable(records)
    judged = [judgement for claim in claims for judgement in _prepared(claim, cells)]
    counted = [index for index, judgement in enumerate(judged) if judgement.gain.n >= LEAST_PAIRS]
    tests = [
        gain_tests(judged[i].claim.kind, list(judged[i].gains.values()), judged[i].claim.smallest_difference)
        for i in counted
    ]
    for index, test, error in zip(counted, tests, errors(tests), strict=True):
        judged[index] = _decided(judged[index], test, error)
    return judged


def seeds_needed(tests: GainTests, spread: float, n: int, error: float) -> int | None:
    """The least number of pairs, ``n`` or more, that would decide at the two-sided ``error`` if the mean stayed as it
    is, and ``spread``, the standard deviation of the gains; None beyond 1000, and without a spread to reckon with."""
    if not spread > 0:
        return None

    def decides(count: int) -> bool:
        margin, mean = _quantiles(1 - error)[count] * spread / math.sqrt(count), tests.mean
        decided = _verdict(
            tests.kind, tests.smallest, lambda value: mean - margin > value, lambda value: mean + margin < value
        )
        return decided != CANNOT_TELL

    counts = range(max(n, LEAST_PAIRS), MOST_SEEDS + 1)
    place = bisect_left(counts, True, key=decides)  # Intervals only shrink as pairs are added.
    return counts[place] if place < len(counts) else None


def _verdict(kind: str, smallest: float, above: Callable[[float], bool], below: Callable[[float], bool]) -> str:
    """The rule. ``above`` and ``below`` say whether the interval of the gain lies wholly above or below a value."""
    if kind == "better":
        contradicts, supports = below(smallest), above(0.0)
    elif kind == "not_worse":
        contradicts, supports = below(-smallest), above(-smallest)
    else:
        contradicts, supports = above(smallest) or below(-smallest), above(-smallest) and below(smallest)
    return CONTRADICTS if contradicts else SUPPORTS if supports else CANNOT_TELL


def _prepared(claim: Claim, cells: Sequence[Tested]) -> list[Judgement]:
    """The claim's judgements without verdicts: pairs, means, gains, notes."""
    found = pairings(claim, cells)
    if not found:
        return [_without_records(claim, "", (claim.control, claim.treatment), ())]
    return [_measured(claim, pairing) for pairing in found]


def _measured(claim: Claim, pairing: Pairing) -> Judgement:
    control, treatment = pairing.control, pairing.treatment
    notes = tuple(pair_notes(claim, pairing))
    lacking = [getattr(claim, name) for name, arm in (("control", control), ("treatment", treatment)) if not arm.values]
    if lacking:
        return _without_records(claim, pairing.stratum, lacking, notes)
    seeds = sorted(control.values.keys() & treatment.values.keys())
    a, b = ({seed: arm.values[seed] for seed in seeds} for arm in (control, treatment))
    sign = 1 if claim.direction == "higher" else -1
    gains = {seed: sign * (b[seed] - a[seed]) for seed in seeds}
    gain = _interval(list(gains.values()), LEVEL)
    few = "no seed that both arms have" if not seeds else f"fewer than {LEAST_PAIRS} pairs"
    return Judgement(
        claim=claim,
        stratum=pairing.stratum,
        control=mean_interval(a.values()),
        treatment=mean_interval(b.values()),
        control_values=a,
        treatment_values=b,
        gain=gain,
        gains=gains,
        level=LEVEL,
        judged=gain,
        verdict=CANNOT_TELL,
        why=few,
        notes=notes,
        control_runs=_runs(control, seeds),
        treatment_runs=_runs(treatment, seeds),
        net=net_words([*control.cells.values(), *treatment.cells.values()]),
    )


def _without_records(claim: Claim, stratum: str, lacking: Iterable[Mapping], notes: tuple[str, ...]) -> Judgement:
    names = " nor of ".join(f"{{{arm_text({**claim.where, **arm})}}}" for arm in lacking)
    # A stratum that only one arm has is there because its label varies and no arm mentions it.
    where = f" with {stratum} (if that is part of an arm, name it there)" if stratum else ""
    return Judgement(
        claim=claim,
        stratum=stratum,
        control=_EMPTY,
        treatment=_EMPTY,
        control_values={},
        treatment_values={},
        gain=_EMPTY,
        gains={},
        level=LEVEL,
        judged=_EMPTY,
        verdict=NO_RECORD,
        why=f"no finished cell of {names}{where}",
        notes=notes,
    )


def _decided(judgement: Judgement, tests: GainTests, error: float) -> Judgement:
    """``judgement`` with its verdict at the two-sided ``error``."""
    gains = list(judgement.gains.values())
    verdict, more, notes = tests.verdict(error), None, judgement.notes
    why = _why(judgement.claim, tests, error, verdict)
    if spreadless(gains):
        notes = (*notes, f"All {len(gains)} differences are equal: no spread, so p is that of the exact test, 2/2^n.")
        why = why or "all differences are equal, so that no interval says how sure they are"
    elif verdict == CANNOT_TELL:
        more = seeds_needed(tests, float(np.std(gains, ddof=1)), len(gains), error)
        why = f"about {more} seeds would" if more else f"{MOST_SEEDS} seeds would not either"
    return replace(
        judgement,
        level=1 - error,
        judged=_interval(gains, 1 - error),
        verdict=verdict,
        why=why,
        seeds_needed=more,
        notes=notes,
        p=tests.decided_p,
    )


def _why(claim: Claim, tests: GainTests, error: float, verdict: str) -> str:
    d, smallest = amount(claim, tests.smallest), tests.smallest
    if verdict == CANNOT_TELL:
        return ""
    if tests.kind == "better":
        if verdict == SUPPORTS:
            return f"better, by {d} or more" if tests.above(smallest, error) else "better"
        excluded = f"a gain of {d} or more is excluded"
        if tests.below(0.0, error):
            return "worse"
        return f"better, but {excluded}" if tests.above(0.0, error) else excluded
    if tests.kind == "not_worse":
        return f"a loss of {d} or more is excluded" if verdict == SUPPORTS else f"worse, by {d} or more"
    if verdict == SUPPORTS:
        return f"a difference of {d} or more is excluded"
    return f"{'better' if tests.above(smallest, error) else 'worse'}, by {d} or more"


def _interval(gains: list[float], level: float) -> Estimate:
    """The mean gain and its interval; without bounds where differences without spread would give it no width."""
    estimate = mean_interval(gains, level)
    return Estimate(estimate.n, estimate.mean, math.nan, math.nan) if spreadless(gains) else estimate


def _runs(arm: Arm, seeds: Iterable[int]) -> dict[int, str]:
    return {seed: arm.cells[seed].record.run_id for seed in seeds}


@lru_cache(maxsize=64)
def _quantiles(level: float) -> np.ndarray:
    """The t quantile of a two-sided interval at ``level`` for each number of pairs up to 1000; NaN below 2."""
    from scipy import stats

    counts = np.arange(MOST_SEEDS + 1)
    return np.where(counts >= 2, stats.t.ppf((1 + level) / 2, np.maximum(counts - 1, 1)), math.nan)
