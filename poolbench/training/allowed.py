"""What the options of our optimisers may be, told without torch, since a plan asks too."""

import math
from typing import Any


def check_optimizer(**options: Any) -> None:
    """See that the options of an optimiser of ours, those that are given, are allowed.

    Raises: ValueError naming the option, its value and what is allowed.
    """
    for option, value in options.items():
        allowed, words = True, ""
        if option.endswith("lr"):
            allowed, words = _number(value) and value > 0, "a number above 0"
        elif option.endswith("momentum"):
            allowed, words = _number(value) and 0 <= value < 1, "a number in [0, 1)"
        elif option.endswith("weight_decay"):
            allowed, words = _number(value) and value >= 0, "a number of at least 0"
        elif option in ("nesterov", "rescale"):
            allowed, words = isinstance(value, bool), "true or false"
        elif option == "betas":
            pair = isinstance(value, list | tuple) and len(value) == 2
            allowed, words = pair and all(_number(beta) and 0 <= beta < 1 for beta in value), "two numbers in [0, 1)"
        elif option == "steps":
            whole = isinstance(value, int) and not isinstance(value, bool)
            allowed, words = whole and 1 <= value < 100, "a whole number from 1 to 99"
        if not allowed:
            raise ValueError(f"optimizer.{option} must be {words}, got {value!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
