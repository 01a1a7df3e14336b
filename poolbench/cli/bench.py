"""Time operators or whole nets, in turn, so that what else the machine does meets all alike.

  poolbench bench pools max soft lip                  operators alone; all of them without names
  poolbench bench nets pool=max,lp model=convnet      nets as `poolbench sweep` takes them, untrained, in float32
  poolbench bench nets head=gem,flatten --compare head

What counts are the multiples, not the milliseconds. Pools: of torch's own channels_last max_pool2d. "floors": multiple
of the time in which input, output and both gradients could be read or written once. "memory": most bytes in use at once
beyond input, output and their gradients, over the input's.

Nets: of the net with the pool `--baseline` in their group, in the same round. Nets that differ in their pool alone, or
in what `--compare` names, are a group, timed in turn; one alone in its group is left out beside groups of several.
"train": a forward and backward pass at the largest batch; "fwd 128": a forward pass of 128 images for evaluation (shown
for the largest and the smallest batch). "memory": by how much a training pass makes a process grow, on a GPU what the
allocator gives out ("-" where it does not count, as on mps). "flops": of the forward pass, pooling counted; "moved":
bytes that the pools take in and give out for one image. Model, pool, head, classes, size of the images and
trainer.channels_last make a net; all else is left aside. `--json FILE` keeps every round: called speeds.json and beside
records, or named by `poolbench report --speeds`, it gives their tables the times.
"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.cli.options import add_config_dir, add_trust

if TYPE_CHECKING:
    import torch

SHAPES = ("256,64,32,32", "64,32,32,32")
BATCHES = (1, 128)
# Options that one kind takes alone.
_OWN = {
    "pools": ("shape", "format", "full"),
    "nets": ("batch", "seconds", "baseline", "compare", "config_dir", "trust"),
}


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
        "--baseline",
        metavar="POOL",
        help="what the others of a group are multiples of (native if all have it, else max, else native)",
    )
    nets.add_argument("--compare", metavar="WHAT", help="head, model, data or an option, as `poolbench report` (pool)")
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
    from poolbench.cli.nets import baselines_of, distinct_nets, left_out, measured, net_lines
    from poolbench.measure.net_speed import NetSetting
    from poolbench.records.speeds import BUSY, SCHEMA_VERSION
    from poolbench.training.process import set_up

    nets, configs, usual = distinct_nets(plan.cells, arguments.compare)
    baselines, left = baselines_of(nets, arguments.baseline or usual)
    device = accelerator.choose(arguments.device, "--device")
    _, kept = set_up(device, threads[0], keep_memory=True)
    setting = NetSetting(tuple(batches), arguments.rounds, seconds, threads[0], device.type)
    if load is not None and load > BUSY:
        print(f"note: the machine was busy: {load:.1f} a core; ratios hold better than milliseconds")
    for line in left_out(left):
        print(line)
    rows: list[dict[str, Any]] = []
    for group, baseline in baselines.items():
        own = [(net, config) for net, config in zip(nets, configs, strict=True) if net.group == group]
        results = measured([net for net, _ in own], baseline, setting)
        timed = [
            {"pool": net.label, "group": group, **config, **_rounded(result)}
            for (net, config), result in zip(own, results, strict=True)
        ]
        print("\n".join(["", *net_lines(timed, baseline, setting)]), flush=True)
        rows += timed
    if arguments.json:
        settings = {"device": setting.device, "threads": setting.threads, "rounds": setting.rounds}
        settings |= {"seconds": seconds, "batches": batches, "precision": "fp32", "load_per_core": load}
        content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "baselines": baselines, "left_out": left}
        content |= {"machine": machine(torch.__version__, kept, device)}
        _write(arguments.json, {**content, "settings": settings, "rows": rows})
    return 0 if all("error" not in row for row in rows) else 1


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
