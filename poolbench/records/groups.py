"""Which cells may be compared, and what to call them: groups of one setting, in which only pool and seed differ."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from poolbench.dotted import flatten
from poolbench.records.identity import OUTSIDE, digest, identity
from poolbench.records.labels import label
from poolbench.records.once import once
from poolbench.records.probes import probed_text

# What decides how much a net is trained, and on how many images.
_AMOUNT = ("data.train_samples", "trainer.epochs")
_NOT_OF_GROUP = {*OUTSIDE, "pool", "seed"}  # they change no group: without them more configs are the same


def group_hash(config: Mapping[str, Any]) -> str:
    """8 hex digits, equal for the configs of cells that may be compared."""
    return _hash_of({key: value for key, value in config.items() if key not in _NOT_OF_GROUP})


def pool_labels(configs: list[Mapping[str, Any]]) -> list[str]:
    """Each config's pool label, longer by the differing options where configs of one group share the short one."""
    sharing: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    # One pool may bear several labels, as a class of the user's own that later got a name: the shortest is its name.
    names: dict[tuple[str, str], str] = {}
    ones = [(group_hash(config), pool_hash(config)) for config in configs]
    for one, config in zip(ones, configs, strict=True):
        called = str(config["names"].get("pool") or "unnamed")
        names[one] = min(names.get(one, called), called, key=lambda text: (len(text), text))
    keys = []
    for (group, pool), config in zip(ones, configs, strict=True):
        place = group, names[group, pool]
        keys.append((place, pool))
        if pool not in sharing[place]:
            sharing[place][pool] = flatten(pool_of(config))
    differing = {place: _differing(pools.values()) for place, pools in sharing.items()}
    return [_with_options(place[1], sharing[place][pool], differing[place]) for place, pool in keys]


def pool_of(config: Mapping[str, Any]) -> Any:
    """What tells the pool from others, whatever version wrote the config: its part of the identity."""
    return identity({"pool": config["pool"]})["pool"]


def pool_hash(config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits, equal for the configs of the same pool."""
    return _pool_hash_of(config["pool"])


def settings(configs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Group hash -> a text for people, unique: model, head, data, epochs, and more only where these are the same."""
    groups = {group_hash(config): config for config in configs}
    texts = {}
    for group, config in groups.items():
        # What is compared is no part of the setting, and has no label; the pool may be one: see records.compared.
        labels = [text for key in ("with", "model", "head", "data") if (text := label(config, key))]
        epochs = config["trainer"].get("epochs")
        budget = [] if epochs is None else [f"{epochs} epoch{'' if epochs == 1 else 's'}"]
        tuned = ["tuned"] if config.get("view") else []  # see records.tuning
        texts[group] = ", ".join([*labels, *budget, *tuned])
    for text in sorted(set(texts.values())):
        alike = sorted(group for group in texts if texts[group] == text)
        if len(alike) > 1:
            texts |= _told_apart(text, {group: groups[group] for group in alike})
    return texts


def data_set(label: str) -> str:
    """A label of data without the number of training images that were taken: ``cifar10(train_samples=500)`` is no
    other data set than ``cifar10``."""
    return re.sub(r"\(\)$", "", re.sub(r", ?train_samples=\w+|(?<=\()train_samples=\w+(, ?)?", "", label))


def alike_but_samples(configs: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Group hash -> a key, equal for groups that differ in nothing but the number of training images and of epochs, and
    a text for people, unique for each key."""
    groups = {group_hash(config): config for config in configs}
    options = {
        group: {name: value for name, value in _group_options(config).items() if name not in _AMOUNT}
        for group, config in groups.items()
    }
    keys = {group: digest(found)[:8] for group, found in options.items()}
    plain = {}
    for group, key in keys.items():
        labels = [label(groups[group], name) for name in ("model", "head", "data")]
        plain[key] = ", ".join([*labels[:2], data_set(labels[2])])
    differing = _differing({keys[group]: found for group, found in options.items()}.values())
    texts = {
        key: ", ".join([plain[key], *(f"{name}={options[group].get(name, 'none')}" for name in differing[:3])])
        for group, key in keys.items()
    }
    if len(set(texts.values())) < len(texts):
        texts = {key: f"{text}, {key}" for key, text in texts.items()}
    return {group: (key, texts[key]) for group, key in keys.items()}


def _group_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What cells of one group share: all that can change a result but the pool and the seed."""
    return flatten({key: value for key, value in identity(dict(config)).items() if key not in ("pool", "seed")})


@once
def _hash_of(config: dict[str, Any]) -> str:
    return digest(_group_options(config))[:8]


@once
def _pool_hash_of(pool: Any) -> str:
    return digest(pool_of({"pool": pool}))


def _told_apart(text: str, groups: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Longer texts for groups that share ``text``: the labels and options that differ, and the hash if need be."""
    options = {group: _group_options(config) for group, config in groups.items()}
    differing = _differing(options.values())
    parts = {group: [text] for group in groups}
    probed = {group: probed_text(config.get("probe")) for group, config in groups.items()}
    if len(set(probed.values())) > 1:  # Lists of amounts are for the config, not for a heading.
        differing = [name for name in differing if not name.startswith("probe.")]
        for group in groups:
            parts[group].append(probed[group])
    for kind in ("optimizer", "schedule"):  # A label says more than the options behind it.
        labels = {group: str(config["names"].get(kind, "")) for group, config in groups.items()}
        if len(set(labels.values())) > 1:
            differing = [name for name in differing if not name.startswith(f"{kind}.")]
            for group in groups:
                parts[group].append(labels[group])
    for group in groups:
        parts[group] += [f"{name}={options[group].get(name, 'none')}" for name in differing[:3]]
    unique = len({tuple(part) for part in parts.values()}) == len(groups)
    return {group: ", ".join(part if unique else [*part, group]) for group, part in parts.items()}


def _with_options(label: str, options: Mapping[str, Any], names: Iterable[str]) -> str:
    """``lp`` with p and norm -> ``lp(p=3.0, norm=sum)``; what the label says already is not said twice."""
    said = []
    for name in names:
        if name in options:
            value = str(options[name])
            said.append(f"target={value.rpartition('.')[2]}" if name == "_target_" else f"{name}={value}")
    said = [text for text in said if text not in label]
    if not said:
        return label
    return f"{label[:-1]}, {', '.join(said)})" if label.endswith(")") else f"{label}({', '.join(said)})"


def _differing(options: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys of which not all of ``options`` have the same value."""
    options = list(options)
    names = dict.fromkeys(name for each in options for name in each)
    return [name for name in names if len({digest(each.get(name, "absent")) for each in options}) > 1]
