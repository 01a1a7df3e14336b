"""What whole nets cost with one pool or another: interleaved timings as multiples of a baseline net, memory, FLOPs.

Run as a program, it is the fresh process in which the memory of one net is measured, see :func:`resident_growth`.
"""

import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.measure.cost import cost
from poolbench.models.sites import Trunk, first_of, is_site
from poolbench.records.speeds import quartiles
from poolbench.training.process import peak_memory

FORWARD, TRAIN = "forward", "train"
COSTS = ("memory_bytes", "forward_flops", "pool_flops", "parameters", "pool_bytes")

Task = tuple[str, int]  # FORWARD or TRAIN, and the number of images


@dataclass(frozen=True)
class Net:
    """A net that is measured.

    Args:
        label: of its pool; nets of one group are compared, and have one label each.
        group: what it shares with the nets that it is compared with, in words.
        make: builds it, the same each time. Must be picklable for the memory to be measured on the CPU.
        size: of its images ``(H, W)`` in pixels.
        num_classes: of the labels.
        channels_last: memory format of its images, as its training has them.
    """

    label: str
    group: str
    make: Callable[[], Trunk]
    size: tuple[int, int]
    num_classes: int
    channels_last: bool = True


@dataclass(frozen=True)
class NetSetting:
    """How nets are measured: ``batches`` of images, ``seconds`` that each timing lasts at least, ``threads`` of the
    CPU, and how many ``rounds`` of timings there are."""

    batches: tuple[int, ...] = (1, 128)
    rounds: int = 7
    seconds: float = 0.05
    threads: int = 1
    device: str = "cpu"

    @property
    def largest(self) -> int:
        """The batch that is trained on."""
        return max(self.batches)

    @property
    def tasks(self) -> list[Task]:
        """What is timed."""
        return [*((FORWARD, batch) for batch in sorted(set(self.batches))), (TRAIN, self.largest)]


