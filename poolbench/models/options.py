"""Checks of the options of models, with errors that name the model, the option and what is allowed."""

import math
from collections.abc import Sequence
from typing import Any


def choice(model: str, option: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """``value`` if it is one of ``allowed``. Raises: ValueError."""
    # By type too: 0 and 1 are no switches, and True is no number.
    if not any(type(value) is type(one) and value == one for one in allowed):
        names = [str(one).lower() if isinstance(one, bool) else repr(one) for one in allowed]
        text = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        raise ValueError(f"model {model}: {option} must be {text}, got {value!r}")
    return value


def whole(model: str, option: str, value: Any, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least``. Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"model {model}: {option} must be a whole number of at least {least}, got {value!r}")
    return value


def numbers(model: str, option: str, value: Any, length: int | None = None) -> Sequence[int]:
    """``value`` if it is a list of whole numbers of at least 1, of ``length`` if given. Raises: ValueError."""
    items = value if isinstance(value, Sequence) else ()
    if (
        not items
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in items)
        or length not in (None, len(items))
    ):
        kind = "numbers" if length is None else f"{length} numbers"
        raise ValueError(f"model {model}: {option} must be a list of {kind} of at least 1, got {value!r}")
    return value


def at_least(model: str, option: str, value: Any, least: float) -> float:
    """``value`` as a float if it is a finite number of at least ``least``. Raises: ValueError."""
    if not _finite(value) or value < least:
        raise ValueError(f"model {model}: {option} must be a number of at least {least:g}, got {value!r}")
    return float(value)


def rate(model: str, option: str, value: Any) -> float:
    """``value`` as a float if it is a number in [0, 1). Raises: ValueError."""
    if not _finite(value) or not 0 <= value < 1:
        raise ValueError(f"model {model}: {option} must be a number of at least 0 and below 1, got {value!r}")
    return float(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
