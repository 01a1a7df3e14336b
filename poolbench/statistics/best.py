"""Which arms are not told apart from the best: Hsu's multiple comparisons with the best (1984).

For each arm the question is whether some other arm is better. The answers hold together: whichever arm is truly the
best, it is left out in at most 5 % of cases.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from poolbench.statistics.blocks import Difference, Fit, between
from poolbench.statistics.comparisons import pair_floor
from poolbench.statistics.words import ERROR

_DRAWS, _SEED = 20_000, 1984
_TELLING = 6  # blocks; fewer would not show that one arm varies twice as much as the others


@dataclass(frozen=True)
class Rivals:
    """All others against one arm.

    Args:
        told: rival -> rival minus arm, of those whose spread is known.
        error: of each comparison, from one side, such that all of them hold together.
    """

    told: Mapping[str, Difference]
    error: float

    def better(self, by: float = 0.0) -> frozenset[str]:
        """The rivals that are surely better than the arm by more than ``by``; below 0: surely not so much worse."""
        return frozenset(rival for rival, one in self.told.items() if one.above(by) < self.error)


def rivals(fitted: Fit, floors: Mapping[str, float] | None = None, error: float = ERROR) -> dict[str, Rivals]:
    """Each arm with all others that it can be compared with; larger values are better.

    Args:
        floors: the least variance of one value of each arm.
        error: for each arm, the chance that something is said of its rivals that is wrong.
    """
    arms = list(fitted.effects)
    # Settings of one sweep mostly have one design, and all that is drawn hangs on that alone.
    design = fitted.factors.tobytes()
    found = {}
    for place, arm in enumerate(arms):
        others = [other for other in range(len(arms)) if other != place]
        one_by_one = {
            other: between(fitted, arms[other], arm, pair_floor(floors, arms[other], arm)) for other in others
        }
        told = {other: one for other, one in one_by_one.items() if one.error > 0}
        if not told:
            found[arm] = Rivals({}, error)
            continue
        alike = all(one.pooled and one.blocks >= _TELLING for one in told.values())
        df = float(np.median([one.df for one in told.values()]))
        # Of arms that may vary differently it is not known how often all of them would seem better at once.
        share = _share(design, place, tuple(told), df, error) if alike else error / len(told)
        found[arm] = Rivals({arms[other]: one for other, one in told.items()}, share)
    return found


def not_told_apart(fitted: Fit, floors: Mapping[str, float] | None = None, error: float = ERROR) -> frozenset[str]:
    """The arms that no other one is surely better than; larger values are better.

    Args:
        floors: the least variance of one value of each arm.
        error: the chance to leave out the best.
    """
    return frozenset(arm for arm, own in rivals(fitted, floors, error).items() if not own.better())


@lru_cache(maxsize=4)
def _draws(design: bytes) -> np.ndarray:
    """``(draws, A)``: noise of the arms' effects, as the design makes it correlated; ``design`` is the content of the
    matrix ``factors`` of a fit."""
    factors = np.frombuffer(design)
    factors = factors.reshape(math.isqrt(len(factors)), -1)
    values, vectors = np.linalg.eigh(factors)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(_SEED).standard_normal((_DRAWS, len(factors)))
    return normal @ root.T


@lru_cache(maxsize=128)  # 160 kB each
def _largest(design: bytes, arm: int, others: tuple[int, ...]) -> np.ndarray:
    """``(draws,)``: how many standard deviations the best of ``others`` seems better than ``arm``, as good as they."""
    noise = _draws(design)
    apart = noise[:, list(others)] - noise[:, [arm]]
    apart /= apart.std(axis=0)
    return apart.max(axis=1)


@lru_cache(maxsize=16)
def _spread(df: float) -> np.ndarray:
    """``(draws,)``: a measured standard deviation over the true one, with ``df`` degrees of freedom."""
    return np.sqrt(np.random.default_rng(_SEED + 1).chisquare(df, _DRAWS) / df)


@lru_cache(maxsize=4096)
def _share(design: bytes, arm: int, others: tuple[int, ...], df: float, error: float) -> float:
    """The error of one comparison, from one side, such that any of ``others`` is found better than ``arm``, which is as
    good as they, with probability ``error``: between ``error`` itself and its part of so many comparisons."""
    from scipy import stats

    quantile = float(np.quantile(_largest(design, arm, others) / _spread(df), 1 - error))
    # What is drawn is off by a little; these two it cannot pass.
    return float(np.clip(stats.t.sf(quantile, df), error / len(others), error))
