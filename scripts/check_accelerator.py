"""Try everything that computes on the accelerator of this machine, and print one page (Markdown) of what came of it.

    python scripts/check_accelerator.py > accelerator.md       # the accelerator that is here; some ten minutes
    python scripts/check_accelerator.py --quick                # default options, small maps timed; some minutes
    python scripts/check_accelerator.py --device cpu --quick   # where there is none: tries the script itself
    python scripts/check_accelerator.py --names lip,gem,resnet --parts operators,models

- ``operators``: every pool and head forward and backward, in both memory formats: values and gradients are finite, and
  those of the CPU within 0.001 of the largest. What draws has other numbers on each device and need only be finite.
- ``models``: every model, a small one of its kind, in the same way.
- ``sweep``: a small sweep; then the same one killed in the middle and taken up again gives the same numbers.
- ``bench``: every pool is timed as ``poolbench bench pools`` does.

The exit code is 1 when something failed. Failures name an operator that torch lacks on the device, and what helps.
"""

import argparse
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from check_grid import small_models
from torch import Tensor, nn

from poolbench import __version__, accelerator, create_model
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.models.sites import initialise
from poolbench.pooling import POOLS
from poolbench.records import environment
from poolbench.testing.face import distinct
from poolbench.training.process import set_up

PARTS = ("operators", "models", "sweep", "bench")
TOLERANCE = 1e-3  # of the largest magnitude: float32 on other hardware, through a whole net
CHANNELS, CLASSES, SIDE = 8, 5, 12
SWEEP = (
    *("data=shapes", "data.train_samples=600", "data.test_samples=100", "data.size=16", "model=convnet_small"),
    *("pool=max,stochastic", "trainer.epochs=8", "trainer.batch_size=50", "trainer.threads=1", "sweep.workers=1"),
)
NUMBERS = ("test_loss", "test_accuracy", "train_loss", "train_accuracy")
SECONDS_OF_A_SWEEP = 600


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Args:
        part: one of ``PARTS``; what: the thing, in words.
        difference: from the CPU, as a share of the largest magnitude; None where none is to be expected.
        error: what is wrong with it; empty where nothing is.
    """

    part: str
    what: str
    difference: float | None = None
    error: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code; 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="as trainer.device (default: auto)")
    parser.add_argument("--quick", action="store_true", help="options as they are by default, and one memory format")
    parser.add_argument("--names", type=lambda text: text.split(","), help="only these pools, heads and models")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS, help=f"of {','.join(PARTS)}")
    chosen = parser.parse_args(arguments)
    if unknown := sorted({*chosen.parts} - {*PARTS}):
        parser.error(f"--parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
    known = {*POOLS.names(), *HEADS.names(), *MODELS.names()}
    if unknown := sorted({*(chosen.names or ())} - known):
        parser.error(f"--names must be pools, heads or models, got {', '.join(unknown)}")
    try:
        device = accelerator.choose(chosen.device, "--device")
    except ValueError as error:
        parser.error(str(error))
    set_up(device, None, keep_memory=True)
    findings, rows = list[Finding](), list[dict[str, Any]]()
    began = time.perf_counter()
    if "operators" in chosen.parts:
        findings += operators(device, chosen.quick, chosen.names)
    if "models" in chosen.parts:
        findings += models(device, chosen.quick, chosen.names)
    with tempfile.TemporaryDirectory() as folder:
        if "sweep" in chosen.parts:
            findings += sweep(device, Path(folder))
        if "bench" in chosen.parts:
            rows = bench(device, chosen.quick, chosen.names, Path(folder))
            findings += [Finding("bench", row["pool"], error=row.get("error", "")) for row in rows]
    print("\n".join(page(device, findings, rows, time.perf_counter() - began)))
    return 1 if any(one.error for one in findings) else 0


def operators(device: torch.device, quick: bool, names: list[str] | None = None) -> Iterator[Finding]:
    """Every pool and head, with each set of options that its contract is tested with."""
    for kind, table in (("pool", POOLS), ("head", HEADS)):
        for name in table.names():
            if name == "custom" or (names and name not in names):
                continue
            for options in ({}, *(() if quick else table.find(name).variants)):
                text = ", ".join(f"{option}={value}" for option, value in options.items())
                head = {"num_classes": CLASSES, "size": (SIDE, SIDE)} if kind == "head" else {}
                make = partial(table.create, name, channels=CHANNELS, **head, **options)
                x = distinct(4, CHANNELS, SIDE, SIDE).float()
                yield from _both_formats("operators", f"{kind} {name} {text}".strip(), make, x, device, quick)


def models(device: torch.device, quick: bool, names: list[str] | None = None) -> Iterator[Finding]:
    """Every model, made small, with the pools and the head of its paper."""
    for name in MODELS.names():
        if names and name not in names:
            continue
        side = 64 if name == "fractional_net" else 32
        for options in small_models(name)[: 1 if quick else None]:
            native = {"pool": "native", "head": "native"} if name != "torchvision" else {}
            size = {"num_classes": CLASSES, "input_size": (side, side)}
            make = partial(create_model, name, **size, **{**native, **options})
            torch.default_generator.manual_seed(0)
            yield from _both_formats("models", f"model {name}", make, torch.rand(4, 3, side, side), device, quick)


def _both_formats(
    part: str, what: str, make: Callable[[], nn.Module], x: Tensor, device: torch.device, quick: bool
) -> Iterator[Finding]:
    for words, layout in (("", torch.channels_last), (", contiguous", torch.contiguous_format)):
        if words and quick:
            break
        try:
            yield Finding(part, what + words, compared(make(), x.contiguous(memory_format=layout), device))
        except Exception as error:  # what a device lacks is said in many ways
            told = accelerator.missing(error) or f"{type(error).__name__}: {error}".partition("\n")[0]
            yield Finding(part, what + words, error=told)


def compared(net: nn.Module, x: Tensor, device: torch.device) -> float | None:
    """How far values and gradients of ``net`` on ``device`` are from those on the CPU, as a share of the largest.

    Returns: the largest difference of evaluation; None of a net that draws in evaluation.
    Raises: AssertionError where something is not finite, or further than ``TOLERANCE``; what torch raises.
    """
    initialise(net, seed=0)
    there = copy.deepcopy(net).to(device)
    here, again = _passed(net.eval(), x), _passed(net.eval(), x)
    found = _passed(there.eval(), x.to(device))
    _passed(there.train(), x.to(device))
    if any(not torch.equal(one, other) for one, other in zip(here.values(), again.values(), strict=True)):
        return None
    worst = 0.0
    for name, expected in here.items():
        scale = max(float(expected.abs().max()), 1e-6) if expected.numel() else 1.0
        difference = float((found[name] - expected).abs().max()) / scale if expected.numel() else 0.0
        assert difference <= TOLERANCE, f"its {name} differs from the CPU's by {difference:.2g} of the largest"
        worst = max(worst, difference)
    return worst


def _passed(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What comes of a forward and a backward pass, on the CPU. Raises: AssertionError where it is not finite."""
    net.zero_grad(set_to_none=True)
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = net(x)
    y.square().mean().backward()
    parts = {"output": y.detach(), "gradient of the input": x.grad}
    parts |= {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
    found = {name: value.float().cpu() for name, value in parts.items() if value is not None}
    for name, value in found.items():
        assert value.isfinite().all(), f"its {name} is not finite"
    return found


def sweep(device: torch.device, folder: Path) -> Iterator[Finding]:
    """A small sweep left alone, and the same one killed and taken up again."""
    alone, killed = folder / "alone", folder / "killed"
    try:
        _trained(device, alone)
        yield Finding("sweep", "small sweep", error=_wrong_with(device, alone))
        _killed(device, killed)
        _trained(device, killed)
        yield Finding("sweep", "killed and resumed", *_apart(device, alone, killed))
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        yield Finding("sweep", "sweep", error=str(error))


def _start(device: torch.device, runs: Path) -> subprocess.Popen[str]:
    name = "cpu" if device.type == "cpu" else str(device)
    command = [sys.executable, "-m", "poolbench", "sweep", *SWEEP, f"trainer.device={name}", f"runs_dir={runs}"]
    text = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=runs.parent, start_new_session=True, **text)


