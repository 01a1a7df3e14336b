"""What a value may be, in code and in words, once for options of all kinds. Needs no torch."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value may be.

    Args:
        allowed: whether a value is.
        words: what is, as it stands after "must be" in a message: ``a number in [0, 1)``.
    """

    allowed: Callable[[Any], bool]
    words: str


def is_whole(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether ``value`` is a whole number from ``least`` to ``most``; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number; a truth value is none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return is_whole(value)  # which may be larger than any float


def whole(least: int, more: str = "") -> Rule:
    """A whole number of at least ``least``; ``more`` is said on top."""
    return Rule(lambda value: is_whole(value, least), f"a whole number of at least {least}{more}")


def share(most: float | None = None) -> Rule:
    """A number from 0 to ``most``, or below 1."""
    if most is None:
        return Rule(lambda value: is_number(value) and 0 <= value < 1, "a number in [0, 1)")
    return Rule(lambda value: is_number(value) and 0 <= value <= most, f"a number from 0 to {most:g}")


def choice(*names: str) -> Rule:
    """One of some names."""
    return Rule(lambda value: isinstance(value, str) and value in names, f"{', '.join(names[:-1])} or {names[-1]}")


def or_null(rule: Rule) -> Rule:
    """Null as well."""
    return Rule(lambda value: value is None or rule.allowed(value), f"null or {rule.words}")


TRUTH = Rule(lambda value: isinstance(value, bool), "true or false")
PATH = Rule(lambda value: isinstance(value, str) and value != "", "a path")
