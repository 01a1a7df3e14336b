"""Does the interval for a net not tried keep its promise? Each net is left out in turn and predicted by the others.

Arms of one net are no independent cases: they share the control's cells, and what the control is worth in that net. How
many of the left-out differences should lie inside is therefore simulated, from the model that is fitted to all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from poolbench.statistics.blocks import Difference
from poolbench.statistics.estimates import LEVEL
from poolbench.statistics.nets import over_nets, shown_elsewhere

Arm = str
Net = TypeVar("Net")
_SEED = 1977


@dataclass(frozen=True)
class LeftOut(Generic[Net]):
    """What one net showed of one arm, and what the others had said of it.

    Args:
        shown: the difference there; low, high: the 95 % interval that the other nets give for it.
    """

    arm: Arm
    net: Net
    shown: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.shown <= self.high


@dataclass(frozen=True)
class Kept:
    """How many of the left-out differences lay inside, and how many should.

    Args:
        cases, inside: counted; share: one by the other.
        low, high: between which the share lies in 95 % of experiments in which the model holds; expected: its mean.
        repeats: of the simulation.
    """

    cases: int
    inside: int
    low: float
    high: float
    expected: float
    repeats: int

    @property
    def share(self) -> float:
        return self.inside / self.cases

    @property
    def as_expected(self) -> bool:
        return self.low <= self.share <= self.high


def left_out(arms: Mapping[Arm, Mapping[Net, Difference]]) -> list[LeftOut[Net]]:
    """Predict each arm's difference in each net from the other nets; none where they are fewer than it takes.

    Args:
        arms: arm -> net -> its difference to the control.
    """
    found = []
    for arm, nets in arms.items():
        for net, own in nets.items():
            low, high = shown_elsewhere([one for other, one in nets.items() if other != net], own)
            if not math.isnan(low):
                found.append(LeftOut(arm, net, own.mean, low, high))
    return found


def kept(arms: Mapping[Arm, Mapping[Net, Difference]], repeats: int = 200) -> Kept | None:
    """Count the left-out differences inside their intervals, and simulate how many should be.

    In the simulation the control's worth in a net and its noise are shared by all arms of the net: as much of the
    variance from net to net as arms have in common on average, and half of the noise's variance. None where nothing
    can be predicted.
    """
    cases = left_out(arms)
    if not cases:
        return None
    draw, shares = np.random.default_rng(_SEED), []
    model = _Model.of(arms)
    for _ in range(repeats):
        made = left_out(model.draw(draw))
        shares.append(sum(one.inside for one in made) / len(made))
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Kept(len(cases), sum(one.inside for one in cases), float(low), float(high), float(np.mean(shares)), repeats)


@dataclass(frozen=True)
class _Model:
    """Random effects of all arms, with what the control brings into all of them.

    Args:
        arms: as they were given; means, variances: of each arm over nets; shared: the part of the variances that arms
            have in common.
    """

    arms: Mapping[Arm, Mapping[Net, Difference]]
    means: dict[Arm, float]
    variances: dict[Arm, float]
    shared: float

    @classmethod
    def of(cls, arms: Mapping[Arm, Mapping[Net, Difference]]) -> "_Model":
        told = {arm: over_nets(list(nets.values())) for arm, nets in arms.items()}
        known = {arm: one for arm, one in told.items() if one is not None}
        means = {arm: one.mean for arm, one in known.items()}
        variances = {arm: one.between**2 for arm, one in known.items()}
        return cls({arm: arms[arm] for arm in known}, means, variances, _in_common(arms, means))

    def draw(self, draw: np.random.Generator) -> dict[Arm, dict[Net, Difference]]:
        """Another experiment of the same nets, arms and noise."""
        nets = list(dict.fromkeys(net for own in self.arms.values() for net in own))
        worth = dict(zip(nets, draw.standard_normal(len(nets)), strict=True))
        noise = dict(zip(nets, draw.standard_normal(len(nets)), strict=True))
        made: dict[Arm, dict[Net, Difference]] = {}
        for arm, own in self.arms.items():
            # An arm that varies less than arms have in common is as alike as that, and no more.
            common = min(self.shared, self.variances[arm])
            rest = math.sqrt(self.variances[arm] - common)
            made[arm] = {}
            for net, one in own.items():
                true = self.means[arm] + math.sqrt(common) * worth[net] + rest * draw.standard_normal()
                half = one.error / math.sqrt(2) if one.error > 0 else 0.0
                shown = true + half * (noise[net] + draw.standard_normal())
                made[arm][net] = Difference(float(shown), one.blocks, one.error, one.df, one.pooled)
        return made


def _in_common(arms: Mapping[Arm, Mapping[Net, Difference]], means: Mapping[Arm, float]) -> float:
    """The covariance from net to net that two arms have on average, without the control's noise; 0 at the least."""
    apart = {arm: {net: one.mean - means[arm] for net, one in arms[arm].items()} for arm in means}
    noise = {arm: {net: one.error**2 / 2 for net, one in arms[arm].items() if one.error > 0} for arm in means}
    found = []
    names = list(means)
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            both = apart[a].keys() & apart[b].keys()
            if len(both) > 1:
                products = sum(apart[a][net] * apart[b][net] for net in both) / (len(both) - 1)
                found.append(products - sum(noise[a].get(net, 0.0) for net in both) / len(both))
    return max(0.0, float(np.mean(found))) if found else 0.0
