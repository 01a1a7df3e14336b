"""Power: the chance that a design decides, before anything is trained."""

import math

from poolbench.statistics.blocks import PRIOR_DF
from poolbench.statistics.words import ERROR

MOST_BLOCKS = 200
ENOUGH = 0.8


def freedom(blocks: int, arms: int) -> float:
    """Degrees of freedom of a difference in complete blocks, as :func:`poolbench.statistics.blocks.fit` has them."""
    rest = (arms - 2) * (blocks - 1)
    return blocks - 1 + (1 / (1 / PRIOR_DF + 1 / rest) if rest else 0.0)


def power(kind: str, gain: float, smallest: float, sd: float, blocks: int, arms: int = 2, claims: int = 1) -> float:
    """The chance that a claim gets a word, one way or the other, if the true gain is ``gain``.

    Args:
        kind: ``better``, ``not_worse`` or ``equal``; smallest: difference of interest.
        sd: standard deviation of one value after arm and block, in the unit of ``gain``.
        blocks: complete ones; arms: in each; claims: of the family, the first of which Holm tests at 5 % / claims.
    """
    if blocks < 2:
        return 0.0
    df, error, alone = freedom(blocks, arms), sd * math.sqrt(2 / blocks), ERROR / claims
    if kind == "better":
        return (
            _beyond(gain / error, df, alone)
            + _beyond((smallest - gain) / error, df, alone)
            - _both(gain / error, (smallest - gain) / error, smallest / error, df, alone)
        )
    if kind == "not_worse":
        return (
            _beyond((gain + smallest) / error, df, alone)
            + _beyond(-gain / error, df, alone)
            - _both((gain + smallest) / error, -gain / error, smallest / error, df, alone)
        )
    within = _both((gain + smallest) / error, (smallest - gain) / error, 2 * smallest / error, df, alone)
    outside = _beyond((gain - smallest) / error, df, alone / 2) + _beyond((-gain - smallest) / error, df, alone / 2)
    return within + outside


def blocks_for(kind: str, gain: float, smallest: float, sd: float, arms: int = 2, claims: int = 1) -> int | None:
    """The least number of blocks with which a claim gets a word in 80 % of cases; None beyond 200."""
    for blocks in range(3, MOST_BLOCKS + 1):
        if power(kind, gain, smallest, sd, blocks, arms, claims) >= ENOUGH:
            return blocks
    return None


def _beyond(shift: float, df: float, error: float) -> float:
    """The chance that a t of noncentrality ``shift`` is above the one-sided quantile of ``error``."""
    from scipy import stats

    return float(stats.nct.sf(stats.t.isf(error, df), df, shift))


def _both(low: float, high: float, width: float, df: float, error: float) -> float:
    """The chance that a mean is told apart from both ends of an interval that it lies in, ``width`` standard errors
    wide, ``low`` of them above one end and ``high`` below the other."""
    from scipy import integrate, stats

    quantile = float(stats.t.isf(error, df))
    # Given the spread that is found, s in units of the true one, the mean must lie between quantile * s from both ends.
    most = width / (2 * quantile)

    def given(s: float) -> float:
        inside = stats.norm.cdf(high - quantile * s) - stats.norm.cdf(quantile * s - low)
        return float(max(0.0, inside) * stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df))

    return float(integrate.quad(given, 0, most, limit=200)[0])
