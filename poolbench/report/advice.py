"""What records say of each pool for a net not tried: its gain over a control in many settings, and what it costs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from poolbench.records.collect import collect
from poolbench.records.groups import pool_labels, pool_of
from poolbench.records.identity import digest
from poolbench.records.read import Record
from poolbench.records.speeds import Speeds
from poolbench.records.tuning import reads_test
from poolbench.report.over_nets import Net, by_net, compared
from poolbench.report.speeds import with_times
from poolbench.report.summary import Row, best, by, check_baseline, find_baseline, plain, summarise
from poolbench.statistics.nets import over_nets, together

# Of a pool and the control in one setting. A verdict takes three; here one setting among many is no verdict, and its
# spread is that which all of its pools leave over.
LEAST_BLOCKS = 2


@dataclass(frozen=True)
class Told:
    """What records say of a pool.

    Args:
        pool: its label; made: the different ``pool`` blocks of configs that bear it.
        settings, nets, blocks: in which it met the control: a net is a model on a data set, a setting also a budget.
        gain: over the control, a fraction: of three nets or more their random-effects mean, else the mean of them.
        low, high: its 95 % interval: over nets, as if they were drawn from those that people use, where there are
            three, else for the settings that were tried alone.
        net_low, net_high, above: the 95 % interval for the gain in a net not tried and the chance that it is above 0
            there, of one predictive distribution; NaN for fewer nets than that takes.
        cost: median over settings of a training pass over the control's; NaN where nothing tells it.
        cost_by: ``time`` of nets that were timed in turn; ``flops`` where none was; empty where nothing tells it.
        costs: settings that the cost is the median of.
        gains: of each net.
    """

    pool: str
    made: Sequence[Any]
    settings: int
    nets: int
    blocks: int
    gain: float
    low: float
    high: float
    net_low: float
    net_high: float
    above: float
    cost: float
    cost_by: str
    costs: int
    gains: Mapping[Net, float]


@dataclass(frozen=True)
class Evidence:
    """What records say of all pools that met the control, largest gain first, the control among them.

    Args:
        control: its label.
        settings, nets, blocks: in which any pool met it; left: settings in which none did.
    """

    control: str
    pools: tuple[Told, ...]
    settings: int
    nets: int
    blocks: int
    left: int


def evidence(records: Iterable[Record], speeds: Sequence[Speeds], control: str) -> Evidence:
    """What ``records`` say of each pool against ``control``.

    A setting counts in which a pool has two blocks or more in common with the control. Cells at tuned values count
    with those of the same recipe.

    Args:
        speeds: times of nets.
        control: a label.
    Raises: ValueError when there is no such pool among the records.
    """
    records = [record for record in records if reads_test(record)]
    cells = collect(records)
    check_baseline(cells["pool"], control, "--control")
    control = find_baseline(sorted(set(cells["pool"])), control) or control
    members = by(plain(cells), "group")
    summary, _ = with_times(summarise(cells, control), members, records, speeds)
    by_group = by(plain(summary), "group")
    rows = [row for own in by_group.values() for row in _against(own, control)]
    made = _made(records)
    told = [_told(pool, own, made[pool]) for pool, own in by(rows, "pool").items()]
    if rows:
        told.append(_itself(control, rows, made[control]))
    return Evidence(
        control,
        tuple(sorted(told, key=lambda one: (-one.gain, one.pool))),
        len({row["group"] for row in rows}),
        len(by_net(rows)),
        sum(max(row["blocks"] for row in own) for own in by(rows, "group").values()),
        left=len(by_group.keys() - {row["group"] for row in rows}),
    )


def surely_worse(pools: Sequence[Told]) -> tuple[frozenset[str], frozenset[str]]:
    """Of ``pools`` those that the best of them is surely better than, by how gains differ from net to net (Hsu's
    comparison with the best), and those of which that was asked: with three nets or more."""
    among, asked = best({one.pool: one.gains for one in pools})
    return asked - among, asked


def _against(rows: list[Row], control: str) -> list[Row]:
    """The rows of one setting that are compared with ``control``, with what they cost."""
    unit = next((row for row in rows if row["baseline"] and row["pool"] == control), None)
    if unit is None:
        return []
    return [
        {**row, "flops_ratio": row["forward_flops"] / unit["forward_flops"] if _both(row, unit) else None}
        for row in rows
        if compared(row, LEAST_BLOCKS)
    ]


def _both(row: Row, unit: Row) -> bool:
    return bool(unit["forward_flops"]) and row["forward_flops"] is not None


def _made(records: Iterable[Record]) -> dict[str, list[Any]]:
    """Label -> the different pools that bear it, as configs have them."""
    configs = [record.config for record in records]
    found: dict[str, dict[str, Any]] = {}
    for config, label in zip(configs, pool_labels(configs), strict=True):
        found.setdefault(label, {})[digest(pool_of(config))] = config["pool"]
    return {label: list(pools.values()) for label, pools in found.items()}


def _told(pool: str, rows: list[Row], made: Sequence[Any]) -> Told:
    nets = by_net(rows)
    over = over_nets(list(nets.values()))
    mean = over.difference if over else together(list(nets.values()))
    low, high = mean.interval()
    times = [row["train_time_ratio"] for row in rows if row["train_time_ratio"] is not None]
    flops = [row["flops_ratio"] for row in rows if row["flops_ratio"] is not None]
    costs = times or flops
    return Told(
        pool,
        made,
        settings=len(rows),
        nets=len(nets),
        blocks=sum(row["blocks"] for row in rows),
        gain=mean.mean,
        low=low,
        high=high,
        net_low=over.low if over else math.nan,
        net_high=over.high if over else math.nan,
        above=over.above if over else math.nan,
        cost=median(costs) if costs else math.nan,
        cost_by="time" if times else "flops" if flops else "",
        costs=len(costs),
        gains={net: one.mean for net, one in nets.items()},
    )


def _itself(control: str, rows: list[Row], made: Sequence[Any]) -> Told:
    """The control, which gains nothing over itself, at its own cost."""
    settings, nets = by(rows, "group"), by_net(rows)
    blocks = sum(max(row["blocks"] for row in own) for own in settings.values())
    nowhere = (math.nan, math.nan, math.nan)
    zeros = dict.fromkeys(nets, 0.0)
    return Told(
        control, made, len(settings), len(nets), blocks, 0.0, 0.0, 0.0, *nowhere, 1.0, "time", len(settings), zeros
    )