def _trained(device: torch.device, runs: Path) -> None:
    process = _start(device, runs)
    said, _ = process.communicate(timeout=SECONDS_OF_A_SWEEP)
    reasons = [json.loads(file.read_text())["error"] for file in runs.glob("*/status.json")]
    told = "; ".join(reason for reason in reasons if reason) or said.strip().rpartition("\n")[2]
    assert process.returncode == 0, f"a sweep ended with exit code {process.returncode}: {told}"


def _killed(device: torch.device, runs: Path) -> None:
    """Kill a sweep as soon as a cell of it has a checkpoint, and is not done."""
    process = _start(device, runs)
    try:
        while process.poll() is None:
            if any(not (file.parent / "result.json").exists() for file in runs.glob("*/checkpoint.pt")):
                break
            time.sleep(0.02)
    finally:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows: its workers end with it
            process.kill()
        process.communicate()


def _results(runs: Path) -> dict[str, dict[str, Any]]:
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(runs.glob("*/result.json"))}


def _wrong_with(device: torch.device, runs: Path) -> str:
    """What is wrong with the records of a sweep; empty where nothing is."""
    for run_id, result in _results(runs).items():
        described = json.loads((runs / run_id / "environment.json").read_text())
        if described["device"] != accelerator.name(device):
            return f"{run_id} says that its device is {described['device']}"
        if device.type != "cpu" and not result["peak_memory_bytes"]:
            return f"{run_id} says nothing of its memory"
    return "" if len(_results(runs)) == 2 else f"of 2 cells {len(_results(runs))} are done"


