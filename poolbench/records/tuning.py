"""Cells at their own best recipe: the mark that such a cell's config bears, and the view of them that a report makes.

A tuned cell is an ordinary cell: its config holds plain values and its identity is theirs. Where the values came from
is said beside them, under ``tuned`` in the config, which is no part of the identity.
"""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from poolbench.records.groups import group_hash
from poolbench.records.identity import digest, identity
from poolbench.records.read import Record

# What a search varies: which optimiser or schedule, or an option of a part.
_OPTION = re.compile(r"optimizer|schedule|(optimizer|schedule|trainer|pool|head|model|data)(\.[A-Za-z]\w*)+")

TUNED = "tuned"  # what stands in a view's config in the place of a value that each treatment has its own of


@dataclass(frozen=True)
class Mark:
    """Where the values of a tuned cell came from.

    Args:
        search: a hash of all that trials of different treatments shared: two treatments of one search were tuned alike.
        parameters: option -> the range that was searched.
        set: option -> the value that was found for this treatment.
        trials: of each treatment; rungs: ``[trials, epochs]`` of each stage.
        validation: share of the training set on which the choice was made.
        accuracy: validation accuracy of the choice; None for a cell of the view that bears no mark of its own.
        recipes: of all treatments that this search found a best recipe for, see :func:`recipe`.
    """

    search: str
    parameters: dict[str, str]
    set: dict[str, Any]
    trials: int
    rungs: list[list[int]]
    validation: float
    accuracy: float | None
    sampler: str
    seeds: list[int]
    recipes: list[str] = field(default_factory=list)


def recipe(config: Mapping[str, Any]) -> str:
    """Hash of a completed config without its seed, and without what its trials have otherwise: the validation split and
    whether the test set is read."""
    kept = {key: value for key, value in identity(dict(config)).items() if key != "seed"}
    for group, option in (("data", "validation"), ("trainer", "test")):
        kept[group] = {key: value for key, value in kept[group].items() if key != option}
    return digest(kept)


def reads_test(record: Record) -> bool:
    """Whether the cell is one that reads the test set in the end, as all but the trials of a search do."""
    return record.config["trainer"].get("test") is not False


def mark(config: Mapping[str, Any]) -> Mark | None:
    """The mark of a tuned cell's config; None for another cell's, and where it is not as we write it."""
    found = config.get("tuned")
    if not isinstance(found, Mapping) or not isinstance(config.get("view", ""), str):
        return None
    kinds = {name: getattr(hint, "__origin__", hint) for name, hint in Mark.__annotations__.items()}
    kinds |= {"validation": int | float, "accuracy": int | float | None}
    values = {name: found.get(name) for name in kinds}
    if not all(isinstance(values[name], kind) and not isinstance(values[name], bool) for name, kind in kinds.items()):
        return None
    plain = [*values["parameters"].values(), *values["recipes"], *values["set"], *values["parameters"]]
    stages = [number for rung in values["rungs"] for number in (rung if isinstance(rung, list) else [None])]
    numbers = [*stages, *values["seeds"]]
    sound = all(isinstance(text, str) for text in plain) and all(type(number) is int for number in numbers)
    sound = sound and all(_OPTION.fullmatch(option) for option in values["parameters"])
    sound = sound and bool(values["rungs"]) and all(len(rung) == 2 for rung in values["rungs"])
    return Mark(**values) if sound and set(values["parameters"]) <= set(values["set"]) else None


def views(records: Iterable[Record]) -> list[Record]:
    """The records as a report groups them: those at a shared recipe as they are, and tuned ones under a config in which
    each searched option says ``tuned``, so that treatments with different values fall into one group.

    A cell is in both views, with a record for each, when the search found the very recipe that the others share.
    """
    records = list(records)
    searches: dict[str, Mark] = {}
    for record in records:
        own = mark(record.config)
        if own is not None:
            known = searches.setdefault(own.search, own)
            searches[own.search] = replace(known, recipes=sorted({*known.recipes, *own.recipes, recipe(record.config)}))
    if not searches:
        return records
    shared = {group_hash(record.config) for record in records if mark(record.config) is None}
    seen = []
    for record in records:
        if group_hash(record.config) in shared:
            seen.append(replace(record, config=_plain(record.config)))
        own = recipe(record.config)
        for search in searches.values():
            if own in search.recipes and (config := _as_tuned(record.config, search)) is not None:
                seen.append(replace(record, config=config))
    return seen


def view_group(config: Mapping[str, Any], search: Mark) -> str | None:
    """The group of the tuned view in which the cell of ``config`` would be, had ``search`` found its values."""
    config = _as_tuned(config, search)
    return None if config is None else group_hash(config)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "tuned"}


def _as_tuned(config: Mapping[str, Any], search: Mark) -> dict[str, Any] | None:
    """``config`` in the view of ``search``; None when it has not all of the options that were searched."""
    own = mark(config)
    config = copy.deepcopy(dict(config))
    values = {}
    for option in search.parameters:
        *path, last = option.split(".")
        block: Any = config
        for key in path:
            block = block.get(key) if isinstance(block, dict) else None
        if not isinstance(block, dict) or last not in block:
            return None
        values[option] = block[last]
        block[last] = TUNED
        if path and isinstance(config["names"].get(path[0]), str):
            config["names"][path[0]] = _label(config["names"][path[0]], ".".join([*path[1:], last]))
        elif not path:
            values[option] = config["names"].get(last)
            config["names"][last] = TUNED
    accuracy = own.accuracy if own is not None and own.search == search.search else None
    config["tuned"] = {**vars(search), "set": values, "accuracy": accuracy}
    config["view"] = search.search
    return config


def _label(label: str, option: str) -> str:
    """``sgd(lr=0.05)`` or ``sgd`` -> ``sgd(lr=tuned)``."""
    name, _, listed = label.partition("(")
    options = re.split(r",(?![^\[(]*[\])])", listed.removesuffix(")")) if listed else []
    options = [text for text in options if text.partition("=")[0] != option]
    return f"{name}({','.join([*options, f'{option}={TUNED}'])})"
