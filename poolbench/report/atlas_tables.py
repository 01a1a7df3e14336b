"""What an atlas says, as tables: rows for files, and Markdown for people."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from poolbench.foreign import Unreadable, parsed_yaml, read_bytes
from poolbench.messages import counted, described
from poolbench.records.printable import printable
from poolbench.report.advice import Told
from poolbench.report.atlas import POINTS, Atlas
from poolbench.report.over_nets import Net
from poolbench.report.tables import DASH, plain_markdown
from poolbench.statistics.agreement import Association
from poolbench.statistics.nets import LEAST_TO_PREDICT

COLUMNS = (
    *("pool", "nets", "gain", "gain_low", "gain_high", "between", "net_low", "net_high", "above", "among_best"),
    *("cost", "cost_by"),
)
CASES = ("pool", "model", "data", "gain", "error", "df", "blocks", "low", "high", "inside")


def pool_rows(atlas: Atlas, told: Sequence[Told] = ()) -> pd.DataFrame:
    """A row a pool, largest gain first, the control among them; numbers as in the records, shares of 1.

    Args:
        told: what each pool costs, as :func:`poolbench.report.advice.evidence` has it.
    """
    costs = {one.pool: one for one in told}
    rows: list[dict[str, Any]] = [{"pool": atlas.control, "nets": len(atlas.nets), "gain": 0.0}]
    for pool, one in atlas.over.items():
        low, high = one.difference.interval()
        rows.append(
            {"pool": pool, "nets": one.nets, "gain": one.mean, "gain_low": low, "gain_high": high}
            | {"between": one.between, "net_low": one.low, "net_high": one.high, "above": one.above}
        )
    for row in rows:
        row["among_best"] = row["pool"] in atlas.among if row["pool"] in atlas.asked else None
        if (one := costs.get(row["pool"])) is not None:
            row |= {"cost": one.cost, "cost_by": one.cost_by}
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"among_best": "boolean"})
    return table.sort_values(["gain", "pool"], ascending=[False, True], ignore_index=True)


def case_rows(atlas: Atlas) -> pd.DataFrame:
    """A row a pool and net: its gain there, and the interval that the other nets give for it."""
    cases = {(case.arm, case.net): case for case in atlas.cases}
    rows: list[dict[str, Any]] = []
    for pool, own in atlas.gains.items():
        for net, one in sorted(own.items()):
            row: dict[str, Any] = {"pool": pool, "model": net[0], "data": net[1], "gain": one.mean, "error": one.error}
            row |= {"df": one.df, "blocks": one.blocks}
            if (case := cases.get((pool, net))) is not None:
                row |= {"low": case.low, "high": case.high, "inside": case.inside}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(CASES)).astype({"inside": "boolean"})


def read_features(path: Any) -> dict[str, dict[Net, float]]:
    """Features of nets, name -> net -> number, of a YAML file: a list of ``{model: ..., data: ..., NAME: NUMBER}``.

    Raises: ValueError naming the file, the entry, the key, its value and what is allowed.
    """
    try:
        content = parsed_yaml(read_bytes(path))
    except Unreadable as error:
        raise ValueError(f"--features {path} {error}") from error
    form = "a list of entries as {model: resnet, data: cifar10, depth: 7}"
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ValueError(f"--features {path} must hold {form}, it holds {described(content)}")
    found: dict[str, dict[Net, float]] = defaultdict(dict)
    for number, entry in enumerate(content, start=1):
        where = f"--features {path}, entry {number}"
        for key in ("model", "data"):
            if not isinstance(entry.get(key), str):
                raise ValueError(f"{where}: {key} must be a name as tables have it, got {entry.get(key)!r}")
        for name, value in entry.items():
            if name in ("model", "data"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{where}: {printable(str(name))} must be a number, got {value!r}")
            found[str(name)][entry["model"], entry["data"]] = float(value)
    return dict(found)


def markdown(atlas: Atlas, told: Sequence[Told] = ()) -> str:
    """The atlas for people, without a heading: a table of pools, whether intervals were kept, what goes with what."""
    points = atlas.scale == POINTS
    factor, unit = (100.0, "points") if points else (1.0, "of the error's logarithm")
    table = pool_rows(atlas, told)
    predicted = bool(table["net_low"].notna().any())
    lines = [
        f"| pool | nets | gain over {atlas.control} ({unit}) | in a net not tried | better there | best? | cost |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    for row in table.to_dict("records"):
        own = row["pool"] != atlas.control
        cells = [
            plain_markdown(row["pool"]),
            str(row["nets"]),
            _plus_minus(row, factor) if own else DASH,
            _span(row["net_low"], row["net_high"], factor) if own else DASH,
            _chance(row["above"]) if own else DASH,
            DASH if pd.isna(row["among_best"]) else "maybe" if row["among_best"] else "no",
            DASH if pd.isna(row["cost"]) else f"{row['cost']:.2f}{' F' if row['cost_by'] == 'flops' else ''}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", _rule(predicted)]
    lines += _kept(atlas)
    lines += _agreement(atlas)
    lines += _associations("What differences between nets go with", "share of their variance", atlas.features)
    lines += _associations("What the pools' mean gains go with", "Spearman's rho", atlas.properties)
    return "\n".join(lines) + "\n"


def _rule(predicted: bool) -> str:
    where = (
        "In a net not tried: where its true gain should lie (95 %), and the chance that it is above 0; one "
        "distribution gives both. "
        if predicted
        else f"What to expect in a net not tried takes {LEAST_TO_PREDICT} nets. "
    )
    return (
        "± is the 95 % interval of the mean over nets, as if nets were drawn from those that people use. "
        f"{where}best?: whether nets tell the pool apart from the best (Hsu, 95 %). cost: a training step over the "
        "control's, F: by FLOPs, where nobody timed the nets in turn."
    )


def _kept(atlas: Atlas) -> list[str]:
    """Whether the intervals keep their promise, in all and by net."""
    if (kept := atlas.kept) is None:
        return []
    lines = ["", "## Each net left out and predicted by the others", ""]
    verdict = "as it should be" if kept.as_expected else "not what it should be"
    lines.append(
        f"Of {counted(kept.cases, 'gain')} {kept.inside} lie in the 95 % interval that the other nets give for them, "
        f"{100 * kept.share:.1f} %: {verdict}. If the model holds it is {100 * kept.expected:.1f} % on average and "
        f"{100 * kept.low:.1f} to {100 * kept.high:.1f} % in 95 % of cases ({counted(kept.repeats, 'simulation')}); "
        f"gains in one net share {atlas.control}'s cells, so they miss together."
    )
    lines += ["", "| net left out | gains | inside |", "|---|---:|---:|"]
    by_net: dict[Net, list[bool]] = defaultdict(list)
    for case in atlas.cases:
        by_net[case.net].append(case.inside)
    lines += [
        f"| {plain_markdown(', '.join(net))} | {len(own)} | {100 * sum(own) / len(own):.0f} % |"
        for net, own in sorted(by_net.items())
    ]
    return lines


def _agreement(atlas: Atlas) -> list[str]:
    if (one := atlas.agreement) is None:
        return []
    span = "" if math.isnan(one.low) else f" [{one.low:.2f}, {one.high:.2f}]"
    text = f"Nets order the pools alike with a Kendall's tau of {one.tau:.2f}{span}, mean over pairs of {one.settings}."
    if not math.isnan(atlas.repeated):
        text += f" Two blocks of one net do with {atlas.repeated:.2f}: more cannot be asked of nets."
    return ["", "## Do nets agree?", "", text]


def _associations(heading: str, what: str, found: Sequence[Association]) -> list[str]:
    if not found:
        return []
    lines = [
        "",
        f"## {heading}",
        "",
        "Correlations, no causes; p by permutation, after Holm for all that were asked.",
        "",
    ]
    lines += [f"| property | {what} | units | p |", "|---|---:|---:|---:|"]
    return lines + [
        f"| {plain_markdown(one.name.replace('_', ' '))} | {one.strength:.2f} | {one.units} | {one.p_holm:.3f} |"
        for one in found
    ]


def _plus_minus(row: Mapping[str, Any], factor: float) -> str:
    half = "" if pd.isna(row["gain_low"]) else f"\u00a0±\u00a0{factor * (row['gain_high'] - row['gain_low']) / 2:.2f}"
    return f"{factor * row['gain']:+.2f}{half}"


def _span(low: float, high: float, factor: float) -> str:
    return DASH if pd.isna(low) else f"{factor * low:+.2f} to {factor * high:+.2f}"


def _chance(share: float) -> str:
    """It is a share of 10,000 draws: no chance is said to be none or all."""
    if pd.isna(share):
        return DASH
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"
