"""What the probes of a cell ask for, and under which names the answers stand in its record."""

from collections.abc import Mapping
from typing import Any

from poolbench.checks import Rule, checked, choice, number, or_null, whole
from poolbench.registry import nearest

BORDERS = ("reflect", "zeros", "wrap")
FLIPS = ("horizontal", "vertical")
# Option -> the word for it in the names of a record; one amount of it is one reading of the test set.
TRANSFORMS = {
    "sizes": "size",
    **{name: name for name in ("scale", "translate_x", "translate_y", "rotate", "flip")},
}
LISTS = ("sizes", "draws", *(option for option in TRANSFORMS if option != "sizes"))
DEFAULTS: dict[str, Any] = {**{name: [] for name in LISTS}, "border": "reflect", "samples": None}
_BORDERED = ("scale", "translate_x", "translate_y", "rotate")
_SHARES = ("test_accuracy_", "agreement_")


def amount_text(amount: float | str) -> str:
    """An amount as the names of a record have it: ``2.5``, ``-10``, ``horizontal``."""
    return amount if isinstance(amount, str) else f"{amount + 0.0:g}"  # the sum makes a 0 of -0.0


def names(probe: Mapping[str, Any]) -> list[str]:
    """The names of all that ``probe`` adds to a record, as ``test_accuracy_rotate_-10`` and ``agreement_rotate``."""
    found = []
    for option, word in TRANSFORMS.items():
        amounts = probe.get(option) or []
        for place in [*(f"{word}_{amount_text(amount)}" for amount in amounts), *([word] if amounts else [])]:
            found += [f"{share}{place}" for share in _SHARES]
    return found + [f"test_accuracy_draws_{amount_text(amount)}" for amount in probe.get("draws") or []]


def is_share(name: str) -> bool:
    """Whether a record's number of this name is a probe's."""
    return name.startswith(_SHARES)


def counting(probe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``probe`` that change what is read; empty when nothing is."""
    asked = {name: probe[name] for name in LISTS if probe.get(name)}
    other = {k: v for k, v in probe.items() if k not in DEFAULTS}  # of another version, or somebody's own
    if asked:
        other |= {k: probe[k] for k in ("border", "samples") if k in probe and probe[k] != DEFAULTS[k]}
        if not any(name in asked for name in _BORDERED):
            other.pop("border", None)
    return asked | other


def probed_text(probe: Any) -> str:
    """What is probed, for people: ``probes of size, rotate``."""
    asked = counting(probe) if isinstance(probe, Mapping) else {}
    words = [TRANSFORMS.get(name, name) for name in LISTS if name in asked]
    return f"probes of {', '.join(words)}" if words else "no probes"


def completed(probe: Mapping[str, Any]) -> dict[str, Any]:
    """``probe`` with the defaults of what it does not say.

    Raises: ValueError naming the option, its value and what is allowed.
    """
    for option, value in probe.items():
        if option not in ALLOWED:
            raise ValueError(f"unknown option 'probe.{option}'.{nearest(option, list(ALLOWED))}")
        checked(f"probe.{option}", value, ALLOWED[option])
    return {**DEFAULTS, **probe}


def _list_of(rule: Rule, words: str) -> Rule:
    """A list of what ``rule`` allows, in which no two amounts would have one name in the record."""

    def allowed(value: Any) -> bool:
        if not isinstance(value, list) or not all(map(rule.allowed, value)):
            return False
        return len({amount_text(amount) for amount in value}) == len(value)

    return Rule(allowed, words)


_TWICE = "none twice (six digits count)"
_PIXELS = f"a list of pixels from -1000 to 1000, as [-2.5, 2.5], {_TWICE}"
_SHIFTS = number(-1000, 1000)
ALLOWED: dict[str, Rule] = {
    "sizes": _list_of(whole(1, 10_000), "a list of sides from 1 to 10000 whole pixels, as [24, 32], none twice"),
    "draws": _list_of(whole(1, 1000), "a list of whole numbers from 1 to 1000, as [1, 4, 12], none twice"),
    "scale": _list_of(number(0.05, 20), f"a list of factors from 0.05 to 20, as [0.8, 1.25], {_TWICE}"),
    "translate_x": _list_of(_SHIFTS, _PIXELS),
    "translate_y": _list_of(_SHIFTS, _PIXELS),
    "rotate": _list_of(number(-360, 360), f"a list of degrees from -360 to 360, as [-10, 10], {_TWICE}"),
    "flip": _list_of(choice(*FLIPS), f"a list of {' and '.join(FLIPS)}, none twice"),
    "border": choice(*BORDERS),
    "samples": or_null(whole(1)),
}
