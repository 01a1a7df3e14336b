"""Work on configs that is done once for equal ones: of 10,000 cells most have the config of others but for the seed."""

from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")
_MOST = 10_000  # results that are kept of one function


def once(work: Callable[[Any], Found]) -> Callable[[Any], Found]:
    """``work``, a function of one plain value, done once for equal values. What it gives is shared: nobody changes it.

    Values are told apart by how they are written, which has all that a plain value holds, kinds of numbers too.
    """
    found: dict[str, Found] = {}

    def told(value: Any) -> Found:
        try:
            content = repr(value)
        except Exception:  # somebody's object that cannot be written down: no plain value, and worked out each time
            return work(value)
        if content not in found:
            if len(found) >= _MOST:
                found.clear()
            found[content] = work(value)
        return found[content]

    return told
