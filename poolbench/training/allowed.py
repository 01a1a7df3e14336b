"""What the options of our optimisers may be, told without torch, since a plan asks too."""

from typing import Any

from poolbench.checks import TRUTH, Rule, checked, number, share, whole


def check_optimizer(**options: Any) -> None:
    """See that the options of an optimiser of ours, those that are given, are allowed.

    Raises: ValueError naming the option, its value and what is allowed.
    """
    for option, value in options.items():
        if (rule := _rule(option)) is not None:
            checked(f"optimizer.{option}", value, rule)


def _rule(option: str) -> Rule | None:
    """By the end of its name: one optimiser may have several learning rates."""
    for end, rule in _RULES.items():
        if option.endswith(end):
            return rule
    return None


def _are_betas(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(share().allowed, value))


_RULES = {
    "lr": number(0, open=True),
    "momentum": share(),
    "weight_decay": number(0),
    "nesterov": TRUTH,
    "rescale": TRUTH,
    "betas": Rule(_are_betas, "two numbers in [0, 1)"),
    "steps": whole(1, 99),
}
