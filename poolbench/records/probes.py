"""What the probes of a cell ask for, and under which names the answers stand in its record."""

import re
from collections.abc import Mapping
from typing import Any

from poolbench.checks import TRUTH, Rule, checked, choice, number, or_null, whole
from poolbench.registry import nearest

BORDERS = ("reflect", "zeros", "wrap")
FLIPS = ("horizontal", "vertical")
CORRUPTIONS = ("noise", "blur", "contrast", "brightness", "jpeg", "pixelate", "fog", "elastic")
# Option -> the word for it in the names of a record; one amount of it is one reading of the test set.
TRANSFORMS = {
    "sizes": "size",
    **{name: name for name in ("scale", "translate_x", "translate_y", "rotate", "flip")},
}
LISTS = (
    "sizes",
    "draws",
    *(option for option in TRANSFORMS if option != "sizes"),
    "consistency",
    "site_shifts",
    "corruptions",
)
FLAGS = ("features", "calibration", "information")
DEFAULTS: dict[str, Any] = {
    **{name: [] for name in LISTS},
    **dict.fromkeys(FLAGS, False),
    "severities": [1, 2, 3, 4, 5],
    "border": "reflect",
    "samples": None,
}
# Options that count only where others ask for something that they change.
_ONLY_WITH = {
    "border": ("scale", "translate_x", "translate_y", "rotate"),
    "severities": ("corruptions",),
    "features": tuple(TRANSFORMS),
}
_SHARES = ("test_accuracy_", "agreement_")
# Numbers of probes that are shares by another name.
_SHARE = re.compile(
    r"(circular_)?consistency(_[\d.]+)?|calibration_error|site_\d+_(explained_variance|aliased|gradient_share)"
)
# Names of all that a probe may add to a record.
_OF_PROBE = re.compile(
    r"(test_accuracy|agreement|distance)_.+|(circular_)?consistency(_.+)?|(untrained_)?site_\d+_.+|calibration_error"
)
_MOST_SITES = 32  # that names are told for beforehand


def amount_text(amount: float | str) -> str:
    """An amount as the names of a record have it: ``2.5``, ``-10``, ``horizontal``."""
    return amount if isinstance(amount, str) else f"{amount + 0.0:g}"  # the sum makes a 0 of -0.0


def names(probe: Mapping[str, Any]) -> list[str]:
    """The names of all that ``probe`` may add to a record, as ``test_accuracy_rotate_-10`` and ``agreement_rotate``.

    A net has numbers of as many sites as it has.
    """
    found = []
    for option, word in TRANSFORMS.items():
        for place in _with_mean(word, probe.get(option)):
            found += [f"{share}{place}" for share in _SHARES]
            found += [f"distance_{place}"] if probe.get("features") else []
    found += [f"test_accuracy_draws_{amount_text(amount)}" for amount in probe.get("draws") or []]
    for word in ("consistency", "circular_consistency"):
        found += _with_mean(word, probe.get("consistency"))
    found += ["calibration_error"] if probe.get("calibration") else []
    kinds, severities = probe.get("corruptions") or [], probe.get("severities") or DEFAULTS["severities"]
    for kind in kinds:
        found += [f"test_accuracy_{place}" for place in _with_mean(kind, severities)]
    found += ["test_accuracy_corrupted"] if kinds else []
    for site in range(1, _MOST_SITES + 1):
        what = ["explained_variance", "psnr", "ssim", "aliased", "gradient_share"] if probe.get("information") else []
        found += [f"site_{site}_{one}" for one in what]
        for amount in probe.get("site_shifts") or []:
            for who in ("site", "untrained_site"):
                found += [f"{who}_{site}_{one}_{amount_text(amount)}" for one in SITE_SHIFT]
    return found


SITE_SHIFT = ("moved_before", "moved_after", "removed", "equivariance_error")  # of one site and one shift


def _with_mean(word: str, amounts: Any) -> list[str]:
    """The names of each amount, and of their mean; none without any."""
    return [*(f"{word}_{amount_text(amount)}" for amount in amounts), word] if amounts else []


def is_of_probe(name: str) -> bool:
    """Whether a record's number of this name was read by a probe."""
    return _OF_PROBE.fullmatch(name) is not None


def is_share(name: str) -> bool:
    """Whether a record's number of this name is a probe's, and a fraction from 0 to 1."""
    return name.startswith(_SHARES) or _SHARE.fullmatch(name) is not None


def counting(probe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``probe`` that change what is read; empty when nothing is."""
    asked = {name: probe[name] for name in (*LISTS, *FLAGS) if probe.get(name)}
    if not any(name in asked for name in _ONLY_WITH["features"]):
        asked.pop("features", None)
    other = {k: v for k, v in probe.items() if k not in DEFAULTS}  # of another version, or somebody's own
    if asked:
        other |= {k: probe[k] for k in ("border", "severities", "samples") if k in probe and probe[k] != DEFAULTS[k]}
        for option in ("border", "severities"):
            if not any(name in asked for name in _ONLY_WITH[option]):
                other.pop(option, None)
    return asked | other


def probed_text(probe: Any) -> str:
    """What is probed, for people: ``probes of size, rotate``."""
    asked = counting(probe) if isinstance(probe, Mapping) else {}
    words = [TRANSFORMS.get(name, name.replace("_", " ")) for name in (*LISTS, *FLAGS) if name in asked]
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


def _not_empty(rule: Rule) -> Rule:
    return Rule(lambda value: rule.allowed(value) and len(value) > 0, rule.words)


_TWICE = "none twice (six digits count)"
_PIXELS = f"a list of pixels from -1000 to 1000, as [-2.5, 2.5], {_TWICE}"
_SHIFTS = number(-1000, 1000)
_HALVES = Rule(lambda value: number(0.5, 1000).allowed(value) and 2 * value == int(2 * value), "whole or half pixels")
ALLOWED: dict[str, Rule] = {
    "sizes": _list_of(whole(1, 10_000), "a list of sides from 1 to 10000 whole pixels, as [24, 32], none twice"),
    "draws": _list_of(whole(1, 1000), "a list of whole numbers from 1 to 1000, as [1, 4, 12], none twice"),
    "scale": _list_of(number(0.05, 20), f"a list of factors from 0.05 to 20, as [0.8, 1.25], {_TWICE}"),
    "translate_x": _list_of(_SHIFTS, _PIXELS),
    "translate_y": _list_of(_SHIFTS, _PIXELS),
    "rotate": _list_of(number(-360, 360), f"a list of degrees from -360 to 360, as [-10, 10], {_TWICE}"),
    "flip": _list_of(choice(*FLIPS), f"a list of {' and '.join(FLIPS)}, none twice"),
    "consistency": _list_of(_HALVES, "a list of largest shifts, whole or half pixels from 0.5, as [3], none twice"),
    "site_shifts": _list_of(_HALVES, "a list of shifts, whole or half pixels from 0.5, as [0.5, 1], none twice"),
    "corruptions": _list_of(choice(*CORRUPTIONS), f"a list of {', '.join(CORRUPTIONS)}, none twice"),
    **dict.fromkeys(FLAGS, TRUTH),
    "severities": _not_empty(_list_of(whole(1, 5), "a list of whole numbers from 1 to 5, as [1, 3, 5], none twice")),
    "border": choice(*BORDERS),
    "samples": or_null(whole(1)),
}
