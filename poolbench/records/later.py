"""What was read of a trained cell later, by `poolbench probe`: members of its record, each named by what was asked."""

import math
import re
from collections.abc import Mapping
from typing import Any

from poolbench.checks import is_number
from poolbench.records.identity import digest
from poolbench.records.probes import counting, is_share

PATTERN = "probe-*.json"
# What is asked where a cell that was trained without its test set reads it after all, as the last of a race do. No
# table has the answer, since the result itself says that the test set had no part in it.
TEST: Mapping[str, Any] = {"test": True}
_NAME = re.compile(r"[A-Za-z_][\w.+\-]{0,199}")
_MOST_NUMBERS, _LARGEST = 20_000, 1e30


def file_of(probe: Mapping[str, Any]) -> str:
    """The file for the answers to ``probe``: one for each set of options that ask for something else."""
    return f"probe-{digest(counting(probe))}.json"


def wrong_later(members: Any) -> str | None:
    """Why ``members`` are no answers to probes, in one line; None if they are."""
    if not isinstance(members, list) or not all(isinstance(one, Mapping) for one in members):
        return "probes is not a list of mappings"
    for one in members:
        numbers = one.get("numbers")
        if not isinstance(one.get("probe"), Mapping) or not isinstance(numbers, Mapping):
            return "probes: each must have probe, its options, and numbers"
        if len(numbers) > _MOST_NUMBERS:
            return f"probes: {len(numbers):,} numbers, over {_MOST_NUMBERS:,}"
        for name, value in numbers.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                return f"probes: {str(name)[:80]!r} is no name of a number"
            sound = is_number(value) and math.isfinite(value) and abs(value) < _LARGEST
            if not sound or (is_share(name) and not 0 <= value <= 1):
                return f"probes: {name[:80]} is {str(value)[:40]}, not {'a share' if is_share(name) else 'a number'}"
    return None


def numbers_of(members: list[dict[str, Any]]) -> dict[str, Any]:
    """All numbers of ``members``; of one that several have, that of the one which was read last."""
    found: dict[str, Any] = {}
    for one in sorted(members, key=lambda one: (str(one.get("finished") or ""), digest(dict(one["probe"])))):
        found |= one["numbers"]
    return found
