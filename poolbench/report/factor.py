"""Words and columns of a report that compares something else than pools."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from poolbench.records.compared import POOL, factor_words

_PLURALS = {"data": "data sets", **{name: f"{name}s" for name in ("pool", "head", "model", "optimizer", "schedule")}}


def plural(factor: Sequence[str]) -> str:
    """What several arms are called: ``pools``, ``heads``; ``arms`` of an option, or where two things are crossed."""
    return _PLURALS.get(factor[0], "arms") if len(factor) == 1 else "arms"


def counted_arms(number: int, factor: Sequence[str]) -> str:
    """``1 pool``, ``5 heads``."""
    words = plural(factor)
    one = {"data sets": "data set"}.get(words, words.removesuffix("s"))
    return f"{number} {one if number == 1 else words}"


def about(text: str, factor: Sequence[str]) -> str:
    """``text``, which speaks of pools, about what is compared."""
    if tuple(factor) == POOL:
        return text
    words = plural(factor)
    one = {"data sets": "data set"}.get(words, words.removesuffix("s"))
    return re.sub(r"\bpool(s?)\b", lambda match: words if match[1] else one, text)


def named(table: pd.DataFrame, factor: Sequence[str], pools: Mapping[str, str]) -> pd.DataFrame:
    """``table`` as it is written: the column ``pool``, in which the arms stand, under the name of what is compared, and
    the group's pool beside it where that is another thing.

    Args:
        pools: group -> its pool.
    """
    factor = tuple(factor)
    if factor == POOL:
        return table
    kept = table.drop(columns=[name for name in factor if name in table.columns and name != "pool"])
    name = factor_words(factor).replace(" + ", "+")
    kept = kept.rename(columns={"pool": name})
    if "pool" not in factor and "group" in kept.columns:
        kept.insert(list(kept.columns).index(name) + 1, "pool", kept["group"].map(dict(pools)))
    return kept
