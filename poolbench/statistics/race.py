"""A race: arms are looked at after more and more blocks, and those that are surely not the best fall out.

What holds of the whole race: with a chance of at least 95 % an arm is left at its end that is the best, or no more
than ``difference`` worse. The error is shared out over the looks, as rule 2 does it, and at each over an arm's rivals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poolbench.statistics.best import Rivals, rivals
from poolbench.statistics.blocks import Difference, Fit, Values, fit_or_none
from poolbench.statistics.words import ERROR

LOOKS = (3, 5, 8, 12, 20)  # numbers of blocks


@dataclass(frozen=True)
class Fall:
    """An arm that fell out: ``rival`` is surely better than it, by ``gain``."""

    arm: str
    rival: str
    gain: Difference


@dataclass(frozen=True)
class Look:
    """What a look at the arms of a race told.

    Args:
        blocks: that all of them have.
        left: those that no other is surely better than, the one with the largest mean first.
        fallen: the others.
        settled: whether the first one is surely no more than the difference of interest worse than any other.
    """

    blocks: int
    left: tuple[str, ...]
    fallen: tuple[Fall, ...]
    settled: bool

    @property
    def ended(self) -> bool:
        """Whether another look could change nothing that matters."""
        return self.settled or len(self.left) == 1


def look(
    values: Values,
    difference: float,
    looks: int = len(LOOKS),
    floors: Mapping[str, float] | None = None,
    margin: float = 0.0,
) -> Look:
    """Look at the arms that are still in a race; larger values are better.

    Args:
        values: arm -> block -> value. Blocks that not all arms have are left out.
        difference: of interest, in the unit of the values.
        looks: of the whole race, which share the error.
        floors: the least variance of one value of each arm.
        margin: an arm falls where another is surely better by more than this.
    Raises: ValueError for fewer than two arms or two common blocks.
    """
    fitted, found, blocks = _compared(values, looks, floors)
    ranked = sorted(fitted.effects, key=lambda arm: (-fitted.effects[arm], arm))
    fallen = []
    for arm in ranked:
        if better := found[arm].better(margin):
            best = max(better, key=lambda rival: (fitted.effects[rival], rival))
            fallen.append(Fall(arm, best, found[arm].told[best]))
    out = {fall.arm for fall in fallen}
    left = tuple(arm for arm in ranked if arm not in out)
    settled = all(left[0] in found[arm].better(-difference) for arm in left[1:])
    return Look(blocks, left, tuple(fallen), settled)


def blocks_to_halve(values: Values, looks: int = len(LOOKS), floors: Mapping[str, float] | None = None) -> float:
    """How many blocks in all it should take until half of the arms fell, told from those that there are.

    The means and the noise are taken to stay as they are, so that a standard error falls with the root of the blocks:
    an arm should fall where its distance from the best reaches the bound. By then it did in about every second race.

    Returns: infinity where half of the arms are as good as the best. Raises: as :func:`look`.
    """
    from scipy import stats

    fitted, found, blocks = _compared(values, looks, floors)
    best = max(fitted.effects, key=lambda arm: (fitted.effects[arm], arm))
    needed = []
    for arm in fitted.effects.keys() - {best}:
        gain = found[arm].told.get(best)
        if gain is None or gain.mean <= 0:
            needed.append(math.inf)
            continue
        bound = float(stats.t.isf(found[arm].error, gain.df)) * gain.error
        needed.append(blocks * (bound / gain.mean) ** 2)
    return sorted(needed)[len(values) // 2 - 1]


def run(values: Values, difference: float, looks: Sequence[int] = LOOKS) -> list[Look]:
    """The looks of a race whose values are known beforehand: for simulation and for showing a finished one.

    Args:
        values: arm -> block -> value, the blocks in their order.
        looks: numbers of blocks.
    """
    found: list[Look] = []
    arms = dict(values)
    for blocks in looks:
        first = {arm: dict(list(own.items())[:blocks]) for arm, own in arms.items()}
        found.append(look(first, difference, len(looks)))
        arms = {arm: arms[arm] for arm in found[-1].left}
        if found[-1].ended:
            break
    return found


def _compared(values: Values, looks: int, floors: Mapping[str, float] | None) -> tuple[Fit, dict[str, Rivals], int]:
    """The arms over the blocks that all of them have, each with its rivals at the error of one look of ``looks``."""
    common = set.intersection(*(set(own) for own in values.values())) if values else set()
    if len(values) < 2 or len(common) < 2:
        raise ValueError(f"a look needs two arms and two blocks, got {len(values)} and {len(common)}")
    fitted = fit_or_none({arm: {block: own[block] for block in common} for arm, own in values.items()})
    assert fitted is not None  # two arms met
    return fitted, rivals(fitted, floors, ERROR / looks), len(common)
