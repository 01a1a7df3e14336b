"""Means with their 95 % intervals."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and its 95 % interval; the bounds are NaN where there is none (n < 2)."""

    n: int
    mean: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """The mean and its t interval at ``level``. No interval for one value, zero width for equal ones."""
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    if n == 0:
        return Estimate(0, math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if n == 1:
        return Estimate(1, mean, math.nan, math.nan)
    margin = _t_quantile(n - 1, level) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(n, mean, mean - margin, mean + margin)


def spreadless(differences: Sequence[float]) -> bool:
    """Whether two or more differences are all equal.

    Accuracies are whole numbers of images: that happens, and their t would be infinite for two seeds already. Then the
    t test and its interval say nothing, and the exact test's p takes their place.
    """
    differences = np.asarray(differences, dtype=float)
    return len(differences) > 1 and bool(differences.std(ddof=1) <= 1e-9 * np.abs(differences).max())


@lru_cache
def _t_quantile(degrees: int, level: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, degrees))
