"""Which cell a config is: a readable name that ends in a hash of all that can change its result."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from poolbench.options import DEFAULTS, names
from poolbench.records.once import once
from poolbench.records.probes import DEFAULTS as NO_PROBES
from poolbench.records.probes import counting

SCHEMA_VERSION = 1

# Where things lie and what they run on: never part of a cell's identity.
OUTSIDE = {"names", "run_id", "runs_dir", "report_dir", "sweep", "tuned"}
_OUTSIDE_TRAINER = set(names(counts="never"))
_OUTSIDE_DATA = {"root", "download", "mirrors"}  # the content counts instead: data_fingerprint
# Options that came after the first records were published, with the value that means what was done before: they count
# only where they say something else, so that an old cell keeps its name. Those of the trainer and of the probes say so
# where they are declared; of all else here: group -> class of ours -> its options. Another class may have an option of
# the same name that means something else.
_ADDED: dict[str, dict[str, dict[str, Any]]] = {
    "pool": {name: {"gradient": "exact"} for name in ("SoftPool2d", "AdaPool2d")},
    "head": {"GlobalAverage": {"class_maps": False}, "GeM": {"groups": 1}, "Attention": {"dimension": 128}},
    "model": {"FastCNN": {"mirror": False}},
    "data": {
        **{name: {"train_samples": None, "test_samples": None} for name in ("CIFAR10", "CIFAR100")},
        "ImageFolder": {"train_samples": None, "test_samples": None, "test_share": 0.2},
    },
    **{group: {} for group in ("optimizer", "schedule")},
}
# Of the first two it was not asked whose the class is, so that they do not count for any; the others are of any net.
_OWN_NET = ("swap_sites", "swap_min_channels", "load_weights")
_OF_ANY = {"head": {"class_maps": False}, "model": {"mirror": False, **dict.fromkeys(_OWN_NET)}}
_ADDED_TRAINER = {name: DEFAULTS[name] for name in names(counts="unless_default")}


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a completed config that can change the cell's result."""
    kept = {key: value for key, value in config.items() if key not in OUTSIDE}
    trainer = {k: v for k, v in kept.get("trainer", {}).items() if k not in _OUTSIDE_TRAINER}
    kept["trainer"] = _less(trainer, _ADDED_TRAINER)
    if isinstance(kept.get("model"), dict) and "weights_content" in kept["model"]:
        kept["model"] = {k: v for k, v in kept["model"].items() if k != "load_weights"}  # the content counts instead
    kept["data"] = {k: v for k, v in kept.get("data", {}).items() if k not in _OUTSIDE_DATA}
    for group in _ADDED.keys() & kept.keys():
        kept[group] = _changed(group, kept[group], _less, _OF_ANY.get(group, {}))
    if isinstance(kept.get("probe"), dict):
        # Where no test set is read, as in trials of a search, nothing of it is probed either.
        read = counting(kept["probe"]) if kept["trainer"].get("test", True) else {}
        kept = {key: value for key, value in kept.items() if key != "probe"} | ({"probe": read} if read else {})
    return kept


def with_added(config: dict[str, Any]) -> dict[str, Any]:
    """A completed config of an older version with the options and probes that came since, meaning what was done
    then."""
    probe = config.get("probe", {})
    return {
        **config,
        **{group: _changed(group, config[group], _more) for group in _ADDED.keys() & config.keys()},
        "trainer": {**_ADDED_TRAINER, **config["trainer"]},
        "probe": {**NO_PROBES, **probe} if isinstance(probe, dict) else probe,
    }


def _changed(
    group: str,
    block: Any,
    change: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    of_any: dict[str, Any] | None = None,
) -> Any:
    """A component's block, or a list of one for each site, after ``change`` by the options that its class got since."""
    if isinstance(block, list | tuple):
        return [_changed(group, one, change, of_any) for one in block]
    if not isinstance(block, dict):
        return block
    place, _, name = str(block.get("_target_", "")).rpartition(".")
    ours = f"{place}.".startswith("poolbench.")
    return change(block, {**(of_any or {}), **(_ADDED[group].get(name, {}) if ours else {})})


def _less(block: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in block.items() if k not in added or v != added[k]}


def _more(block: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    return {**block, **{k: v for k, v in added.items() if k not in block}}


def digest(value: Any) -> str:
    """Ten hexadecimal digits of plain data, the same however its keys are ordered and whether it says 2 or 2.0."""
    return _digest_of(_canonical(value))


def run_id(config: dict[str, Any]) -> str:
    """``max-convnet-shapes-s0-1a2b3c4d5e``: pool, head unless it is the usual one, model, data, seed, hash."""
    names = config["names"]
    head = [] if names["head"] in ("global_average", "native") else [names["head"]]
    words = [names["pool"], *head, names["model"], names["data"]]
    # Names become folders: only letters, digits and a few signs, and never a path.
    slug = "-".join(re.sub(r"[^A-Za-z0-9_.+=]+", "-", word).strip("-.") or "x" for word in words)
    seed = f"-s{config['seed']}"  # is never cut off
    shared = _shared({key: value for key, value in config.items() if key != "seed" and key not in OUTSIDE})
    own = {"schema": SCHEMA_VERSION, "config": {**shared, "seed": _canonical(config["seed"])}}
    return f"{slug[: 80 - len(seed)].rstrip('-')}{seed}-{_digest_of(own)}"


def cell_hash(run_id: str) -> str:
    """The hash at the end of ``run_id``: one cell has one, in whatever words it is named."""
    return run_id.rpartition("-")[2]


@once
def _shared(config: dict[str, Any]) -> dict[str, Any]:
    """The identity of a config without its seed, which cells that differ in that alone share; ready for a digest."""
    return _canonical(identity(config))


def _digest_of(canonical: Any) -> str:
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
