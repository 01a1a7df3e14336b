"""Time operators or whole nets, in turn, so that what else the machine does meets all alike.

  poolbench bench pools max soft lip                  operators alone; all of them without names
  poolbench bench nets pool=max,lp model=convnet      nets as `poolbench sweep` takes them, untrained, in float32

What counts are the multiples, not the milliseconds. Pools: of torch's own channels_last max_pool2d. "floors": multiple
of the time in which input, output and both gradients could be read or written once. "memory": most bytes in use at once
beyond input, output and their gradients, over the input's.

Nets: of the net with the pool `--baseline`, in the same round. "train": a forward and backward pass at the largest
batch; "fwd 128": a forward pass of 128 images for evaluation (shown for the largest and the smallest batch). "memory":
by how much a training pass makes a process grow, on a GPU what the allocator gives out ("-" where it does not count,
as on mps). "flops": of the forward pass,
pooling counted; "moved": bytes that the pools take in and give out for one image. Model, pool, head, classes, size of
the images and trainer.channels_last make a net; all else is left aside. `--json FILE` keeps every round: called
speeds.json and beside records, or named by `poolbench report --speeds`, it gives their tables the times.
"""

import argparse
import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.cli.options import add_config_dir, add_trust
from poolbench.messages import counted

if TYPE_CHECKING:
    import torch

    from poolbench.measure.net_speed import Net, NetSetting
    from poolbench.sweep.cells import Cell

SHAPES = ("256,64,32,32", "64,32,32,32")
BATCHES = (1, 128)
# Options that one kind takes alone.
_OWN = {"pools": ("shape", "format", "full"), "nets": ("batch", "seconds", "baseline", "config_dir", "trust")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("pools", "nets"), help="what to time")
    names = "pools: names or dotted paths (default: all); nets: options of a config, as pool=max,lp model=convnet"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--rounds", type=int, default=7, help="timings of each, in turn (default: 7)")
    parser.add_argument("--threads", action="append", type=int, metavar="COUNT", help="of the CPU (default: 1)")
    parser.add_argument("--device", default="cpu", help="as trainer.device, auto included (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there, as speeds.json")
    pools = parser.add_argument_group("pools")
    pools.add_argument("--shape", action="append", metavar="N,C,H,W", help=f"of the maps (default: {SHAPES[0]})")
    pools.add_argument("--format", action="append", choices=("channels_last", "contiguous"), help="of the memory")
    pools.add_argument("--full", action="store_true", help="two shapes, both memory formats, 1 and 2 threads")
    nets = parser.add_argument_group("nets")
    nets.add_argument(
        "--baseline", metavar="POOL", help="what the others are multiples of (default: native if all have it, else max)"
    )
    nets.add_argument("--batch", action="append", type=int, metavar="N", help="images at once (default: 1 and 128)")
    nets.add_argument("--seconds", type=float, help="that a timing lasts at least (default: 0.05)")
    add_config_dir(nets)
    add_trust(nets, "an experiment")


