"""What a report says over all its nets: each pool's difference to the baseline, put together as random effects."""

import math
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from poolbench.records.groups import data_set
from poolbench.report.summary import NATIVE, Row, best, by, plain
from poolbench.statistics.blocks import Difference
from poolbench.statistics.comparisons import ALPHA, CANNOT_TELL, HIGHER, LEAST_PAIRS, LOWER, holm, two_sided
from poolbench.statistics.nets import over_nets, together

Net = tuple[str, str]
OVER = (  # differences are fractions; *_low and *_high are 95 % bounds, net_* those for a net not tried
    *("tuned", "pool", "baseline", "nets", "difference", "difference_low", "difference_high", "between"),
    *("net_low", "net_high", "p", "p_holm", "verdict", "among_best"),
)


def over_all_nets(summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each pool that three nets or more compare with the baseline; empty without any.

    Cells at tuned values (``optimizer=tuned``) have rows of their own.

    Args:
        summary: as :func:`poolbench.report.summary.summarise` gives it.
    """
    rows = []
    for tuned, members in sorted(by(_with_view(plain(summary)), "tuned").items()):
        rows += _rows(tuned, members)
    return pd.DataFrame(rows, columns=list(OVER)).astype({"among_best": "boolean"})


def compared(row: Row, least: int) -> bool:
    """Whether a row of the summary is of a pool that met the baseline in ``least`` blocks, with a spread that is
    known."""
    return row["blocks"] is not None and row["blocks"] >= least and bool(row["difference_error"])


def by_net(rows: Iterable[Row]) -> dict[Net, Difference]:
    """One pool's difference to the baseline in each net: the mean of what its ``rows`` of the summary say, of several
    settings."""
    found: dict[Net, list[Difference]] = defaultdict(list)
    for row in rows:
        one = Difference(row["difference"], row["blocks"], row["difference_error"], row["difference_df"], pooled=True)
        found[str(row["model"]), data_set(str(row["data"]))].append(one)
    return {net: together(own) for net, own in found.items()}


def _with_view(rows: list[Row]) -> list[Row]:
    return [{**row, "tuned": str(row["setting"]).endswith(", tuned")} for row in rows]


def _rows(tuned: bool, members: list[Row]) -> list[Row]:
    baselines = {row["pool"] for row in members if row["baseline"]}
    if len(baselines) > 1 and NATIVE in baselines:  # another pool in each net: what groups without the other one have
        baselines -= {NATIVE}
        others = {row["group"] for row in members if row["baseline"] and row["pool"] == NATIVE}
        members = [row for row in members if row["group"] not in others]
    told_rows = [row for row in members if compared(row, LEAST_PAIRS)]
    nets = {pool: by_net(own) for pool, own in by(told_rows, "pool").items()}
    effects = {pool: over_nets(list(own.values())) for pool, own in nets.items()}
    told = {pool: one for pool, one in effects.items() if one is not None}
    if not told or len(baselines) != 1:
        return []
    (baseline,) = baselines
    adjusted = dict(zip(told, holm([two_sided(one.difference) for one in told.values()]), strict=True))
    known = {net for pool in told for net in nets[pool]}
    means = {pool: {net: one.mean for net, one in nets[pool].items()} for pool in told}
    among, asked = best({baseline: dict.fromkeys(known, 0.0), **means})
    rows = [
        {"tuned": tuned, "pool": baseline, "baseline": True, "nets": len(known), "between": math.nan, "verdict": None}
        | {"among_best": baseline in among if baseline in asked else None, "difference": 0.0}
    ]
    for pool, one in told.items():
        low, high = one.difference.interval()
        p = two_sided(one.difference)
        higher = HIGHER if one.mean > 0 else LOWER
        rows.append(
            {"tuned": tuned, "pool": pool, "baseline": False, "nets": one.nets, "between": one.between}
            | {"difference": one.mean, "difference_low": low, "difference_high": high}
            | {"net_low": one.low, "net_high": one.high, "p": p, "p_holm": adjusted[pool]}
            | {"verdict": higher if adjusted[pool] < ALPHA else CANNOT_TELL}
            | {"among_best": pool in among if pool in asked else None}
        )
    return sorted(rows, key=lambda row: (-row["difference"], row["pool"]))