def _apart(device: torch.device, alone: Path, killed: Path) -> tuple[float, str]:
    """How far the numbers of both sweeps are apart, and what is wrong with that. On the CPU they are the same to the
    bit; on accelerators some operations of torch have no order that is always the same."""
    first, second = _results(alone), _results(killed)
    if not any(result["resumed"] for result in second.values()):
        return 0.0, "no cell was resumed: all were done before the kill, or began anew"
    differences = [abs(first[name][key] - second[name][key]) for name in first for key in NUMBERS]
    allowed = 0.0 if device.type == "cpu" else 0.05
    return max(differences), "" if max(differences) <= allowed else f"numbers differ by {max(differences):.2g}"


def bench(device: torch.device, quick: bool, names: list[str] | None, folder: Path) -> list[dict[str, Any]]:
    """Rows of ``poolbench bench pools``."""
    file = folder / "bench.json"
    asked = [name for name in POOLS.names() if name != "custom" and (not names or name in names)]
    shape = ["--shape", "8,16,16,16", "--rounds", "1"] if quick else ["--shape", "256,64,32,32", "--rounds", "3"]
    command = [sys.executable, "-m", "poolbench", "bench", "pools", *asked, *shape]
    command += ["--device", str(device), "--json", str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not file.exists():
        return [{"pool": "all", "error": done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"}]
    return json.loads(file.read_text())["rows"]


def page(device: torch.device, findings: list[Finding], rows: list[dict[str, Any]], seconds: float) -> Iterator[str]:
    """The page, line by line."""
    failed = [one for one in findings if one.error]
    name, driver = accelerator.name(device), accelerator.driver(device) or environment.gpu_driver()
    yield f"# poolbench on {name} ({device})"
    yield ""
    yield f"poolbench {__version__}, torch {torch.__version__}, driver {driver or 'none'}, {environment.cpu_name()}."
    yield f"{len(findings)} things tried in {seconds / 60:.0f} minutes, {len(failed)} failed."
    yield ""
    yield "| part | tried | failed | largest difference |"
    yield "|---|---|---|---|"
    for part in PARTS:
        own = [one for one in findings if one.part == part]
        worst = max((one.difference for one in own if one.difference is not None), default=None)
        bad = len([one for one in own if one.error])
        yield f"| {part} | {len(own)} | {bad} | {'-' if worst is None else format(worst, '.1e')} |"
    if failed:
        yield from ("", "## Failures", "")
        yield from (f"- {one.what}: {one.error}" for one in failed)
    if timed := [row for row in rows if "error" not in row]:
        yield from ("", "## Times", "", "| pool | forward + backward, ms | x max | memory |", "|---|---|---|---|")
        for row in timed:
            memory = "-" if row["extra_memory"] is None else f"{row['extra_memory']:.2f}"
            yield f"| {row['pool']} | {row['total_ms']:.2f} | {row['multiple']:.2f} | {memory} |"


if __name__ == "__main__":
    sys.exit(main())
