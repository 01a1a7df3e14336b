"""Learning rate schedules: functions of the share of training done, in [0, 1), to a factor of the learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

Schedule = Callable[[float], float]


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
    if any(not _is_number(mark) or not 0 < mark < 1 for mark in marks) or marks != sorted(marks):
        raise ValueError(f"schedule.milestones must be rising shares of the training in (0, 1), got {marks}")
    if not _is_number(gamma) or not 0 < gamma <= 1:
        raise ValueError(f"schedule.gamma must be in (0, 1], got {gamma!r}")
    risen = _warmed(warmup, 0.0, lambda done: 1.0)
    return lambda done: risen(done) * gamma ** sum(done >= mark for mark in marks)


def _warmed(warmup: float, final: float, falling: Schedule) -> Schedule:
    for option, value in (("warmup", warmup), ("final", final)):
        if not _is_number(value) or not 0 <= value < 1:
            raise ValueError(f"schedule.{option} must be a share in [0, 1), got {value!r}")
    return lambda done: done / warmup if done < warmup else falling((done - warmup) / (1 - warmup))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
