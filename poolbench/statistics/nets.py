"""A difference over several nets: its mean, how much nets differ in it, and what to expect in one that was not tried.

Nets are taken to be drawn from those that people use, and the difference in a net to be normally distributed about its
mean over them (random effects). Which nets were tried is the user's doing, so this is an assumption and no fact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from poolbench.statistics.blocks import Difference
from poolbench.statistics.estimates import LEVEL

LEAST_NETS, LEAST_TO_PREDICT = 3, 5
_SEED = 2019
_SHARES = (np.arange(10_000) + 0.5) / 10_000  # of a distribution, each as likely as the others


@dataclass(frozen=True)
class OverNets:
    """A difference over ``nets`` of them.

    Args:
        mean: estimated over all nets, whether tried or not; error: its standard error; df: degrees of freedom.
        between: standard deviation from net to net, noise apart.
        low, high: the 95 % interval for the true difference in a net not tried; NaN for fewer than five nets.
        above: the chance that it is above 0 there, a share of what ``low`` and ``high`` are quantiles of; NaN likewise.
    """

    nets: int
    mean: float
    error: float
    df: float
    between: float
    low: float
    high: float
    above: float

    @property
    def difference(self) -> Difference:
        """As one of blocks, so that the same words are asked of it."""
        return Difference(self.mean, self.nets, self.error, self.df, pooled=False)


def together(differences: Sequence[Difference]) -> Difference:
    """The mean of what several settings of one net say."""
    mean = sum(one.mean for one in differences) / len(differences)
    error = math.sqrt(sum(one.error**2 for one in differences)) / len(differences)
    return Difference(mean, min(one.blocks for one in differences), error, min(one.df for one in differences), True)


def over_nets(differences: Sequence[Difference]) -> OverNets | None:
    """Put together the differences of each net; None for fewer than three that have a spread.

    The spread between nets is Paule and Mandel's (1982), the mean's interval Hartung and Knapp's (2001), never
    narrower than the noise within nets makes it. The interval for another net is Nagashima, Noma and Furukawa's
    (2019): how little few nets tell of the spread between nets is in it.
    """
    known = [one for one in differences if one.error > 0 and math.isfinite(one.mean)]
    if len(known) < LEAST_NETS:
        return None
    means = np.array([one.mean for one in known])
    within = np.array([one.error**2 for one in known])
    variance = _between(means, within)
    weights = 1 / (within + variance)
    mean = float(np.sum(weights * means) / weights.sum())
    # Hartung and Knapp's factor is 1 where a spread between nets was found, and below 1 where none was.
    error = 1 / math.sqrt(weights.sum())
    low = high = above = math.nan
    if len(known) >= LEAST_TO_PREDICT:
        drawn = _elsewhere(means, within)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        above = float(np.mean(drawn > 0))
    told = (float(f"{value:.9g}") for value in (mean, error, math.sqrt(variance), low, high))
    mean, error, between, low, high = told
    return OverNets(len(known), mean, error, len(known) - 1.0, between, low, high, above)


def shown_elsewhere(differences: Sequence[Difference], own: Difference) -> tuple[float, float]:
    """The 95 % interval for what a net that is none of ``differences`` will *show*: what is expected of its true
    difference, and the noise of its own cells, which is that of ``own``. NaN where nothing can be expected."""
    known = [one for one in differences if one.error > 0 and math.isfinite(one.mean)]
    if len(known) < LEAST_TO_PREDICT or not own.error > 0:
        return math.nan, math.nan
    drawn = _elsewhere(np.array([one.mean for one in known]), np.array([one.error**2 for one in known]))
    low, high = np.quantile(drawn + own.error * _noise(own.df), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(f"{low:.9g}"), float(f"{high:.9g}")


def _between(means: np.ndarray, within: np.ndarray) -> float:
    """The variance between nets at which the weighted squares are what they should be; 0 where they are less."""
    from scipy import optimize

    def excess(variance: float) -> float:
        return float(_squares(means, within, np.array([variance]))[1][0]) - (len(means) - 1)

    if excess(0.0) <= 0:
        return 0.0
    most = float(np.sum((means - means.mean()) ** 2)) + float(within.max())
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-15, rtol=1e-12))


def _squares(means: np.ndarray, within: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of ``variances`` between nets: the mean over nets, the weighted squares about it, the sum of weights."""
    weights = 1 / (within + variances[:, None])
    total = weights.sum(axis=1)
    centres = (weights * means).sum(axis=1) / total
    return centres, (weights * (means - centres[:, None]) ** 2).sum(axis=1), total


def _elsewhere(means: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Draws of the true difference in another net, each as likely as the others.

    If v is the variance between nets, the weighted squares at v are a chi-square's: each draw of one gives a v. Given
    v, the mean over nets is a t's, and a net differs from it by a normal with variance v.
    """
    from scipy import stats

    df = len(means) - 1
    chi, t, normal = _orders(df)
    most = float(np.sum((means - means.mean()) ** 2)) / stats.chi2.ppf(1e-4, df) + float(within.max())
    grid = np.concatenate([[0.0], np.geomspace(1e-6 * most, most, 500)])
    squares = _squares(means, within, grid)[1]  # they fall as the variance grows
    variances = np.interp(-chi, -squares, grid)
    centres, squares, total = _squares(means, within, variances)
    errors = np.sqrt(np.maximum(1.0, squares / df) / total)
    return centres + t * errors + normal * np.sqrt(variances)


@lru_cache(maxsize=16)
def _orders(df: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantiles of a chi-square, a t and a normal, each in an order of its own."""
    from scipy import stats

    draw = np.random.default_rng(_SEED)
    chi, t, normal = (draw.permutation(_SHARES) for _ in range(3))
    return stats.chi2.ppf(chi, df), stats.t.ppf(t, df), stats.norm.ppf(normal)


@lru_cache(maxsize=64)
def _noise(df: float) -> np.ndarray:
    """Quantiles of a t, in an order that is none of :func:`_orders`."""
    from scipy import stats

    return stats.t.ppf(np.random.default_rng(_SEED + 1).permutation(_SHARES), df)
