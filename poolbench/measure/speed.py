"""How fast operators are: interleaved timings of forward and backward, as multiples of torch's own max pooling and of
what memory allows."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from poolbench import accelerator

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What operators are timed on: maps ``(N, C, H, W)``, their memory format, threads of the CPU."""

    shape: tuple[int, int, int, int]
    memory_format: str = "channels_last"
    threads: int = 1
    device: str = "cpu"

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else ""
        return f"{self.shape}, {self.memory_format}, {self.device}{threads}"


@dataclass
class Timing:
    """Seconds of one operator, a number a round, and of the unit (torch's max pooling) timed right before it."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    unit: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)  # one pass over the map: read and written
    extra_memory: int | None = 0
    error: str | None = None


def time_operators(
    operators: Mapping[str, Operator],
    setting: Setting,
    rounds: int = 7,
    seconds: float = 0.02,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Time ``operators`` (name -> module or function of a map) against each other, in turn, for ``rounds`` rounds.

    In every round each operator is timed once, right after torch's ``max_pool2d`` on the same values in channels_last
    and a copy of the map, so that what else the machine does meets all alike; small maps are repeated until a timing
    takes about ``seconds``. An operator that fails is reported with its error, and the others go on.

    Returns: name -> ``forward_ms, backward_ms, total_ms`` (medians), ``quartiles_ms``, ``multiple`` (median over
    rounds of the time over that of max pooling), ``multiple_quartiles``, ``floors`` (multiple of the time in which
    memory could be read and written once: input, output and the gradients of both, at the speed of the copy),
    ``extra_memory`` (largest number of bytes in use at once beyond the input, the output and their gradients, over
    the input's bytes; None where the device does not count them), or ``error``.
    """
    torch.set_num_threads(setting.threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(setting.shape, generator=generator).to(setting.device)
    unit = _Case(lambda x: F.max_pool2d(x, 2), x.to(memory_format=torch.channels_last), seconds)
    map = x.to(memory_format=FORMATS[setting.memory_format])
    target = torch.empty_like(map)
    cases: dict[str, _Case] = {}
    timings = {name: Timing() for name in operators}
    for name, operator in operators.items():
        progress(name)
        try:
            if isinstance(operator, nn.Module):
                operator = operator.to(setting.device).to(memory_format=FORMATS[setting.memory_format]).train()
            case = _Case(operator, map, seconds)
            timings[name].extra_memory = case.extra_memory()
            cases[name] = case
        except Exception as error:
            timings[name].error = accelerator.missing(error) or f"{type(error).__name__}: {error}".partition("\n")[0]
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name, case in cases.items():
            timing = timings[name]
            timing.unit.append(sum(unit.time()))
            timing.copy.append(_timed(lambda: target.copy_(map), setting.device, seconds / 4))
            forward, backward = case.time()
            timing.forward.append(forward)
            timing.backward.append(backward)
    return {
        name: {"error": timing.error} if timing.error else _summary(timing, cases[name], map)
        for name, timing in timings.items()
    }


class _Case:
    """An operator with the map and the gradient it is timed on."""

    def __init__(self, operator: Operator, map: Tensor, seconds: float):
        self.operator = operator
        self.x = map.detach().requires_grad_()
        self.device = map.device.type
        y = operator(self.x)
        self.gradient = torch.randn_like(y)
        y.backward(self.gradient)  # warm, and whatever is made at the first call is there
        self.output_bytes = y.numel() * y.element_size()
        del y
        self.repeats = 1
        self.repeats = max(1, min(1000, round(seconds / max(1e-6, sum(self.time())))))

    def time(self) -> tuple[float, float]:
        """Seconds of one forward and one backward pass."""
        forward = backward = 0.0
        for _ in range(self.repeats):
            self.x.grad = None
            start = _now(self.device)
            y = self.operator(self.x)
            middle = _now(self.device)
            y.backward(self.gradient)
            backward += _now(self.device) - middle
            forward += middle - start
            del y
        return forward / self.repeats, backward / self.repeats

    def extra_memory(self) -> int | None:
        """Peak of the bytes allocated in a forward and backward pass, less the output and the input's gradient; None
        where the device does not count them."""
        self.x.grad = None
        needed = self.output_bytes + self.x.numel() * self.x.element_size()
        if self.device != "cpu":
            if not accelerator.counts_memory(self.device):
                return None
            peak = accelerator.growth(self.device, lambda: self.operator(self.x).backward(self.gradient))
            return max(0, peak - needed)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports on its own start and stop
        with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.operator(self.x).backward(self.gradient)
        # The public list leaves out what is allocated inside of an operation.
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        used = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            used += event.nbytes()
            peak = max(peak, used)
        return max(0, peak - needed)


def _summary(timing: Timing, case: _Case, map: Tensor) -> dict[str, Any]:
    totals = [forward + backward for forward, backward in zip(timing.forward, timing.backward, strict=True)]
    multiples = [total / unit for total, unit in zip(totals, timing.unit, strict=True)]
    size = map.numel() * map.element_size()
    moved = 2 * (size + case.output_bytes)  # and the gradients of both
    floors = [total / (copy * moved / (2 * size)) for total, copy in zip(totals, timing.copy, strict=True)]
    return {
        "forward_ms": 1e3 * statistics.median(timing.forward),
        "backward_ms": 1e3 * statistics.median(timing.backward),
        "total_ms": 1e3 * statistics.median(totals),
        "quartiles_ms": [1e3 * value for value in _quartiles(totals)],
        "multiple": statistics.median(multiples),
        "multiple_quartiles": _quartiles(multiples),
        "floors": statistics.median(floors),
        "extra_memory": None if timing.extra_memory is None else timing.extra_memory / size,
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, high]


def _timed(function: Callable[[], Any], device: str, seconds: float) -> float:
    repeats, spent = 0, 0.0
    while spent < seconds or not repeats:
        start = _now(device)
        function()
        spent += _now(device) - start
        repeats += 1
    return spent / repeats


def _now(device: str) -> float:
    accelerator.synchronize(device)
    return time.perf_counter()


def settings(
    shapes: Sequence[tuple[int, int, int, int]], formats: Sequence[str], threads: Sequence[int], device: str = "cpu"
) -> Iterator[Setting]:
    """All combinations, the largest shape first."""
    for shape in sorted(shapes, reverse=True):
        for memory_format in formats:
            for count in threads if device == "cpu" else [1]:
                yield Setting(shape, memory_format, count, device)
