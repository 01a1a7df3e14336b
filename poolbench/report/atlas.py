"""Every pool in many nets: its gain in each, what to expect in another, and whether such an expectation is kept."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.records.collect import collect
from poolbench.records.groups import data_set
from poolbench.records.read import Record
from poolbench.records.tuning import reads_test
from poolbench.report.over_nets import Net
from poolbench.report.summary import Row, best, blocks, by, check_baseline, counting, find_baseline, floors, plain
from poolbench.statistics.agreement import Agreement, Association, agreement, differ_with, go_with
from poolbench.statistics.blocks import Difference, between, fit_or_none
from poolbench.statistics.comparisons import pair_floor
from poolbench.statistics.nets import OverNets, over_nets, together
from poolbench.statistics.promise import Kept, LeftOut, kept, left_out

# How a gain is told. "points" is the difference of the accuracies. "log error" is that of the errors' logarithms, with
# its sign turned: 0.1 is a tenth fewer errors, about. Gains may grow with the error that there is to lose.
POINTS, LOG_ERROR = "points", "log error"
SCALES = (POINTS, LOG_ERROR)
LEAST_BLOCKS = 2  # of a pool and the control in one setting
Gains = dict[str, dict[Net, Difference]]


@dataclass(frozen=True)
class Atlas:
    """What records say of pools over nets.

    Args:
        control: label of what gains are over; scale: one of ``SCALES``.
        gains: pool -> net -> gain; over: pool -> what they come to, of three nets or more.
        among, asked: the pools that are not told apart from the best over nets, and those of which that was asked.
        cases: each gain with the interval that the other nets give for it; kept: how many lie inside.
        agreement: how alike nets order the pools; repeated: how alike two blocks of one net do, the most to expect.
        features: what the differences between nets go with; properties: what the pools' gains go with.
    """

    control: str
    scale: str
    gains: Gains
    over: dict[str, OverNets]
    among: frozenset[str]
    asked: frozenset[str]
    cases: Sequence[LeftOut[Net]]
    kept: Kept | None
    agreement: Agreement | None
    repeated: float
    features: Sequence[Association]
    properties: Sequence[Association]

    @property
    def nets(self) -> list[Net]:
        """In which any pool met the control."""
        return sorted({net for own in self.gains.values() for net in own})


def make_atlas(
    records: Iterable[Record],
    control: str = "max",
    scale: str = POINTS,
    features: Mapping[str, Mapping[Net, float]] | None = None,
    properties: Iterable[str] = (),
    repeats: int = 200,
) -> Atlas:
    """Put together what ``records`` say of each pool over nets, a net being a model on a data set.

    Args:
        control: what gains are over.
        scale: ``points`` or ``log error``.
        features: of nets, name -> net -> number, that differences between nets may go with.
        properties: numbers of records that a pool's mean gain may go with, as ``consistency``; each is taken as the
            mean over nets of the pool's value less the control's.
        repeats: of the simulation that tells how many left-out gains should lie inside their intervals.
    Raises: ValueError for a control that no record has, and for an unknown scale.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    cells = collect(record for record in records if reads_test(record))
    check_baseline(cells["pool"], control, "--control")
    control = find_baseline(sorted(set(cells["pool"])), control) or control
    rows = [row for own in by(plain(cells), "group").values() for row in counting(own)]
    gains, fitted = _gains(rows, control, scale)
    told = {pool: over_nets(list(own.values())) for pool, own in gains.items()}
    over = {pool: one for pool, one in told.items() if one is not None}
    nets = {net for own in gains.values() for net in own}
    means = {pool: {net: one.mean for net, one in own.items()} for pool, own in gains.items()}
    among, asked = best({control: dict.fromkeys(nets, 0.0), **means})
    values = {pool: {net: one.mean for net, one in own.items()} for pool, own in gains.items()}
    values[control] = dict.fromkeys(nets, 0.0)
    return Atlas(
        control,
        scale,
        gains,
        over,
        among,
        asked,
        left_out(gains),
        kept(gains, repeats),
        agreement(values),
        fitted,
        differ_with(means, features or {}),
        go_with({pool: one.mean for pool, one in over.items()}, _properties(rows, control, list(properties))),
    )


def _gains(rows: Sequence[Row], control: str, scale: str) -> tuple[Gains, float]:
    """The gains, and how alike two blocks of one setting order the pools: the mean of Kendall's tau."""
    found: dict[str, dict[Net, list[Difference]]] = defaultdict(lambda: defaultdict(list))
    repeated = []
    for own in by(rows, "group").values():
        pools = by(own, "pool")
        if control not in pools:
            continue
        net = str(own[0]["model"]), data_set(str(own[0]["data"]))
        values = {
            pool: {block: _scaled(value, scale) for block, value in blocks(cells, "test_accuracy").items()}
            for pool, cells in pools.items()
        }
        least = {pool: _floor(floors({pool: cells}).get(pool), cells, scale) for pool, cells in pools.items()}
        fitted = fit_or_none(values)
        for pool in pools:
            one = between(fitted, pool, control, pair_floor(least, pool, control))
            if pool != control and one.blocks >= LEAST_BLOCKS and one.error > 0:
                found[pool][net].append(one)
        if (tau := agreement(values)) is not None:
            repeated.append(tau.tau)
    gains = {pool: {net: together(own) for net, own in nets.items()} for pool, nets in sorted(found.items())}
    return gains, sum(repeated) / len(repeated) if repeated else math.nan


def _scaled(accuracy: float, scale: str) -> float:
    return accuracy if scale == POINTS else -math.log(max(1 - accuracy, 1e-4))


def _floor(variance: float | None, cells: Sequence[Row], scale: str) -> float:
    """The least variance of a value: of a logarithm, that of the accuracy by the error's square."""
    if variance is None or scale == POINTS:
        return variance or 0.0
    error = max(1 - sum(cell["test_accuracy"] for cell in cells) / len(cells), 1e-4)
    return variance / error**2


def _properties(rows: Sequence[Row], control: str, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Name -> pool -> the mean over settings of the pool's value less the control's; ratios of counts."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for own in by(rows, "group").values():
        pools = by(own, "pool")
        for name in names:
            unit = _mean(pools.get(control, []), name)
            for pool, cells in pools.items():
                value = _mean(cells, name)
                if pool != control and not math.isnan(unit) and not math.isnan(value):
                    found[name][pool].append(_apart(name, value, unit))
    return {name: {pool: sum(own) / len(own) for pool, own in pools.items()} for name, pools in found.items()}


def _apart(name: str, value: float, unit: float) -> float:
    """Differences of shares, ratios of counts."""
    counted = name.endswith(("_flops", "parameters"))
    return value / unit if counted and unit else value - unit


def _mean(cells: Iterable[Row], name: str) -> float:
    values: list[Any] = [cell.get(name) for cell in cells]
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