def main(arguments: argparse.Namespace) -> int:
    load = load_per_core()  # before there is any of our own
    _refuse_others(arguments)
    return _pools(arguments) if arguments.what == "pools" else _nets(arguments, load)


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Raises: ValueError for an option of the kind that was not asked for."""
    for kind, options in _OWN.items():
        for option in options:
            if kind != arguments.what and getattr(arguments, option) not in (None, False, []):
                flag = f"--{option.replace('_', '-')}"
                raise ValueError(f"{flag} is of `bench {kind}`; `bench {arguments.what}` does not take it")


def _pools(arguments: argparse.Namespace) -> int:
    shapes = [_shape(text) for text in arguments.shape or (SHAPES if arguments.full else SHAPES[:1])]
    formats = arguments.format or (["channels_last", "contiguous"] if arguments.full else ["channels_last"])
    threads = arguments.threads or ([1, 2] if arguments.full else [1])
    if arguments.rounds < 1 or min(threads) < 1:
        raise ValueError("--rounds and --threads must be at least 1")
    import torch

    from poolbench import accelerator
    from poolbench.measure.speed import settings
    from poolbench.pooling import POOLS
    from poolbench.training.process import set_up

    names = arguments.names or POOLS.names()
    for name in names:
        POOLS.find(name)
    device = accelerator.choose(arguments.device, "--device")
    _, kept = set_up(device, max(threads), keep_memory=True)
    rows: list[dict[str, Any]] = []
    for setting in settings(shapes, formats, threads, device.type):
        rows += measure(names, setting, arguments.rounds)
    if arguments.json:
        _write(arguments.json, {"machine": machine(torch.__version__, kept, device), "rows": rows})
    return 0 if all("error" not in row for row in rows) else 1


def measure(names: list[str], setting: Any, rounds: int) -> list[dict[str, Any]]:
    """Time the pools and print a table; one row of data a pool."""
    import sys

    from rich.console import Console

    from poolbench.measure.speed import time_operators
    from poolbench.pooling import create_pool

    console = Console(stderr=True)
    _, channels, height, width = setting.shape
    pools = {name: create_pool(name, channels=channels) for name in names}
    if console.is_terminal:
        with console.status("") as status:
            results = time_operators(pools, setting, rounds, progress=lambda text: status.update(f"{setting}: {text}"))
    else:
        results = time_operators(pools, setting, rounds)
    print(f"\n{setting}; {rounds} rounds")
    titles = f"{'forward':>9}{'backward':>9}{'total ms':>9}{'quartiles':>16}{'x max':>7}{'floors':>8}{'memory':>8}"
    print(f"{'pool':<16}{titles}")
    rows = []
    for name, result in results.items():
        flops = getattr(pools[name], "flops", None)
        rows.append(
            {
                "pool": name,
                "shape": list(setting.shape),
                "memory_format": setting.memory_format,
                "threads": setting.threads,
                "device": setting.device,
                "flops": flops((height, width)) if callable(flops) else None,
                **{key: _rounded(value) for key, value in result.items()},
            }
        )
        if "error" in result:
            print(f"{name:<16}{result['error']}")
            continue
        low, high = result["quartiles_ms"]
        print(
            f"{name:<16}{result['forward_ms']:>9.2f}{result['backward_ms']:>9.2f}{result['total_ms']:>9.2f}"
            f"{f'{low:.2f}-{high:.2f}':>16}{result['multiple']:>7.2f}{result['floors']:>8.1f}"
            f"{'-' if result['extra_memory'] is None else format(result['extra_memory'], '.2f'):>8}"
        )
    sys.stdout.flush()
    return rows


def _nets(arguments: argparse.Namespace, load: float | None) -> int:
    threads, batches = arguments.threads or [1], sorted(set(arguments.batch or BATCHES))
    seconds = 0.05 if arguments.seconds is None else arguments.seconds
    if len(threads) > 1:
        raise ValueError(f"--threads: `bench nets` takes one number, got {', '.join(map(str, threads))}")
    if arguments.rounds < 1 or min(threads) < 1:
        raise ValueError("--rounds and --threads must be at least 1")
    if min(batches) < 1:
        raise ValueError(f"--batch must be at least 1, got {min(batches)}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds must be above 0, got {seconds:g}")
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    plan = make_plan(launcher_options(arguments.names)[1], arguments.config_dir, trust=arguments.trust)
    import torch

    from poolbench import accelerator
    from poolbench.measure.net_speed import NetSetting
    from poolbench.records.speeds import BUSY, SCHEMA_VERSION
    from poolbench.report.summary import usual_baseline
    from poolbench.training.process import set_up

    nets, configs = distinct_nets(plan.cells)
    labels = {group: {net.label for net in nets if net.group == group} for group in {net.group for net in nets}}
    baseline = arguments.baseline or usual_baseline(labels.values())
    _check_baseline(nets, baseline)
    device = accelerator.choose(arguments.device, "--device")
    _, kept = set_up(device, threads[0], keep_memory=True)
    setting = NetSetting(tuple(batches), arguments.rounds, seconds, threads[0], device.type)
    if load is not None and load > BUSY:
        print(f"note: the machine was busy: {load:.1f} a core; ratios hold better than milliseconds")
    rows = [
        {"pool": net.label, "group": net.group, **config, **_rounded(result)}
        for net, config, result in zip(nets, configs, _measured(nets, baseline, setting), strict=True)
    ]
    for group in dict.fromkeys(net.group for net in nets):
        lines = net_lines([row for row in rows if row["group"] == group], baseline, setting)
        print("\n".join(["", *lines]), flush=True)
    if arguments.json:
        settings = {"device": setting.device, "threads": setting.threads, "rounds": setting.rounds}
        settings |= {"seconds": seconds, "batches": batches, "precision": "fp32", "load_per_core": load}
        content = {"schema_version": SCHEMA_VERSION, "baseline": baseline}
        content |= {"machine": machine(torch.__version__, kept, device)}
        _write(arguments.json, {**content, "settings": settings, "rows": rows})
    return 0 if all("error" not in row for row in rows) else 1


def distinct_nets(cells: "Sequence[Cell]") -> "tuple[list[Net], list[dict[str, Any]]]":
    """The nets of ``cells``, each once, and what makes each, for the record.

    Nets that differ in their pool alone are one group: they are compared.
    """
    from functools import partial

    from poolbench.assembly import build_model
    from poolbench.measure.net_speed import Net
    from poolbench.records.groups import group_hash, pool_labels
    from poolbench.records.identity import digest
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
    configs = [config for _, config in found.values()]
    titles = _titles(configs)
    nets = []
    for (cell, config), label in zip(found.values(), pool_labels(configs), strict=True):
        data = config["data"]
        make = partial(build_model, cell.config, data["classes"], tuple(data["size"]))
        layout = config["trainer"]["channels_last"]
        nets.append(Net(label, titles[group_hash(config)], make, tuple(data["size"]), data["classes"], layout))
    return nets, [{"config": config, "overrides": _without_places(cell)} for cell, config in found.values()]


def _without_places(cell: "Cell") -> list[str]:
    """The options that made ``cell``, but for its folders, which make no net and may be of somebody's machine: the
    record is published."""
    places = ("runs_dir", "report_dir", "data.root")
    return [text for text in cell.overrides if text.lstrip("+~").partition("=")[0] not in places]


def _titles(configs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Group -> what to call it, unique; names of components say what is not as usual in them."""
    from poolbench.records.groups import group_hash

    titles: dict[str, str] = {}
    for config in configs:
        names, data = config["names"], config["data"]
        height, width = data["size"]
        parts = [names["model"], names["head"], f"{height}x{width}", f"{data['classes']} classes"]
        parts += [] if config["trainer"]["channels_last"] else ["not channels_last"]
        group, title = group_hash(config), ", ".join(parts)
        taken = any(other == title for known, other in titles.items() if known != group)
        titles.setdefault(group, f"{title}, {group}" if taken else title)
    return titles


