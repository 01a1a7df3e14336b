"""All arms against all others at once, for whoever wants to choose the control afterwards.

The same numbers as :mod:`poolbench.statistics.comparisons` gives for one control after the other, in a few passes over
arrays: 42 arms have 1,722 differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poolbench.statistics.blocks import PRIOR_DF, UNEQUAL, Fit
from poolbench.statistics.comparisons import ALPHA, CANNOT_TELL, HIGHER, LEAST_PAIRS, LOWER, holm

VERDICTS = (CANNOT_TELL, HIGHER, LOWER)


@dataclass(frozen=True)
class Pairs:
    """Row minus column, for arms in the order of ``arms``; NaN where two never met, or where nothing tells the spread.

    Args:
        mean, half: ``(A, A)``: of the differences, and half of their 95 % intervals.
        p: ``(A, A)``, two-sided.
        blocks: ``(A, A)``: those that have both.
        verdict: ``(A, A)``: places in :data:`VERDICTS`, by Holm's correction over the column.
    """

    arms: tuple[str, ...]
    mean: np.ndarray
    half: np.ndarray
    p: np.ndarray
    blocks: np.ndarray
    verdict: np.ndarray


def all_pairs(fitted: Fit, floors: Mapping[str, float] | None = None) -> Pairs:
    """Every arm of ``fitted`` against every other.

    Args:
        floors: the least variance of one value of each arm.
    """
    from scipy import stats

    arms = tuple(fitted.effects)
    values = _matrix(fitted)
    effects = np.array([fitted.effects[arm] for arm in arms])
    least = np.array([floors.get(arm, 0.0) for arm in arms] if floors else np.zeros(len(arms)))
    differences = values[:, None, :] - values[None, :, :]
    met = ~np.isnan(differences)
    blocks = met.sum(axis=2)
    mean = effects[:, None] - effects[None, :]
    spread = np.diag(fitted.factors)
    factor = spread[:, None] + spread[None, :] - 2 * fitted.factors
    variance, df = _variances(np.where(met, differences, 0.0), met, fitted)
    largest = np.nanmax(np.abs(values), axis=1)
    largest = np.maximum(largest[:, None], largest[None, :])
    variance = np.where(variance <= (1e-9 * largest) ** 2, 0.0, variance)
    variance = np.where(df > 0, np.maximum(variance, (least[:, None] + least[None, :]) / 2), np.nan)
    error = np.sqrt(variance * factor)
    known = (blocks > 0) & ~np.eye(len(arms), dtype=bool)
    mean = np.where(known, mean, np.nan)
    error = np.where(known & (error > 0), error, np.nan)
    usable = np.where(df > 0, df, 1.0)
    half = stats.t.ppf(0.975, usable) * error
    p = 2 * stats.t.sf(np.abs(mean) / error, usable)
    return Pairs(arms, mean, half, p, blocks, _verdicts(mean, p, blocks))


def _matrix(fitted: Fit) -> np.ndarray:
    """``(A, B)``, NaN where an arm lacks a block."""
    blocks = sorted({block for own in fitted.values.values() for block in own}, key=repr)
    return np.array([[own.get(block, np.nan) for block in blocks] for own in fitted.values.values()], dtype=float)


def _variances(differences: np.ndarray, met: np.ndarray, fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Of one value's noise, for each pair of arms, and its degrees of freedom, 0 where nothing tells it: as
    :meth:`poolbench.statistics.blocks.Fit.difference` has them."""
    from scipy import stats

    count = met.sum(axis=2)
    own_df = np.maximum(0, count - 1)
    centre = differences.sum(axis=2) / np.maximum(1, count)
    own = np.square(np.where(met, differences - centre[..., None], 0.0)).sum(axis=2) / 2
    rest_df = fitted.df - own_df
    there = rest_df > 0
    rest = np.maximum(0.0, fitted.squares - own) / np.where(there, rest_df, 1)
    prior = 1 / (1 / PRIOR_DF + 1 / np.where(there, rest_df, 1))
    alone = own / np.maximum(1, own_df)
    ratio = alone / np.where(rest > 0, rest, 1.0)
    unequal = stats.f.sf(ratio, np.maximum(1, own_df), np.where(there, rest_df, 1)) < UNEQUAL
    by_itself = ~there | ((own_df > 0) & (rest > 0) & unequal)
    variance = np.where(by_itself, alone, (prior * rest + own) / (prior + own_df))
    return variance, np.where(by_itself, own_df, prior + own_df).astype(float)


def _verdicts(mean: np.ndarray, p: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    found = np.zeros(mean.shape, dtype=int)
    for control in range(len(mean)):
        tested = np.flatnonzero((blocks[:, control] >= LEAST_PAIRS) & ~np.isnan(p[:, control]))
        for arm, adjusted in zip(tested, holm(list(p[tested, control])), strict=True):
            if adjusted < ALPHA:
                found[arm, control] = VERDICTS.index(HIGHER if mean[arm, control] > 0 else LOWER)
    return found
