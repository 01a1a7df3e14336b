"""What is drawn of each judgement: its words in lines that fit, its heights, and the axes it shares with others."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poolbench.claims.arms import CONTROL, TREATMENT, ArmLook, arm_words, arms, metric_words
from poolbench.claims.claim import is_share, numbers_of
from poolbench.claims.words import paper_words
from poolbench.report.canvas import WidthOf, fitted

if TYPE_CHECKING:
    from poolbench.claims.claim import Claim, Judgement

LINE = 0.165  # inches from one line of text to the next
_ARM, _LEAST = 0.23, 0.46  # heights of an arm with its dots, and of a row
_LABELS = 2.4  # width of the widest label of an arm
# Neighbours share an axis unless one of them would have less than its 3rd or 6th part. Intervals and the paper's gain
# may widen it by its own width to either side; what lies farther off is an arrow at its edge.
_SQUEEZED = {"arms": 3.0, "gain": 6.0}
_WIDENED, _MARGIN = 1.0, 0.06

Span = tuple[float, float]


@dataclass
class Row:
    """A judgement as it is drawn; lengths in inches, numbers in the unit of their axis.

    Args:
        arms, labels: control and treatment, their labels in lines; stratum: the same.
        one_of_several: of the claim's strata. The arms' labels then stand in the heading, the stratum's beside the row;
            else the labels stand there, below the stratum.
        unit: only rows of one unit share an axis; scale: from the record's numbers to the axis, 100 for shares.
        limits, ends: of the axes ``arms`` and ``gain``: from where to where, and whether the next row has another one.
    """

    judgement: "Judgement"
    arms: tuple[ArmLook, ArmLook]
    labels: tuple[str, str]
    stratum: str
    unit: str
    scale: float
    one_of_several: bool = False
    limits: dict[str, Span] = field(default_factory=dict)
    ends: dict[str, bool] = field(default_factory=dict)

    @property
    def heights(self) -> tuple[float, float, float]:
        """Of what stands above the arms, of the control and of the treatment."""
        if self.one_of_several:
            arm = max(_LEAST, LINE * _lines(self.stratum) + 0.04) / 2
            return 0.0, arm, arm
        above = LINE * _lines(self.stratum) if self.stratum else 0.0
        control, treatment = (max(_ARM, LINE * _lines(label) + 0.04) for label in self.labels)
        return above, max(control, _LEAST - above - treatment), treatment

    @property
    def height(self) -> float:
        return sum(self.heights)

    @property
    def empty(self) -> bool:
        """Whether there is nothing but words."""
        return not self.judgement.gain.n

    def beyond(self, name: str) -> bool:
        """Whether an interval goes on beyond the axis ``name``."""
        one, (low, high) = self.judgement, self.limits[name]
        estimates = (one.control, one.treatment) if name == "arms" else (one.gain, one.judged)
        return any(self.scale * side.low < low or self.scale * side.high > high for side in estimates)

    @property
    def paper_gain(self) -> float | None:
        """The paper's gain in points. Its numbers are shares: there is no place for them on an axis of another unit."""
        gain = self.judgement.claim.paper.gain
        return None if gain is None or self.scale == 1 else self.scale * gain


def make_rows(judgements: Sequence["Judgement"], width_of: WidthOf) -> list[Row]:
    """A row for each of ``judgements``, with the limits of its axes."""
    who = arms(judgements)
    strata = Counter(judgement.claim.id for judgement in judgements)
    rows = []
    for place, judgement in enumerate(judgements):
        claim = judgement.claim
        control, treatment = (fitted(words, _LABELS, width_of) for words in arm_words(claim))
        metrics = dict.fromkeys((claim.metric_control, claim.metric_treatment))
        share = all(map(is_share, metrics))
        difference = any(len(numbers_of(metric)) > 1 for metric in metrics)
        rows.append(
            Row(
                judgement,
                (who[place, CONTROL], who[place, TREATMENT]),
                (control, treatment),
                fitted(judgement.stratum, _LABELS, width_of),
                ("points" if difference else "percent") if share else " / ".join(metrics),
                100.0 if share else 1.0,
                strata[claim.id] > 1,
            )
        )
    drawn = [row for row in rows if not row.empty]
    # A gain is in points, whether of accuracies or of differences.
    _share_axes(drawn, "arms", _arms_extent, lambda row: row.unit)
    _share_axes(drawn, "gain", _gain_extent, lambda row: "points" if row.scale == 100 else row.unit)
    return rows


