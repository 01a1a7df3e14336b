"""The words that a difference bears out, by rule 2: each is wrong in at most 5 % of cases over a family of claims.

What would be an error, for a true gain g and a smallest difference of interest d:

| kind | supports | supports, but too small to matter | contradicts |
|---|---|---|---|
| better | g <= 0 | g <= 0 or g >= d | g >= d |
| not_worse | g <= -d | never said | g >= 0 |
| equal | g outside of -d to d | never said | g within -d to d |

No g makes two of these errors possible, so each word is tested from one side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from poolbench.statistics.blocks import Difference

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports", "contradicts", "cannot tell"
TOO_SMALL = "supports, but too small to matter"
ERROR = 0.05  # of a family


@dataclass(frozen=True)
class Errors:
    """The probabilities that the words which a claim may get are wrong (one-sided p); NaN without a spread.

    Args:
        supports, contradicts: that the word is wrong.
        small: that a gain which is there is ``d`` or more; NaN where nothing is too small.
    """

    supports: float
    contradicts: float
    small: float = math.nan

    @property
    def least(self) -> float:
        """The probability that the word which comes first is wrong; NaN where none can be said."""
        known = [p for p in (self.supports, self.contradicts) if not math.isnan(p)]
        return min(known, default=math.nan)

    def settled(self, error: float) -> bool:
        """Whether neither word can be wrong any more: both of its cases are excluded."""
        return self.supports < error and self.contradicts < error

    def word(self, error: float) -> str:
        """What may be said when each word may be wrong with probability ``error``."""
        if self.supports < error and self.small < error:
            return TOO_SMALL
        if self.supports < error:
            return SUPPORTS
        return CONTRADICTS if self.contradicts < error else CANNOT_TELL


def errors_of(kind: str, difference: Difference, smallest: float) -> Errors:
    """The words of a claim of ``kind`` for the gain ``difference`` and the smallest difference of interest."""
    if kind == "better":
        below = difference.below(smallest)
        return Errors(difference.above(0.0), below, below)
    if kind == "not_worse":
        return Errors(difference.above(-smallest), difference.below(0.0))
    if kind == "equal":
        within = max(difference.above(-smallest), difference.below(smallest))  # NaN stays NaN: both are
        outside = min(difference.above(smallest), difference.below(-smallest))
        return Errors(within, 2 * outside)
    raise ValueError(f"a claim is better, not_worse or equal, got {kind!r}")


def grade(kind: str, difference: Difference, smallest: float, error: float) -> str:
    """What may be said on top of a word, from two sides: ``by d or more``, ``worse``, or nothing."""
    if kind == "better" and difference.above(smallest) < error / 2:
        return "by d or more"
    return "worse" if kind in ("better", "not_worse") and difference.below(0.0) < error / 2 else ""


def words(family: Sequence[Errors], error: float = ERROR) -> list[tuple[str, float]]:
    """A word for each claim of a family, such that any of them is wrong with probability ``error`` at most.

    The claims share the error as in Holm (1979). After Shaffer (1986) a claim leaves it to the others only when it
    is settled: a word that is said excludes one of a claim's two cases, and the other one may still be true.

    Returns: the word, and the probability of being wrong at which it was asked for.
    """
    left, share = len(family), error
    while left:
        share = error / left
        open_ = sum(not one.settled(share) for one in family)
        if open_ in (0, left):
            break
        left = open_
    return [(one.word(share), share) for one in family]