def _check_baseline(nets: "Sequence[Net]", baseline: str) -> None:
    """Raises: ValueError, before anything is built, when some net has none to be compared with."""
    from poolbench.registry import nearest

    for group in dict.fromkeys(net.group for net in nets):
        labels = [net.label for net in nets if net.group == group]
        if baseline not in labels:
            there = ", ".join(labels)
            raise ValueError(
                f"--baseline {baseline}: no pool of {group} is called that.{nearest(baseline, labels)} There: {there}"
            )


def _measured(nets: "Sequence[Net]", baseline: str, setting: "NetSetting") -> list[dict[str, Any]]:
    from rich.console import Console

    from poolbench.measure.net_speed import measure_nets

    console = Console(stderr=True)
    if not console.is_terminal:
        return measure_nets(nets, baseline, setting)
    with console.status("") as status:
        return measure_nets(nets, baseline, setting, progress=status.update)


_NAME, _WIDTH = 16, 100  # columns


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
        text += f"{row['images_per_second']:>10.0f}{memory:>8}{row['forward_flops'] / 1e6:>9.2f}"
        text += f"{row['pool_flops'] / 1e6:>9.2f}{row['parameters']:>12,}{row['pool_bytes'] / 1e6:>8.2f}"
        lines += _named(row["pool"], text)
    return [*lines, "", f"train (batch {setting.largest}), fwd: ms a pass; images/s: fwd; memory, moved: MB"]


def _named(pool: str, text: str) -> list[str]:
    """A line of the table; a name that is too long has one of its own."""
    return [f"{pool:<{_NAME}}{text}"] if len(pool) < _NAME else [pool, f"{'':<{_NAME}}{text}"]


def _forward(row: dict[str, Any], batch: int) -> dict[str, Any]:
    return next(one for one in row["forward"] if one["batch"] == batch)


def _short(value: float | None) -> str:
    """Three digits: ``0.98``, ``12.3``, ``123``."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _span(values: Sequence[float]) -> str:
    return "-".join(map(_short, values))


def load_per_core() -> float | None:
    """Processes that ran or waited in the last minute, for each core of the machine; None where nobody counts."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    from poolbench.records.files import write_text

    write_text(path, json.dumps(content, indent=1) + "\n")


def machine(torch_version: str, kept: bool, device: "torch.device") -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    from poolbench import accelerator
    from poolbench.records.environment import available_cores, code_version, cpu_name

    return {
        "cpu": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "device": accelerator.name(device),
        "torch": torch_version,
        "allocator_kept": kept,
        **code_version(),
    }


def _shape(text: str) -> tuple[int, int, int, int]:
    try:
        n, c, h, w = (int(part) for part in text.split(","))
    except ValueError:
        n = c = h = w = 0
    if min(n, c, h, w) < 1:
        raise ValueError(f"--shape must be four whole numbers of at least 1, as {SHAPES[0]}; got {text!r}")
    return n, c, h, w


def _rounded(value: Any) -> Any:
    """Four digits: the rest is noise."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
