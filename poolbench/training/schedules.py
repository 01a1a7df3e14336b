"""Learning rate schedules: functions of the share of training done, in [0, 1), to a factor of the learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from poolbench.checks import Rule, checked, is_number, share

Schedule = Callable[[float], float]


def _are_milestones(marks: list[Any]) -> bool:
    return all(is_number(mark) and 0 < mark < 1 for mark in marks) and marks == sorted(marks)


_MILESTONES = Rule(_are_milestones, "rising shares of the training in (0, 1)")
_GAMMA = Rule(lambda value: is_number(value) and 0 < value <= 1, "a number in (0, 1]")


def cosine(warmup: float = 0.1, final: float = 0.0) -> Schedule:
    """Up in a line over the share ``warmup``, then down along half a cosine to ``final``.

    Raises: ValueError for shares outside their range.
    Source: Loshchilov and Hutter, ICLR 2017 (one cycle, without restarts).
    """
    return _warmed(warmup, final, lambda done: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def linear(warmup: float = 0.1, final: float = 0.0) -> Schedule:
    """Up in a line over the share ``warmup``, then down in a line to ``final``.

    Raises: ValueError for shares outside their range.
    """
    return _warmed(warmup, final, lambda done: final + (1 - final) * (1 - done))


def step(warmup: float = 0.0, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1) -> Schedule:
    """Constant, times ``gamma`` at each of ``milestones`` (shares of the whole training), after a ``warmup``.

    Raises: ValueError for shares outside their range.
    """
    marks = list(milestones) if isinstance(milestones, list | tuple) else [milestones]
    checked("schedule.milestones", marks, _MILESTONES)
    checked("schedule.gamma", gamma, _GAMMA)
    risen = _warmed(warmup, 0.0, lambda done: 1.0)
    return lambda done: risen(done) * gamma ** sum(done >= mark for mark in marks)


def _warmed(warmup: float, final: float, falling: Schedule) -> Schedule:
    checked("schedule.warmup", warmup, share())
    checked("schedule.final", final, share())
    return lambda done: done / warmup if done < warmup else falling((done - warmup) / (1 - warmup))