def measure_nets(
    nets: Sequence[Net],
    baseline: str,
    setting: NetSetting,
    memory: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Measure ``nets`` against each other, as multiples of the net of their group with the label ``baseline``.

    In every round each task is timed once with each net, in an order that changes from round to round, so that what
    else the machine does meets all alike and no net always follows the same one. Ratios are taken within a round: they
    are what counts. A net that fails on its images is reported with its error, and the others go on.

    Returns: for each net ``forward`` (a list, by batch) and ``train``, each with ``batch``, ``ms`` (median of a pass),
    ``quartiles_ms``, ``rounds_ms``, ``ratio``, ``ratio_quartiles``, ``ratio_rounds``; ``images_per_second`` (forward,
    largest batch) and its ``_quartiles``; ``memory_bytes`` (peak of a training pass at the largest batch beyond what
    was in use before it; None where it cannot be read), ``forward_flops``, ``pool_flops``, ``parameters``,
    ``pool_bytes``, each with its ``_ratio`` (None where the baseline's is 0, or a pool
    says none of its own, see :func:`poolbench.measure.cost.cost`); or ``error``.

    Raises: ValueError when a baseline is missing or fails, or a net cannot be built.
    """
    bases = [_baseline_of(net, nets, baseline) for net in nets]
    torch.set_num_threads(setting.threads)
    cases: dict[int, _Case] = {}
    errors: dict[int, str] = {}
    for number, net in enumerate(nets):
        progress(f"{net.label}: warming up")
        case = _Case(net, setting)  # a net that cannot be built is a mistake of the command, so it ends it
        try:
            for task in setting.tasks:
                case.time(task)
            cases[number] = case
        except Exception as error:
            errors[number] = accelerator.missing(error) or f"{type(error).__name__}: {error}".partition("\n")[0]
    for number in sorted(set(bases) & set(errors)):
        raise ValueError(f"the baseline {nets[number].label!r} ({nets[number].group}) fails: {errors[number]}")
    seconds = _in_turn(cases, setting, progress)
    for number, case in cases.items():
        if memory:
            progress(f"{nets[number].label}: memory")
            case.costs["memory_bytes"] = (
                case.peak_on_accelerator() if case.beside_cpu else resident_growth(nets[number], setting)
            )
    return [
        {"error": errors[number]}
        if number in errors
        else {
            **_times(seconds[number], seconds[base], setting),
            **_costs(cases[number].costs, cases[base].costs),
        }
        for number, base in enumerate(bases)
    ]


def _baseline_of(net: Net, nets: Sequence[Net], baseline: str) -> int:
    """Number of the net that ``net`` is compared with."""
    found = [i for i, other in enumerate(nets) if other.group == net.group and other.label == baseline]
    if not found:
        known = ", ".join(dict.fromkeys(other.label for other in nets if other.group == net.group))
        raise ValueError(f"the baseline {baseline!r} is not among the pools of {net.group}: {known}")
    return found[0]


def _in_turn(
    cases: "dict[int, _Case]", setting: NetSetting, progress: Callable[[str], None]
) -> dict[int, dict[Task, list[float]]]:
    """Seconds of each task of each net, a number a round."""
    seconds: dict[int, dict[Task, list[float]]] = {number: {task: [] for task in setting.tasks} for number in cases}
    numbers = list(cases)
    for number in range(setting.rounds):
        progress(f"round {number + 1} of {setting.rounds}")
        order = [numbers[place] for place in turns(len(numbers), number)]
        for task in setting.tasks:  # outside: a net and its baseline are then timed soon after each other
            for i in order:
                seconds[i][task].append(cases[i].time(task))
    return seconds


def turns(count: int, number: int) -> list[int]:
    """Order of ``count`` nets in round ``number``: rows of a Latin square in which each follows each other equally
    often (Williams, Australian Journal of Scientific Research 1949), which takes two squares for an odd count."""
    both_ways = bool(count % 2)
    shift = number // 2 if both_ways else number
    first = [(place + 1) // 2 if place % 2 else (count - place // 2) % count for place in range(count)]
    row = [(place + shift) % count for place in first]
    return row[::-1] if both_ways and number % 2 else row


class _Case:
    """A net on its device, and what it costs by counting."""

    def __init__(self, net: Net, setting: NetSetting):
        self.net, self.setting = net, setting
        model = net.make()
        self.costs: dict[str, int | None] = {
            "memory_bytes": None,
            **cost(model, net.size),
            "pool_bytes": pool_bytes(model, net.size),
        }
        self.model = model.to(setting.device)
        self.beside_cpu = setting.device != "cpu"
        self.batches = {batch: _batch(net, batch, setting.device) for batch in setting.batches}

    def time(self, task: Task) -> float:
        """Seconds of one pass: forward alone, or of training, forward and backward; the mean of as many as fill the
        setting's seconds."""
        kind, batch = task
        images, labels = self.batches[batch]
        self.model.train(kind == TRAIN)
        spent, passes = 0.0, 0
        with torch.set_grad_enabled(kind == TRAIN):
            while spent < self.setting.seconds or not passes:
                start = self._now()
                if kind == TRAIN:
                    self.model.loss(images, labels)[0].backward()
                else:
                    self.model(images)
                spent += self._now() - start
                passes += 1
                self.model.zero_grad(set_to_none=True)
        return spent / passes

    def peak_on_accelerator(self) -> int | None:
        """Most bytes that the allocator gave out at once in a training pass, beyond those in use before it; None where
        the device does not count them."""
        if not accelerator.counts_memory(self.setting.device):
            return None
        images, labels = self.batches[self.setting.largest]
        self.model.train()
        peak = accelerator.growth(self.setting.device, lambda: self.model.loss(images, labels)[0].backward())
        self.model.zero_grad(set_to_none=True)
        return peak

    def _now(self) -> float:
        accelerator.synchronize(self.setting.device)
        return time.perf_counter()


def _batch(net: Net, batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Random images ``(N, 3, H, W)`` and labels ``(N,)``, the same for all nets that take such."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, *net.size, generator=generator)
    labels = torch.randint(net.num_classes, (batch,), generator=generator)
    layout = torch.channels_last if net.channels_last else torch.contiguous_format
    return images.to(device, memory_format=layout), labels.to(device)


def pool_bytes(model: nn.Module, size: tuple[int, int]) -> int:
    """Bytes that the pools at the sites of ``model`` take in and give out for one float32 image of ``size``."""
    moved = 0

    def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        nonlocal moved
        moved += 4 * (first_of(args, kwargs).numel() + output.numel())

    handles = [m.register_forward_hook(add, with_kwargs=True) for m in model.modules() if is_site(m)]
    was_training = model.training
    model.eval()  # no statistic may move
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(torch.zeros(1, 3, *size))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return moved


def resident_growth(net: Net, setting: NetSetting) -> int | None:
    """Bytes by which a training pass at the largest batch makes a fresh process grow at its peak.

    Fresh, since what a process has held once it seldom gives back. None where the system does not say, or the process
    died, as of too little memory.
    """
    # glibc gives large tensors back at once then. Else the peak has gaps between tensors in it, other ones each time:
    # 146 to 165 MB for one net, and 103.6 to 103.7 MB so. A training that keeps its memory grows by as much more.
    unbroken = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    environment = {**os.environ, **unbroken, "PYTHONPATH": os.pathsep.join(sys.path)}
    # -P: the working folder stands where it stands here, not before everything else.
    command = [sys.executable, "-P", "-m", "poolbench.measure.net_speed"]
    done = subprocess.run(command, input=pickle.dumps((net, setting)), capture_output=True, env=environment)
    try:
        return json.loads(done.stdout.splitlines()[-1])["bytes"]  # a net of the user's own may print before
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _grow() -> None:
    """The fresh process of :func:`resident_growth`."""
    net, setting = pickle.loads(sys.stdin.buffer.read())
    torch.set_num_threads(setting.threads)
    # The code that every net runs is read into memory at its first use, some 10 MB: no net's own.
    usual = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    nn.functional.cross_entropy(usual(torch.randn(2, 3, 6, 6)), torch.tensor([0, 1])).backward()
    model = net.make().train()
    images, labels = _batch(net, setting.largest, "cpu")
    with suppress(OSError):  # a peak of the imports must not hide the net's
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS") or peak_memory(torch.device("cpu"))
    model.loss(images, labels)[0].backward()
    # Linux lets a process begin with the ru_maxrss of the one that started it; this peak is its own.
    after = _status("VmHWM") or peak_memory(torch.device("cpu"))
    print(json.dumps({"bytes": None if before is None or after is None else max(0, after - before)}))


def _status(name: str) -> int | None:
    """A number of bytes that Linux tells of this process, else None."""
    with suppress(OSError):
        if match := re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), flags=re.M):
            return 1024 * int(match[1])
    return None


