"""What a value may be, in code and in words, once for options of all kinds. Needs no torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value may be.

    Args:
        allowed: whether a value is.
        words: what is, as it stands after "must be" in a message: ``a number in [0, 1)``.
    """

    allowed: Callable[[Any], bool]
    words: str


def checked(option: str, value: Any, rule: Rule, error: type[ValueError] = ValueError) -> Any:
    """``value``, as ``rule`` allows it.

    Args:
        option: with what it belongs to, as a message begins: ``optimizer.lr``, ``pool LpPool2d: p``.
        error: what to raise.
    Raises: ValueError, or ``error``, naming the option, its value and what is allowed.
    """
    if not rule.allowed(value):
        raise error(f"{option} must be {rule.words}, got {value!r}")
    return value


def is_whole(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether ``value`` is a whole number from ``least`` to ``most``; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number; a truth value is none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return is_whole(value)  # which may be larger than any float


def whole(least: int, most: float = math.inf, more: str = "") -> Rule:
    """A whole number from ``least`` to ``most``; ``more`` is said on top."""
    words = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Rule(lambda value: is_whole(value, least, most), f"a whole number {words}{more}")


def sides(least: int, most: float = math.inf) -> Rule:
    """A whole number from ``least`` to ``most``, or two of them, for rows and columns."""
    one = whole(least, most)

    def allowed(value: Any) -> bool:
        several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
        return one.allowed(value) or (several and all(one.allowed(each) for each in value))

    return Rule(allowed, f"{one.words}, or two of them (rows, columns)")


def wholes(length: int | None = None) -> Rule:
    """A list of whole numbers of at least 1, of ``length`` if given, and never of none."""

    def allowed(value: Any) -> bool:
        several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
        return several and length in (None, len(value)) and all(is_whole(one, 1) for one in value)

    return Rule(allowed, f"a list of {'' if length is None else f'{length} '}numbers of at least 1")


def number(least: float = -math.inf, most: float = math.inf, open: bool = False) -> Rule:
    """A finite number from ``least`` to ``most``; with ``open`` neither of them."""
    if most < math.inf:
        words = f"a number {'between' if open else 'from'} {least:g} {'and' if open else 'to'} {most:g}"
    elif least > -math.inf:
        words = f"a number above {least:g}" if open else f"a number of at least {least:g}"
    else:
        words = "a finite number"
    return Rule(lambda value: is_number(value) and (least < value < most if open else least <= value <= most), words)


def share() -> Rule:
    """A number from 0 to below 1."""
    return Rule(lambda value: is_number(value) and 0 <= value < 1, "a number in [0, 1)")


def choice(*names: str) -> Rule:
    """One of some names."""
    return Rule(lambda value: isinstance(value, str) and value in names, f"{', '.join(names[:-1])} or {names[-1]}")


def one_of(*values: Any) -> Rule:
    """One of ``values`` of any types."""
    names = [str(one).lower() if isinstance(one, bool) else repr(one) for one in values]
    # By type too: 0 and 1 are no switches, and True is no number.
    return Rule(
        lambda value: any(type(value) is type(one) and value == one for one in values),
        " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names),
    )


def or_null(rule: Rule) -> Rule:
    """Null as well."""
    return Rule(lambda value: value is None or rule.allowed(value), f"null or {rule.words}")


TRUTH = Rule(lambda value: isinstance(value, bool), "true or false")
# Of a norm, whose limit is the maximum.
EXPONENT = Rule(lambda value: value == math.inf or (is_number(value) and value >= 1), "a number of at least 1")
PATH = Rule(lambda value: isinstance(value, str) and value != "", "a path")
