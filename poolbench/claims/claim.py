"""Claims: testable sentences of papers with their numbers, and what judging one gives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from poolbench.records.printable import printable
from poolbench.statistics.estimates import Estimate
from poolbench.statistics.nets import OverNets

NO_RECORD = "no record"
# Beside the first metric; these vary less from seed to seed, and the way that is better is known.
SECONDS = {"true_class_probability": "higher", "mirror_mean_accuracy": "higher", "test_loss": "lower"}


class ClaimError(ValueError):
    """A claim is wrong; the message names it, the key, its value and what is allowed."""


@dataclass(frozen=True)
class Paper:
    """What the paper measured. Accuracies and errors are fractions.

    Args:
        metric: what it measured and on what; better: ``higher`` or ``lower``.
        control, treatment: its two numbers, where it has both.
        gain: how much better the treatment was, positive as the paper claims; computed from the two where it has both.
        where: section, table or figure.
        status: ``verified``, ``computed`` (from other numbers there) or ``from memory``.
        unknown: why there is no number; empty where there is one.
    """

    metric: str
    better: str
    control: float | None
    treatment: float | None
    gain: float | None
    where: str
    status: str
    unknown: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and how it is tested on records.

    Args:
        id: its name in the file; says: the sentence; headline: whether it stands in the table of all experiments.
        kind: ``better``, ``not_worse`` or ``equal``.
        metric_control, metric_treatment: a number of the result, ``"A"``, or a difference of two, ``"A - B"``.
        direction: ``higher`` or ``lower``, which is better.
        control, treatment: partial matches on the config: group -> choice, dotted option -> value.
        where: a partial match for both.
        paper: what the paper measured.
        smallest_difference: of interest, in the metric's unit (for accuracies fractions: 0.002 is 0.2 points).
        wider: why the smallest difference of interest is more than the paper's gain, where it is.
        second, second_smallest: a further metric that was declared before the cells were trained, empty without one,
            and its smallest difference of interest.
        short: a few words in place of the id for narrow tables, beside the name of the idea; empty without.
    """

    id: str
    says: str
    headline: bool
    kind: str
    metric_control: str
    metric_treatment: str
    direction: str
    control: dict[str, Any]
    treatment: dict[str, Any]
    where: dict[str, Any]
    paper: Paper
    smallest_difference: float
    wider: str = ""
    second: str = ""
    second_smallest: float = math.nan
    short: str = ""

    @property
    def by_second(self) -> "Claim":
        """The same claim about its second metric."""
        return replace(
            self,
            metric_control=self.second,
            metric_treatment=self.second,
            direction=SECONDS[self.second],
            smallest_difference=self.second_smallest,
            second="",
        )


@dataclass(frozen=True)
class Judgement:
    """A claim on the records of one stratum, as one model. Numbers are in the metric's unit, accuracies fractions.

    Args:
        stratum: what tells these cells from those of the claim's other judgements, ``model resnet``; empty without any.
        control, treatment: means over the paired seeds with their 95 % intervals.
        control_values, treatment_values: by seed, of the paired ones; control_runs, treatment_runs: seed -> run_id.
        gain: of the treatment, paired by seed, positive as the claim has it, with its 95 % interval; gains: by seed.
        level: of the interval that decides, as the rule's family gives it; judged: the gain with that interval.
        p: the smallest error at which anything would be decided, unadjusted; two-sided by rule 1, one-sided by rule 2.
            NaN for fewer than 3 pairs.
        net: model, data and epochs of the cells, for people.
        first: what rule 1 said, where this is rule 2's; None where it is rule 1's.
        verdict: ``supports``, ``supports, but too small to matter``, ``contradicts``, ``cannot tell`` or ``no record``;
            why: in words.
        seeds_needed: how many would decide, if mean and spread stayed as they are; by rule 2 four times of five.
        notes: what a reader must know beside it.
        over: where it is about several nets, not one: the gain over them; values and gains are then a net's each.
        second: the same by the claim's second metric.
    """

    claim: Claim
    stratum: str
    control: Estimate
    treatment: Estimate
    control_values: dict[int, float]
    treatment_values: dict[int, float]
    gain: Estimate
    gains: dict[int, float]
    level: float
    judged: Estimate
    verdict: str
    why: str
    seeds_needed: int | None = None
    notes: tuple[str, ...] = ()
    control_runs: dict[int, str] = field(default_factory=dict)
    treatment_runs: dict[int, str] = field(default_factory=dict)
    p: float = math.nan
    net: str = ""
    first: "Judgement | None" = None
    over: OverNets | None = None
    second: "Judgement | None" = None


def numbers_of(metric: str) -> tuple[str, ...]:
    """The numbers of the result that ``metric`` is made of: one, or the two of a difference."""
    return tuple(metric.split(" - "))


def is_share(metric: str) -> bool:
    """Whether ``metric`` is a fraction, which people read in percent, and its differences in points."""
    return all(
        "accuracy" in name or name.startswith("agreement") or name == "true_class_probability"
        for name in numbers_of(metric)
    )


def amount(claim: Claim, difference: float, signed: bool = False) -> str:
    """A difference in the claim's metric, for people: ``0.2 points``; ``signed``, one that was measured: ``+0.21``."""
    form = "+.3g" if signed else "g"
    if not (is_share(claim.metric_control) and is_share(claim.metric_treatment)):
        return f"{difference:{form}}"
    points = round(100 * difference, 10)
    return f"{points:{form}} point{'' if points == 1 else 's'}"


def arm_text(arm: Mapping[str, Any]) -> str:
    """``pool max, pool.padding 0``, as errors and tables name an arm."""
    return printable(", ".join(f"{key} {'null' if value is None else value}" for key, value in arm.items()))
