"""Work on configs that is done once for equal ones: of 10,000 cells most have the config of others but for the seed."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")
_MOST = 10_000  # results that are kept of one function


def once(work: Callable[[Any], Found]) -> Callable[[Any], Found]:
    """``work``, a function of one plain value, done once for equal values. What it gives is shared: nobody changes it.

    Values are told apart by all that they hold, kinds of numbers too; the same value may count as two where its parts
    are shared otherwise, and is then worked out twice.
    """
    found: dict[bytes, Found] = {}

    def told(value: Any) -> Found:
        try:
            content = pickle.dumps(value, protocol=5)
        except Exception:  # somebody's object that cannot be copied: no plain value, and worked out each time
            return work(value)
        if content not in found:
            if len(found) >= _MOST:
                found.clear()
            found[content] = work(value)
        return found[content]

    return told
