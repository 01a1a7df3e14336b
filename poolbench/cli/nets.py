"""Nets for `poolbench bench nets`: which ones a sweep has, what each is a multiple of, and their tables."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from poolbench.messages import counted

if TYPE_CHECKING:
    from poolbench.measure.net_speed import Net, NetSetting
    from poolbench.sweep.cells import Cell

_NAME, _WIDTH = 16, 100  # columns


def distinct_nets(
    cells: Sequence["Cell"], compare: str | None = None
) -> "tuple[list[Net], list[dict[str, Any]], str | None]":
    """The nets of ``cells``, each once; what makes each, for the record; and the usual baseline of what is compared,
    None for pools.

    Nets that differ in their pool alone, or in what ``compare`` names, are one group: they are compared.

    Raises: ValueError for a ``compare`` that names nothing of a net.
    """
    from functools import partial
    from pathlib import Path

    from poolbench.assembly import build_model
    from poolbench.measure.net_speed import Net
    from poolbench.records.compared import POOL, parse_factor, seen_as, usual_baseline_of
    from poolbench.records.groups import group_hash, pool_labels
    from poolbench.records.identity import digest
    from poolbench.records.read import Record
    from poolbench.registry import component

    infos: dict[str, Any] = {}
    found: dict[str, tuple[Cell, dict[str, Any]]] = {}
    for cell in cells:
        config = cell.config
        key = digest(config["data"])
        if key not in infos:
            infos[key] = component("data", config["data"], config["names"]["data"])().info()
        data = {"size": list(infos[key].size), "classes": infos[key].num_classes}
        # All that a net is made of: what is left out cannot tell two apart, nor enter a name.
        own = {key: config[key] for key in ("model", "pool", "head")} | {"data": data}
        own["trainer"] = {"channels_last": config["trainer"]["channels_last"]}
        found.setdefault(digest(own), (cell, {**own, "names": config["names"]}))
    made = [Record("", Path(), config, {}, None, None) for _, config in found.values()]
    factor = POOL if compare is None else parse_factor(compare, made)
    configs = [record.config for record in seen_as(made, factor)]
    titles, labels = _titles(configs), pool_labels(configs)
    nets = []
    for (cell, own), config, label in zip(found.values(), configs, labels, strict=True):
        data = own["data"]
        make = partial(build_model, cell.config, data["classes"], tuple(data["size"]))
        layout = own["trainer"]["channels_last"]
        nets.append(Net(label, titles[group_hash(config)], make, tuple(data["size"]), data["classes"], layout))
    records = [{"config": own, "overrides": _without_places(cell)} for cell, own in found.values()]
    return nets, records, None if factor == POOL else usual_baseline_of(labels, factor)


def _without_places(cell: "Cell") -> list[str]:
    """The options that made ``cell``, but for its folders, which make no net and may be of somebody's machine: the
    record is published."""
    places = ("runs_dir", "report_dir", "data.root")
    return [text for text in cell.overrides if text.lstrip("+~").partition("=")[0] not in places]


def _titles(configs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Group -> what to call it, unique; names of components say what is not as usual in them."""
    from poolbench.records.groups import group_hash
    from poolbench.records.labels import label

    titles: dict[str, str] = {}
    for config in configs:
        parts = [text for name in ("with", "model", "head") if (text := label(config, name))]
        if "size" in (data := config["data"]):  # else it is what is compared
            parts += [f"{data['size'][0]}x{data['size'][1]}", f"{data['classes']} classes"]
        parts += [] if config["trainer"].get("channels_last", True) else ["not channels_last"]
        group, title = group_hash(config), ", ".join(parts)
        taken = any(other == title for known, other in titles.items() if known != group)
        titles.setdefault(group, f"{title}, {group}" if taken else title)
    return titles


