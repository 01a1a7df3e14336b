"""How alike settings rank the arms, and what goes with an arm's gain: rank correlations, whose units are stated.

Arms of one setting share a control, and settings share their arms, so no p here takes the cells for independent:
settings are the units where settings are compared, arms where arms are.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poolbench.statistics.comparisons import holm
from poolbench.statistics.estimates import LEVEL

LEAST_ARMS = 5  # that two settings must have in common, and that a correlation over arms takes
_PERMUTATIONS, _SEED = 9_999, 1938
Values = Mapping[str, Mapping[Any, float]]  # arm -> setting -> value


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between the settings' orders of arms, averaged over pairs of settings.

    Args:
        settings: that were compared; low, high: the 95 % interval by leaving out a setting in turn, NaN for fewer than
            three.
    """

    settings: int
    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Association:
    """A correlation that goes with no claim of a cause.

    Args:
        name: of the property; units: arms or settings that have it.
        strength: Spearman's rho over arms, or the share of the variance over settings; p: of as strong a one by
            chance, by permutation; p_holm: the same, adjusted for all that were asked.
    """

    name: str
    units: int
    strength: float
    p: float
    p_holm: float = math.nan


def agreement(values: Values) -> Agreement | None:
    """How alike the settings of ``values`` order the arms; None where no two have five arms in common."""
    from scipy import stats

    settings = list(dict.fromkeys(setting for own in values.values() for setting in own))
    taus: dict[tuple[Any, Any], float] = {}
    for a, b in itertools.combinations(settings, 2):
        both = [(own[a], own[b]) for own in values.values() if a in own and b in own]
        if len(both) >= LEAST_ARMS:
            tau = float(stats.kendalltau(*zip(*both, strict=True)).statistic)
            if not math.isnan(tau):
                taus[a, b] = tau
    if not taus:
        return None
    told = list(dict.fromkeys(setting for pair in taus for setting in pair))
    mean = float(np.mean(list(taus.values())))
    low = high = math.nan
    if len(told) > 2:
        # A jackknife: pairs are no cases, settings are.
        without = [[tau for pair, tau in taus.items() if left not in pair] for left in told]
        if all(without):
            count = len(told)
            pseudo = [count * mean - (count - 1) * float(np.mean(own)) for own in without]
            half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * float(np.std(pseudo, ddof=1)) / math.sqrt(count)
            low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Agreement(len(told), mean, low, high)


def go_with(gains: Mapping[str, float], properties: Mapping[str, Mapping[str, float]]) -> list[Association]:
    """Spearman's correlation of the arms' ``gains`` with each of ``properties``, name -> arm -> value.

    A property that fewer than five arms have, or that is the same of all, is left out.
    """
    found = []
    for name, own in properties.items():
        arms = [arm for arm in gains if arm in own and math.isfinite(own[arm]) and math.isfinite(gains[arm])]
        x, y = (_ranks([side[arm] for arm in arms]) for side in (own, gains))
        if len(arms) < LEAST_ARMS or not x.any() or not y.any():
            continue
        scale = math.sqrt(float(x @ x) * float(y @ y))
        draw = np.random.default_rng(_SEED)
        drawn = np.array([abs(float(draw.permutation(x) @ y)) for _ in range(_PERMUTATIONS)])
        found.append(Association(name, len(arms), float(x @ y) / scale, _p(drawn, abs(float(x @ y)))))
    return _adjusted(found)


def differ_with(values: Values, features: Mapping[str, Mapping[Any, float]]) -> list[Association]:
    """What share of the variance of arms over settings goes with each of ``features``, name -> setting -> value.

    The arms that all settings have are taken together: the share is the sum over them of what a straight line in the
    feature explains, by the sum of their variances. Chance is told by giving the settings each other's feature.
    """
    settings = list(dict.fromkeys(setting for own in values.values() for setting in own))
    rows = [[own[setting] for setting in settings] for own in values.values() if len(own) == len(settings)]
    found = []
    for name, own in features.items():
        if len(settings) < LEAST_ARMS or not rows or not all(setting in own for setting in settings):
            continue
        x = np.array([float(own[setting]) for setting in settings])
        x -= x.mean()
        centred = np.array(rows) - np.mean(rows, axis=1, keepdims=True)
        if not x.any() or not centred.any():
            continue
        draw = np.random.default_rng(_SEED)
        share = _share(centred, x)
        drawn = np.array([_share(centred, draw.permutation(x)) for _ in range(_PERMUTATIONS)])
        found.append(Association(name, len(settings), share, _p(drawn, share)))
    return _adjusted(found)


def _share(centred: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(centred @ x).sum() / (x @ x) / np.square(centred).sum())


def _p(drawn: np.ndarray, seen: float) -> float:
    """The share of what was drawn that is as large; what was seen counts as one of them."""
    return float((1 + np.sum(drawn >= seen * (1 - 1e-12))) / (1 + len(drawn)))


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks about 0, those of equal values alike."""
    from scipy import stats

    ranks = stats.rankdata(values) if len(values) else np.zeros(0)
    return ranks - ranks.mean() if len(ranks) else ranks


def _adjusted(found: Sequence[Association]) -> list[Association]:
    adjusted = holm([one.p for one in found])
    return [Association(one.name, one.units, one.strength, one.p, p) for one, p in zip(found, adjusted, strict=True)]
