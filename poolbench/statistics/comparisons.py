"""Pools against a baseline within one setting, and the rule by which a table calls a difference real.

The rule: differences are taken within blocks, with the spread that all pools of the table leave over
(:mod:`poolbench.statistics.blocks`). A pool is called *higher* or *lower* than the baseline when the two-sided test of
its difference has p < 0.05 after Holm's correction over the comparisons of its table; otherwise we *cannot tell*.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from poolbench.statistics.blocks import Difference, Values, between, fit_or_none
from poolbench.statistics.estimates import spreadless

ALPHA = 0.05
HIGHER, LOWER, CANNOT_TELL = "higher", "lower", "cannot tell"
LEAST_PAIRS = 3  # for a verdict: two differences show one spread only, and a fluke of theirs looks certain.


@dataclass(frozen=True)
class Comparison:
    """A pool against the baseline.

    Args:
        difference: pool minus baseline; of no blocks where the two never met in one.
        p: two-sided; p_holm: the same, adjusted for the number of comparisons in the table. NaN without a spread.
        verdict: ``higher``, ``lower`` or ``cannot tell``, by the rule above.
    """

    difference: Difference
    p: float
    p_holm: float = math.nan
    verdict: str = CANNOT_TELL


def compare(pools: Values, baseline: str, floors: Mapping[str, float] | None = None) -> dict[str, Comparison]:
    """Every other pool against ``baseline``; ``pools`` maps a name to {block: value}. Empty without a baseline.

    Holm's correction counts the comparisons that may get a verdict: those of three blocks or more.

    Args:
        floors: the least variance of one value of each pool, as :func:`poolbench.statistics.blocks.accuracy_floor`
            gives it.
    """
    if not pools.get(baseline):
        return {}
    fitted, found = fit_or_none(pools), {}
    for name in pools:
        if name != baseline:
            difference = between(fitted, name, baseline, pair_floor(floors, name, baseline))
            found[name] = Comparison(difference, two_sided(difference))
    tested = [name for name, one in found.items() if one.difference.blocks >= LEAST_PAIRS and not math.isnan(one.p)]
    for name, p in zip(tested, holm([found[name].p for name in tested]), strict=True):
        higher = found[name].difference.mean > 0
        found[name] = replace(
            found[name], p_holm=p, verdict=CANNOT_TELL if not p < ALPHA else HIGHER if higher else LOWER
        )
    return found


def pair_floor(floors: Mapping[str, float] | None, arm: str, control: str) -> float:
    """The least variance of one value of either, the mean of both; 0 where none is known."""
    return (floors.get(arm, 0.0) + floors.get(control, 0.0)) / 2 if floors else 0.0


def two_sided(difference: Difference) -> float:
    """p that the true difference is 0; NaN without a spread."""
    above = difference.above(0.0)
    return math.nan if math.isnan(above) else 2 * min(above, difference.below(0.0))


def difference_p(differences: Sequence[float], against: float = 0.0) -> float:
    """Two-sided p of the paired t test that the mean of ``differences`` is ``against``, as rule 1 of claims has it.

    For differences without spread it is that of the exact test which flips their signs, 2 / 2^n, or 1 where they are
    what they are tested against. NaN for fewer than two.
    """
    from scipy import stats

    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2:
        return math.nan
    if not spreadless(differences):
        return float(stats.ttest_1samp(differences, against).pvalue)
    return 1.0 if np.allclose(differences, against, rtol=1e-9, atol=0.0) else 2.0 / 2 ** len(differences)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the i-th smallest of m is multiplied by m - i + 1, never below its predecessor."""
    order = np.argsort(p_values, kind="stable")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = least
    return adjusted