def baselines_of(nets: "Sequence[Net]", given: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """What each group's nets are multiples of, as the report's tables have it, and which groups are left out.

    A net alone in its group has nothing to be compared with: it is left out beside groups of several, and where no
    group has several each is timed as a multiple of itself.

    Args:
        given: by ``--baseline``; None: ``native`` where every group has it, else ``max``, else ``native``.
    Returns: group -> label of its baseline, and group -> why it is left out.
    Raises: ValueError, before anything is built, when no group has a baseline.
    """
    from poolbench.registry import nearest
    from poolbench.report.summary import find_baseline, usual_baselines

    groups: dict[str, list[str]] = {}
    for net in nets:
        groups.setdefault(net.group, []).append(net.label)
    wanted = usual_baselines(groups.values()) if given is None else (given,)
    found = {group: find_baseline(labels, wanted) for group, labels in groups.items()}
    several = [group for group, labels in groups.items() if len(labels) > 1]
    if not several and given is None:
        return {group: labels[0] for group, labels in groups.items()}, {}
    compared = {group: baseline for group, baseline in found.items() if baseline and (group in several or not several)}
    if not compared:
        group = (several or list(groups))[0]
        there = ", ".join(groups[group])
        hint = nearest(wanted[0], groups[group])
        raise ValueError(f"--baseline {wanted[0]}: no pool of {group} is called that.{hint} There: {there}")
    called = " or ".join(wanted)
    return compared, {
        group: "one net alone" if several and len(labels) == 1 else f"no pool called {called} among {', '.join(labels)}"
        for group, labels in groups.items()
        if group not in compared
    }


def left_out(groups: dict[str, str]) -> list[str]:
    """Which groups are left out, a note for each reason."""
    reasons: dict[str, list[str]] = {}
    for group, why in groups.items():
        reasons.setdefault(why, []).append(group)
    return [
        line
        for why, of in reasons.items()
        for line in textwrap.wrap(f"note: left out, {why}: {'; '.join(of)}", _WIDTH, break_long_words=False)
    ]


def measured(nets: "Sequence[Net]", baseline: str, setting: "NetSetting") -> list[dict[str, Any]]:
    """Measure ``nets`` of one group against ``baseline``, with what is going on shown on a terminal."""
    from rich.console import Console

    from poolbench.measure.net_speed import measure_nets

    console = Console(stderr=True)
    if not console.is_terminal:
        return measure_nets(nets, baseline, setting)
    with console.status("") as status:
        return measure_nets(nets, baseline, setting, progress=status.update)


def net_lines(rows: Sequence[dict[str, Any]], baseline: str, setting: "NetSetting") -> list[str]:
    """A group of nets for people: multiples of the baseline with their quartiles, then the numbers themselves."""
    shown = sorted({min(setting.batches), setting.largest}, reverse=True)
    threads = f", {setting.threads} thread{'s' if setting.threads > 1 else ''}" if setting.device == "cpu" else ""
    title = f"{rows[0]['group']}; {setting.device}{threads}; {counted(setting.rounds, 'round')}"
    lines = [*textwrap.wrap(title, _WIDTH, break_long_words=False), ""]
    of = f"x {baseline}"[: _NAME - 1]
    lines.append(
        f"{of:<{_NAME}}{'train':>7}{'quartiles':>11}"
        + "".join(f"{f'fwd {batch}':>9}{'quartiles':>11}" for batch in shown)
        + f"{'memory':>7}{'flops':>6}{'params':>7}{'moved':>6}"
    )
    for row in rows:
        if "error" in row:
            lines += textwrap.wrap(f"{row['pool']}: {row['error']}", _WIDTH)
            continue
        timings = [row["train"], *(_forward(row, batch) for batch in shown)]
        text = f"{_short(timings[0]['ratio']):>7}{_span(timings[0]['ratio_quartiles']):>11}"
        text += "".join(f"{_short(one['ratio']):>9}{_span(one['ratio_quartiles']):>11}" for one in timings[1:])
        widths = {"memory_bytes": 7, "forward_flops": 6, "parameters": 7, "pool_bytes": 6}
        text += "".join(f"{_short(row[f'{name}_ratio']):>{width}}" for name, width in widths.items())
        lines += _named(row["pool"], text)
    lines += ["", f"{'':<{_NAME}}{'train':>9}" + "".join(f"{f'fwd {batch}':>9}" for batch in shown)]
    lines[-1] += f"{'images/s':>10}{'memory':>8}{'MFLOPs':>9}{'of pools':>9}{'parameters':>12}{'moved':>8}"
    for row in rows:
        if "error" in row:
            continue
        text = "".join(f"{one['ms']:>9.2f}" for one in (row["train"], *(_forward(row, batch) for batch in shown)))
        memory = "-" if row["memory_bytes"] is None else _short(row["memory_bytes"] / 1e6)
        text += f"{row['images_per_second']:>10.0f}{memory:>8}{_millions(row['forward_flops']):>9}"
        text += f"{_millions(row['pool_flops']):>9}{row['parameters']:>12,}{row['pool_bytes'] / 1e6:>8.2f}"
        lines += _named(row["pool"], text)
    lines += ["", f"train (batch {setting.largest}), fwd: ms a pass; images/s: fwd; memory, moved: MB"]
    if any("error" not in row and row["forward_flops"] is None for row in rows):
        lines.append("MFLOPs -: not counted, a pool of the net says none")
    return lines


def _named(pool: str, text: str) -> list[str]:
    """A line of the table; a name that is too long has one of its own."""
    return [f"{pool:<{_NAME}}{text}"] if len(pool) < _NAME else [pool, f"{'':<{_NAME}}{text}"]


def _millions(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _forward(row: dict[str, Any], batch: int) -> dict[str, Any]:
    return next(one for one in row["forward"] if one["batch"] == batch)


def _short(value: float | None) -> str:
    """Three digits: ``0.98``, ``12.3``, ``123``."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _span(values: Sequence[float]) -> str:
    return "-".join(map(_short, values))
