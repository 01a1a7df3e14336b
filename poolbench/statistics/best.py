"""Which arms are not told apart from the best: Hsu's multiple comparisons with the best (1984).

For each arm the question is whether some other arm is better. The answers hold together: whichever arm is truly the
best, it is left out in at most 5 % of cases.
"""

from collections.abc import Mapping

import numpy as np

from poolbench.statistics.blocks import Fit, between
from poolbench.statistics.comparisons import pair_floor
from poolbench.statistics.words import ERROR

_DRAWS, _SEED = 20_000, 1984
_TELLING = 6  # blocks; fewer would not show that one arm varies twice as much as the others


def not_told_apart(fitted: Fit, floors: Mapping[str, float] | None = None, error: float = ERROR) -> frozenset[str]:
    """The arms that no other one is surely better than; larger values are better.

    Args:
        floors: the least variance of one value of each arm.
        error: the chance to leave out the best.
    """
    arms = list(fitted.effects)
    noise = _draws(fitted.factors)
    found = set(arms)
    for place, arm in enumerate(arms):
        others = [other for other in range(len(arms)) if other != place]
        rivals = {other: between(fitted, arms[other], arm, pair_floor(floors, arms[other], arm)) for other in others}
        told = {other: one for other, one in rivals.items() if one.error > 0}
        if not told:
            continue
        alike = all(one.pooled and one.blocks >= _TELLING for one in told.values())
        df = float(np.median([one.df for one in told.values()]))
        # Of arms that may vary differently it is not known how often all of them would seem better at once.
        share = _share(noise, place, list(told), df, error) if alike else error / len(told)
        if min(one.above(0.0) for one in told.values()) < share:
            found.discard(arm)
    return frozenset(found)


def _draws(factors: np.ndarray) -> np.ndarray:
    """``(draws, A)``: noise of the arms' effects, as the design makes it correlated."""
    values, vectors = np.linalg.eigh(factors)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(_SEED).standard_normal((_DRAWS, len(factors)))
    return normal @ root.T


def _share(noise: np.ndarray, arm: int, others: list[int], df: float, error: float) -> float:
    """The error of one comparison, from one side, such that any of ``others`` is found better than ``arm``, which is as
    good as they, with probability ``error``: between ``error`` itself and its part of so many comparisons."""
    from scipy import stats

    apart = noise[:, others] - noise[:, [arm]]
    largest = (apart / apart.std(axis=0)).max(axis=1)
    spread = np.sqrt(np.random.default_rng(_SEED + 1).chisquare(df, len(noise)) / df)
    quantile = float(np.quantile(largest / spread, 1 - error))
    # What is drawn is off by a little; these two it cannot pass.
    return float(np.clip(stats.t.sf(quantile, df), error / len(others), error))