def _times(
    own: dict[Task, list[float]], base: dict[Task, list[float]], setting: NetSetting
) -> dict[str, list[dict[str, Any]] | dict[str, Any] | float | list[float]]:
    rows = {task: {"batch": task[1], **_timing(own[task], base[task])} for task in setting.tasks}
    rates = [setting.largest / seconds for seconds in own[FORWARD, setting.largest]]
    return {
        "forward": [row for (kind, _), row in rows.items() if kind == FORWARD],
        "train": rows[TRAIN, setting.largest],
        "images_per_second": statistics.median(rates),
        "images_per_second_quartiles": quartiles(rates),
    }


def _timing(own: list[float], base: list[float]) -> dict[str, Any]:
    milliseconds = [1e3 * seconds for seconds in own]
    ratios = [one / other for one, other in zip(own, base, strict=True)]
    return {
        "ms": statistics.median(milliseconds),
        "quartiles_ms": quartiles(milliseconds),
        "rounds_ms": milliseconds,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": quartiles(ratios),
        "ratio_rounds": ratios,
    }


def _costs(own: dict[str, int | None], base: dict[str, int | None]) -> dict[str, float | None]:
    ratios = {}
    for name in COSTS:
        value, unit = own[name], base[name]
        ratios[f"{name}_ratio"] = value / unit if value is not None and unit else None
    seen = {"seen_flops": own["seen_flops"]} if "seen_flops" in own else {}
    return {**{name: own[name] for name in COSTS}, **ratios, **seen}


if __name__ == "__main__":
    _grow()
