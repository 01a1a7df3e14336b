"""Records seen as a comparison of something else than pools: of heads, nets, recipes, an option, or two crossed.

What is compared takes the place of the pool in the config, and the pool becomes a part of the setting, so that groups,
labels, blocks and tables come about as they do for pools.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from poolbench.dotted import flatten
from poolbench.records.groups import pool_hash
from poolbench.records.identity import OUTSIDE, digest, identity
from poolbench.records.labels import label
from poolbench.records.once import once
from poolbench.records.read import Record
from poolbench.registry import nearest

POOL = ("pool",)
KINDS = ("pool", "head", "model", "data", "optimizer", "schedule")
_BESIDE = {"data": ("data_fingerprint",)}  # what follows from a choice and is none
_USUAL = {"pool": ("native", "max"), "head": ("global_average",)}  # the first that is there is the baseline


def parse_factor(text: str, records: Iterable[Record]) -> tuple[str, ...]:
    """What ``--compare TEXT`` names: ``head``, ``trainer.epochs``, or two with a comma.

    Raises: ValueError naming what is allowed.
    """
    names = tuple(part.strip() for part in text.split(","))
    options = {name for record in records for name in _options(record.config) if "." in name and "._" not in name}
    if len(names) > 2 or len(set(names)) < len(names) or not all(names):
        raise ValueError(
            f"--compare takes one thing, or two different ones with a comma, as head or pool,head; got {text!r}"
        )
    for name in names:
        if name not in KINDS and name not in options:
            hint = nearest(name, [*KINDS, *sorted(options)])
            raise ValueError(
                f"--compare: there is no {name!r} in these records.{hint} It takes {', '.join(KINDS)}, or an option "
                "that all of them have, as trainer.epochs"
            )
    return names


def usual_factor(records: Iterable[Record]) -> tuple[str, ...]:
    """What is compared where nothing is said: pools; where there is one pool only and one other thing varies, that."""
    configs = {_hash_of(_but_seed(record.config)): record.config for record in records}.values()
    pools = {pool_hash(config) for config in configs}
    if len(configs) < 2 or len(pools) > 1:
        return POOL
    told = [_options(config) for config in configs]
    varying = {name for each in told for name in each if len({digest(one.get(name, "absent")) for one in told}) > 1}
    groups = {
        name.partition(".")[0] for name in varying if name not in {beside for own in _BESIDE.values() for beside in own}
    }
    if len(groups) != 1:
        return POOL
    (group,) = groups
    if group in KINDS:
        return (group,)
    return (next(iter(varying)),) if len(varying) == 1 else POOL


def seen_as(records: Iterable[Record], factor: Sequence[str]) -> list[Record]:
    """``records`` with ``factor`` in the place of the pool; as they are where that is what it is."""
    factor = tuple(factor)
    return [_seen(record, factor) for record in records] if factor != POOL else list(records)


def usual_baseline_of(labels: Iterable[str], factor: Sequence[str]) -> str:
    """The arm that others are compared with where nothing is said: the usual one of what is compared, else the first
    in the order of numbers and letters."""
    labels = sorted(set(labels), key=_natural)
    parts = [_USUAL.get(name, ()) for name in factor]
    if len(factor) == 1:
        wanted = parts[0]
    else:
        wanted = tuple(" + ".join(both) for both in ((a, b) for a in parts[0] for b in parts[1]))
    return next((label for one in wanted for label in labels if label == one), labels[0] if labels else "")


def factor_words(factor: Sequence[str]) -> str:
    """``pool``, ``trainer.epochs``, ``pool + head``."""
    return " + ".join(factor)


@once
def _hash_of(config: dict[str, Any]) -> str:
    return digest(identity({**config, "seed": 0}))


def _but_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` without what tells cells apart that are the same but for the seed."""
    return {key: value for key, value in config.items() if key != "seed" and key not in OUTSIDE}


def _seen(record: Record, factor: tuple[str, ...]) -> Record:
    config, names = identity(dict(record.config)), dict(record.config["names"])
    arm: dict[str, Any] = {}
    labels = []
    for name in factor:
        labels.append(
            (label(record.config, name) or "unnamed") if name in KINDS else _shown(name, _options(config).get(name))
        )
        for key in (name, *_BESIDE.get(name, ())):
            arm[key], config = _taken(config, key)
        if name in names:
            names[name] = ""
    if "pool" not in factor:
        config["with_pool"] = config["pool"]
        names["with"] = names["pool"]
    names["pool"] = " + ".join(labels)
    environment = record.environment
    if "data" in factor:  # cells of different data are never one block
        place = f"{environment.get('fingerprint', 'unknown')}-{digest(arm['data'])[:6]}"
        environment = {**environment, "fingerprint": place}
    kept = {key: value for key, value in record.config.items() if key not in config and key not in arm}
    return replace(record, config={**kept, **config, "pool": arm, "names": names}, environment=environment)


def _taken(config: dict[str, Any], key: str) -> tuple[Any, dict[str, Any]]:
    """The part of ``config`` that ``key`` names, and the config without it."""
    first, _, rest = key.partition(".")
    if not rest:
        return config.get(first), {name: ({} if name == first else value) for name, value in config.items()}
    part = config.get(first)
    if not isinstance(part, dict):
        return None, config
    value, less = _taken(part, rest) if "." in rest else (part.get(rest), {k: v for k, v in part.items() if k != rest})
    return value, {**config, first: less}


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in identity(dict(config)).items() if key != "seed"}
    return flatten(kept, lists=False)


def _shown(name: str, value: Any) -> str:
    short = name.rpartition(".")[2]
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{short}={text}"


def _natural(label: str) -> list[tuple[int, float, str]]:
    """So that ``epochs=5`` stands before ``epochs=10``."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", label)
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in parts]