def heading(claim: "Claim", inches: float, width_of: WidthOf, strata: int = 1) -> tuple[str, str]:
    """The claim's sentence, for bold letters, and the metric with what the paper measured, in lines of ``inches``;
    with several ``strata`` also what both arms are, which the rows then do not say."""
    metrics = " against ".join(dict.fromkeys(map(metric_words, (claim.metric_control, claim.metric_treatment))))
    if claim.direction == "lower":
        metrics += ", lower is better"
    about = fitted(f"{metrics}; paper: {paper_words(claim.paper)}", inches, width_of)
    if strata > 1:
        control, treatment = arm_words(claim)
        about += "\n" + fitted(f"above: {control}; below: {treatment}", inches, width_of)
    return fitted(claim.says, inches / 1.15, width_of), about


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _share_axes(
    rows: list[Row], name: str, extent: Callable[[Row], tuple[Span, list[float]]], unit: Callable[[Row], str]
) -> None:
    """Give neighbours of one ``unit`` one axis as long as none is squeezed; set its limits and where it ends.

    Args:
        extent: of a row: from where to where it must be seen, and what else may lie on the axis.
    """
    groups: list[list[Row]] = []
    for row in rows:
        joined = [*groups[-1], row] if groups else [row]
        spans = [extent(one)[0] for one in joined]
        low, high = _union(spans)
        fits = all(high - low <= _SQUEEZED[name] * (own[1] - own[0]) for own in spans)
        if groups and fits and unit(row) == unit(groups[-1][0]):
            groups[-1].append(row)
        else:
            groups.append([row])
    for group in groups:
        low, high = _union([extent(row)[0] for row in group])
        room = _WIDENED * (high - low)
        near = [x for row in group for x in extent(row)[1] if low - room <= x <= high + room]
        low, high = min(low, *near, low), max(high, *near, high)
        margin = _MARGIN * (high - low)
        for row in group:
            row.limits[name] = low - margin, high + margin
            row.ends[name] = row is group[-1]


def _arms_extent(row: Row) -> tuple[Span, list[float]]:
    """Both arms' seeds; the ends of their intervals."""
    one = row.judgement
    values = [*one.control_values.values(), *one.treatment_values.values()]
    return _seen(row, values), _finite(row, (one.control.low, one.control.high, one.treatment.low, one.treatment.high))


def _gain_extent(row: Row) -> tuple[Span, list[float]]:
    """The gains with 0 and the band; the ends of the intervals and the paper's gain."""
    one, least = row.judgement, 1.25 * row.judgement.claim.smallest_difference
    ends = _finite(row, (one.gain.low, one.gain.high, one.judged.low, one.judged.high))
    return _seen(row, [*one.gains.values(), -least, least]), [*ends, *filter(None, [row.paper_gain])]


def _seen(row: Row, values: Iterable[float]) -> Span:
    """From the lowest to the highest of ``values``, at least 0.2 points or a thousandth of them apart."""
    values = _finite(row, values)
    low, high = min(values), max(values)
    least = 0.2 if row.scale == 100 else 1e-3 * max(abs(low), abs(high)) or 1.0
    more = max(0.0, least - (high - low)) / 2
    return low - more, high + more


def _finite(row: Row, values: Iterable[float]) -> list[float]:
    return [row.scale * value for value in values if math.isfinite(value)]


def _union(spans: Sequence[Span]) -> Span:
    return min(low for low, _ in spans), max(high for _, high in spans)
