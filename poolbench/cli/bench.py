"""Time operators: `poolbench bench pools`, all or some of them, forward and backward.

Each is timed in turn with torch's own channels_last max_pool2d and a copy of the map; what counts are the multiples,
not the milliseconds. "floors": multiple of the time in which input, output and both gradients could be read or written
once. "memory": most bytes in use at once beyond input, output and their gradients, over the input's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

SHAPES = ("256,64,32,32", "64,32,32,32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("pools",), help="what to time")
    parser.add_argument("names", nargs="*", metavar="POOL", help="names or dotted paths of pools (default: all)")
    parser.add_argument("--shape", action="append", metavar="N,C,H,W", help=f"of the maps (default: {SHAPES[0]})")
    parser.add_argument("--format", action="append", choices=("channels_last", "contiguous"), help="of the memory")
    parser.add_argument("--threads", action="append", type=int, metavar="COUNT", help="of the CPU (default: 1)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=7, help="timings of each, in turn (default: 7)")
    parser.add_argument("--full", action="store_true", help="two shapes, both memory formats, 1 and 2 threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")


def main(arguments: argparse.Namespace) -> int:
    shapes = [_shape(text) for text in arguments.shape or (SHAPES if arguments.full else SHAPES[:1])]
    formats = arguments.format or (["channels_last", "contiguous"] if arguments.full else ["channels_last"])
    threads = arguments.threads or ([1, 2] if arguments.full else [1])
    if arguments.rounds < 1 or min(threads) < 1:
        raise ValueError("--rounds and --threads must be at least 1")
    import torch

    from poolbench.measure.speed import settings
    from poolbench.pooling import POOLS
    from poolbench.training.process import choose_device, set_up

    names = arguments.names or POOLS.names()
    for name in names:
        POOLS.find(name)
    device = choose_device(arguments.device)
    _, kept = set_up(device, max(threads), keep_memory=True)
    rows: list[dict[str, Any]] = []
    for setting in settings(shapes, formats, threads, device.type):
        rows += measure(names, setting, arguments.rounds)
    if arguments.json:
        from poolbench.records.files import write_text

        content = {"machine": machine(torch.__version__, kept, device.type), "rows": rows}
        write_text(arguments.json, json.dumps(content, indent=1) + "\n")
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
            f"{result['extra_memory']:>8.2f}"
        )
    sys.stdout.flush()
    return rows


def machine(torch_version: str, kept: bool, device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    from poolbench.records.environment import available_cores, code_version, cpu_name

    return {
        "cpu": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
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
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
