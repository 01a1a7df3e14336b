"""Arms compared within blocks: the least squares of arm and block, and the spread that a difference is judged by.

A block is what one seed gave on one kind of processor. Values are taken to be arm + block + noise; a block that lacks
an arm counts for what it has. Of a difference of two arms two things tell the spread of the noise: the differences of
these two by block, and what the other arms leave over. Few blocks tell little by themselves, and arms differ in
spread by less than so few can show, so the two are put together as the R package limma does for genes (Smyth, 2004):
the others count as if ``PRIOR_DF`` degrees of freedom had measured how alike spreads are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PRIOR_DF = 11.0  # how alike the arms' spreads are, measured on 110 degrees of freedom of published cells
UNEQUAL = 0.05  # below this p the two arms' own spread is larger than the others', and stands alone
OF_TEST_SET = 0.32  # variance of an accuracy between seeds, at the least: times accuracy x error / images

Values = Mapping[str, Mapping[object, float]]  # arm -> block -> value


@dataclass(frozen=True)
class Difference:
    """One arm minus another.

    Args:
        mean: estimated over all blocks; blocks: those that have both arms.
        error: standard error of ``mean``; df: its degrees of freedom. NaN and 0 where nothing tells the spread.
        pooled: whether the other arms had a say in ``error``.
        exact: ``mean`` is the true difference, as that of two counts of operations.
    """

    mean: float
    blocks: int
    error: float
    df: float
    pooled: bool
    exact: bool = False

    def above(self, value: float) -> float:
        """One-sided p that the true difference is ``value`` or less. NaN without a spread."""
        # What scipy.stats.t.sf comes to, which takes thirty times as long; a report of 10,000 cells asks 50,000 times.
        from scipy.special import stdtr

        if self.exact:
            return float(self.mean <= value)
        return float(stdtr(self.df, -((self.mean - value) / self.error))) if self.error > 0 else math.nan

    def below(self, value: float) -> float:
        """One-sided p that the true difference is ``value`` or more. NaN without a spread."""
        from scipy.special import stdtr

        if self.exact:
            return float(self.mean >= value)
        return float(stdtr(self.df, (self.mean - value) / self.error)) if self.error > 0 else math.nan

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided interval at ``level``; NaN without a spread."""
        from scipy import stats

        if self.exact:
            return self.mean, self.mean
        if not self.error > 0:
            return math.nan, math.nan
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.error
        return self.mean - half, self.mean + half


NOTHING = Difference(math.nan, 0, math.nan, 0.0, False)  # of arms that never met


@dataclass(frozen=True)
class Fit:
    """The least squares of arm and block.

    Args:
        values: as they were given, of the arms and blocks that can be compared at all.
        effects: of each arm, up to a number that all share.
        factors: ``(A, A)``, of arms in the order of ``effects``: variances of the effects in units of the noise's.
        squares, df: what is left over, summed, and its degrees of freedom.
    """

    values: Values
    effects: dict[str, float]
    factors: np.ndarray
    squares: float
    df: int

    def difference(self, arm: str, control: str, floor: float = 0.0) -> Difference:
        """``arm`` minus ``control``, to about nine digits.

        Args:
            floor: variance of one value's noise, at the least: a flukishly small spread must not decide.
        """
        a, b = (list(self.effects).index(name) for name in (arm, control))
        both = self.values[arm].keys() & self.values[control]
        own = [self.values[arm][block] - self.values[control][block] for block in both]
        factor = float(self.factors[a, a] + self.factors[b, b] - 2 * self.factors[a, b])
        variance, df, pooled = _variance(own, self.squares, self.df)
        # What the least squares leave of equal differences is rounding, not a spread.
        largest = max(abs(value) for name in (arm, control) for value in self.values[name].values())
        variance = 0.0 if variance <= (1e-9 * largest) ** 2 else variance
        variance = max(variance, floor) if df else math.nan
        mean = self.effects[arm] - self.effects[control]
        # Libraries of linear algebra differ in their last digits from machine to machine; what is published must not.
        digits = 10 - math.floor(math.log10(largest)) if largest else 0
        error = float(f"{math.sqrt(variance * factor):.9g}") if df else math.nan
        return Difference(round(mean, digits), len(own), error, df, pooled)


def fit(values: Values) -> Fit:
    """Fit arm + block to ``values``. Raises: ValueError where no block has two arms."""
    kept = {block for own in values.values() for block in own}
    kept = {block for block in kept if sum(block in own for own in values.values()) > 1}
    arms = {arm: {block: own[block] for block in own if block in kept} for arm, own in values.items()}
    arms = {arm: own for arm, own in arms.items() if own}
    if not arms:
        raise ValueError("no block has two arms: there is nothing to compare")
    blocks = sorted(kept, key=repr)
    rows = [(i, blocks.index(block), value) for i, own in enumerate(arms.values()) for block, value in own.items()]
    design = np.zeros((len(rows), len(arms) + len(blocks)))
    for row, (arm, block, _) in enumerate(rows):
        design[row, arm] = design[row, len(arms) + block] = 1.0
    observed = np.array([value for _, _, value in rows])
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    solved = inverse @ design.T @ observed
    squares = float(np.square(observed - design @ solved).sum())
    df = len(rows) - int(np.linalg.matrix_rank(design))
    effects = dict(zip(arms, map(float, solved), strict=False))
    return Fit(arms, effects, inverse[: len(arms), : len(arms)], squares, df)


def between(fitted: Fit | None, arm: Any, control: Any, floor: float = 0.0) -> Difference:
    """``arm`` minus ``control``, as :meth:`Fit.difference` has it; :data:`NOTHING` where they met in no block."""
    if fitted is None or not {arm, control} <= fitted.effects.keys():
        return NOTHING
    found = fitted.difference(arm, control, floor)
    return found if found.blocks else NOTHING


def fit_or_none(values: Values) -> Fit | None:
    """:func:`fit`, and None where no block has two arms."""
    try:
        return fit(values)
    except ValueError:
        return None


def accuracy_floor(accuracy: float, images: int) -> float:
    """The least variance that a test accuracy has from seed to seed: that of independent errors on ``images``."""
    return OF_TEST_SET * (1 - accuracy) * accuracy / images


def _variance(own: list[float], squares: float, df: int) -> tuple[float, float, bool]:
    """Of one value's noise, as two arms whose differences are ``own`` have it; its degrees of freedom; and whether the
    rest had a say."""
    from scipy.special import fdtrc  # which scipy.stats.f.sf comes to

    own_df = max(0, len(own) - 1)
    own_squares = float(np.square(np.array(own) - np.mean(own)).sum()) / 2 if own else 0.0
    rest_df = df - own_df
    if rest_df <= 0:
        return (own_squares / own_df, float(own_df), False) if own_df else (math.nan, 0.0, False)
    rest = max(0.0, squares - own_squares) / rest_df
    if own_df and rest > 0 and fdtrc(own_df, rest_df, own_squares / own_df / rest) < UNEQUAL:
        return own_squares / own_df, float(own_df), False
    # The others know no more of the two arms' spread than spreads are alike, nor than they were measured.
    prior = 1 / (1 / PRIOR_DF + 1 / rest_df)
    total = prior + own_df
    return (prior * rest + own_squares) / total, total, True
