"""The space that a search draws from: parameters with their ranges, and points in it that are the same every time."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from poolbench.configuration import ConfigError
from poolbench.overrides import parse, refuse_cut

Point = tuple[str, ...]  # a value for each parameter, as it would stand after the = of an override

GRID_STEPS = 5
_EDGE = 0.1  # the outer tenth of a range counts as its edge
_DIGITS = 4  # significant ones of a drawn number: more would only make names longer
_RANGES = ("log", "uniform", "int", "logint")
_FORMS = "log(0.01,1.0), uniform(0,0.1), int(1,5), logint(8,512), choice(a,b) or a,b"


@dataclass(frozen=True)
class Parameter:
    """An option that is searched.

    Args:
        option: as ``optimizer.lr``.
        text: its range as the user wrote it.
        kind: ``log``, ``uniform``, ``int``, ``logint`` or ``choice``.
        low, high: the range's ends, both within it.
        steps: values that a grid takes of the range.
        choices: the values of a ``choice``, each as it would stand after the = of an override.
    """

    option: str
    text: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    steps: int = GRID_STEPS
    choices: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """How many values there are; None for a range of real numbers."""
        if self.kind == "choice":
            return len(self.choices)
        return int(self.high - self.low) + 1 if self.kind in ("int", "logint") else None

    def at(self, share: float) -> str:
        """The value at ``share`` of the range, from 0 to 1."""
        if self.kind == "choice":
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        low, high = self.low, self.high
        if self.kind == "int":  # each whole number has the same share
            return str(min(int(low + share * (high - low + 1)), int(high)))
        if self.kind == "logint":
            value = math.exp(math.log(low) + share * (math.log(high + 1) - math.log(low)))
            return str(min(int(value + 1e-9), int(high)))  # exp(log(8)) is a little less than 8
        value = low + share * (high - low) if self.kind == "uniform" else low * (high / low) ** share
        return self.rounded(value)

    def rounded(self, value: float) -> str:
        """A real number of the range, in a few digits, as an override has it."""
        return repr(min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high))

    def grid(self) -> list[str]:
        """The values that a grid takes: all choices, or evenly spaced ones with both ends among them."""
        if self.kind == "choice":
            return list(self.choices)
        if self.size is not None and self.size <= self.steps:
            return [str(value) for value in range(int(self.low), int(self.high) + 1)]
        # An end of whole numbers is reached by the share below 1 that still belongs to it.
        return list(dict.fromkeys(self.at(step / (self.steps - 1)) for step in range(self.steps)))

    def edge(self, value: str) -> str | None:
        """``lower`` or ``upper`` when ``value`` lies at that edge: a better one may lie beyond."""
        if self.kind == "choice":
            numbers = [number for choice in self.choices if (number := _number(choice)) is not None]
            if len(numbers) < max(3, len(self.choices)):
                return None  # of words, or of two, each is at an edge
            own = float(value)
            return "lower" if own == min(numbers) else "upper" if own == max(numbers) else None
        scale = math.log if self.kind in ("log", "logint") else float
        share = (scale(float(value)) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return "lower" if share <= _EDGE else "upper" if share >= 1 - _EDGE else None


def read_parameter(text: str) -> Parameter:
    """A parameter as given to ``--param``: ``optimizer.lr=log(0.01,1.0)``. Raises: ConfigError."""
    refuse_cut([text])
    option, equals, written = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", option):
        raise ConfigError(f"--param {text!r} is not OPTION=RANGE; ranges are {_FORMS}")
    call = re.fullmatch(r"(\w+)\((.*)\)", written)
    if call and call[1] in _RANGES:
        return _range(text, option, written, call[1], [part.strip() for part in call[2].split(",")])
    try:
        override = parse(f"{option}={written}")
    except ConfigError:
        override = None
    if override is None or not override.is_sweep_override() or not (override.is_choice_sweep()):
        raise ConfigError(f"--param {text!r}: {written!r} is no range; ranges are {_FORMS}")
    choices = tuple(dict.fromkeys(override.sweep_string_iterator()))
    numbers = [_number(choice) for choice in choices]
    if len(choices) < 2 or len({choice if n is None else n for choice, n in zip(choices, numbers, strict=True)}) < len(
        choices
    ):
        raise ConfigError(f"--param {text!r} needs at least two values, all of them different")
    return Parameter(option, written, "choice", choices=choices)


def random_points(parameters: Sequence[Parameter], trials: int, seed: int) -> list[Point]:
    """``trials`` different points, spread evenly; more of them begin with the same ones. All there are, if fewer.

    They follow an additive recurrence (Roberts 2018) from a start drawn by ``seed``: few points leave no large gaps.
    """
    size = size_of(parameters)
    if size is not None and size <= trials:
        return list(itertools.product(*(_values(parameter) for parameter in parameters)))
    found: dict[Point, None] = {}
    for shares in itertools.islice(_recurrence(len(parameters), seed), 1000 * trials):
        found[tuple(p.at(share) for p, share in zip(parameters, shares, strict=True))] = None
        if len(found) == trials:
            return list(found)
    raise ConfigError(f"{trials} trials are more than the ranges hold in {_DIGITS} digits: give fewer --trials")


def grid_points(parameters: Sequence[Parameter]) -> list[Point]:
    """All combinations of each parameter's :meth:`Parameter.grid`."""
    return list(itertools.product(*(parameter.grid() for parameter in parameters)))


def _range(text: str, option: str, written: str, kind: str, parts: list[str]) -> Parameter:
    numbers = [_number(part) for part in parts]
    if len(parts) not in (2, 3) or None in numbers:
        raise ConfigError(f"--param {text!r}: {kind} takes two numbers, and for a grid a number of steps as the third")
    low, high = numbers[0], numbers[1]
    if not low < high:
        raise ConfigError(f"--param {text!r}: the lower end must be below the upper one, got {parts[0]} and {parts[1]}")
    if kind in ("log", "logint") and low <= 0:
        raise ConfigError(f"--param {text!r}: a logarithmic range begins above 0, got {parts[0]}")
    if kind in ("int", "logint") and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"--param {text!r}: {kind} takes whole numbers, got {parts[0]} and {parts[1]}")
    steps = numbers[2] if len(parts) == 3 else float(GRID_STEPS)
    if not steps.is_integer() or steps < 2:
        raise ConfigError(f"--param {text!r}: the steps of a grid must be a whole number of at least 2, got {parts[2]}")
    return Parameter(option, written, kind, low, high, int(steps))


def _recurrence(dimensions: int, seed: int) -> Iterator[list[float]]:
    import numpy as np

    root = 2.0
    for _ in range(40):  # the root of x^(d+1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = [root ** -(axis + 1) for axis in range(dimensions)]
    start = np.random.default_rng(seed).random(dimensions)
    for number in itertools.count():
        yield [float((first + number * step) % 1) for first, step in zip(start, steps, strict=True)]


def size_of(parameters: Sequence[Parameter]) -> int | None:
    """How many points there are; None where a range of real numbers is among the parameters."""
    sizes = [parameter.size for parameter in parameters]
    return None if None in sizes else math.prod(sizes)


def _values(parameter: Parameter) -> list[str]:
    if parameter.kind == "choice":
        return list(parameter.choices)
    return [str(value) for value in range(int(parameter.low), int(parameter.high) + 1)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
