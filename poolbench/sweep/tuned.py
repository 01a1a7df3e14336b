"""The winners of searches, ``tuned/<name>.yaml``, and how ``optimizer=tuned`` and ``tuned=NAME`` become plain values.

The values are put in before a config is composed, so a cell's identity is that of its values. What stands beside them
in the record, under ``tuned``, says where they came from and changes no name.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from poolbench.checks import wholes
from poolbench.config_files import read_file
from poolbench.configuration import COMPONENTS, Composer, ConfigError
from poolbench.messages import counted, described
from poolbench.options import names
from poolbench.overrides import parse
from poolbench.records.identity import identity, with_added
from poolbench.records.probes import DEFAULTS
from poolbench.registry import nearest
from poolbench.sweep.grammar import expand

FOLDER = Path("tuned")
DEFAULT = "default"  # the search that optimizer=tuned stands for

PROBES = ("probe", *(f"probe.{option}" for option in DEFAULTS))  # what is read of a trained net trains nothing
# What a search sets itself, what would change its budget or its images, and what changes no result.
_NOT_SEARCHED = {
    *("seed", "seeds", "runs_dir", "report_dir", "tuned", "pool", "head", "model", "data", "trainer"),
    *(f"trainer.{name}" for name in (*names(budget=True), *names(recipe=False))),
    *PROBES,
    *("data.validation", "data.root", "data.download", "data.mirrors"),
}
_OPTION = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")  # no _target_, and nothing that + adds
_NUMBER = int | float
_FROM = {
    "search": str,
    "parameters": dict,
    "trials": int,
    "rungs": list,
    "sampler": str,
    "seeds": list,
    "validation": _NUMBER,
    "accuracy": _NUMBER,
    "recipe": str,
}


def complete(compose: Composer, overrides: Iterable[str]) -> dict[str, Any]:
    """``compose.complete(overrides)``, with the tuned values of the cell where ``overrides`` ask for them.

    Raises: ConfigError, with the command that tunes it, when the cell's treatment has no winner.
    """
    overrides = list(overrides)
    name = _asked(overrides)
    if name is None:
        return compose.complete(overrides)
    rest = [text for text in overrides if not text.startswith("tuned=") and text != "optimizer=tuned"]
    entries = read_entries(name)
    given = dict(text.partition("=")[::2] for text in rest)
    cells: dict[frozenset[str], dict[str, Any]] = {}
    found = []
    for entry in entries:
        # What the search found, or had on its command line, may be repeated beside it and tells no treatment.
        own = frozenset(entry["set"]) & frozenset(given)
        if own not in cells:
            base = [text for text in rest if text.partition("=")[0] not in own]
            cells[own] = description(compose.complete(base))
        if all(key in cells[own] and cells[own][key] == value for key, value in entry["match"].items()):
            found.append(entry)
    if len(found) != 1:
        raise ConfigError(_missing(name, entries, found, description(compose.complete(rest)), rest))
    (entry,) = found
    values = written(entry["set"])
    for key, value in values.items():
        if key in given and parse(f"x={given[key]}").value() != parse(f"x={value}").value():
            raise ConfigError(
                f"{key}={given[key]} beside tuned={name}, which has {key}={value} for "
                f"{_treatment(cells[frozenset(values) & frozenset(given)])}: leave one of them out"
            )
    config = compose.complete([*[text for text in rest if text.partition("=")[0] not in values], *_pairs(values)])
    source = entry["from"]
    recipes = sorted({other["from"]["recipe"] for other in entries if other["from"]["search"] == source["search"]})
    kept = {key: value for key, value in source.items() if key in _FROM and key != "recipe"}
    return {**config, "tuned": {"name": name, "set": entry["set"], **kept, "recipes": recipes}}


def refuse_unequal(configs: Iterable[Mapping[str, Any]]) -> None:
    """Raises: ConfigError when treatments that stand in one table were tuned by different searches."""
    searches: dict[tuple[str, ...], dict[str, str]] = {}
    for config in configs:
        if "tuned" in config:
            tuned, names = config["tuned"], config["names"]
            ranges = ", ".join(f"{option} in {text}" for option, text in tuned["parameters"].items())
            said = f"{names['pool']}: {ranges}, {counted(tuned['trials'], 'trial')}, up to "
            said += counted(tuned["rungs"][-1][1], "epoch")
            place = (tuned["name"], *(names[group] for group in ("head", "model", "data")))
            searches.setdefault(place, {}).setdefault(tuned["search"], said)
    for place, found in searches.items():
        if len(found) > 1:
            raise ConfigError(
                f"tuned={place[0]}: the treatments of {place[2]} on {place[3]} were not tuned alike: "
                f"{'; '.join(found.values())}. Tune them with one command"
            )


def description(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a treatment and its recipe from others, for people: labels of components, options of the trainer."""
    # With the options that an identity leaves out at their defaults: the recipe was searched with those.
    recipe = identity(dict(config))["trainer"]
    recipe = {**{k: v for k, v in with_added({"trainer": {}})["trainer"].items() if k not in recipe}, **recipe}
    trainer = {f"trainer.{k}": value for k, value in recipe.items() if k not in names(recipe=False)}
    augmentation = {"data.augmentation": config["data"]["augmentation"]} if "augmentation" in config["data"] else {}
    return {**{group: config["names"][group] for group in COMPONENTS}, **augmentation, **trainer}


def written(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value as it would stand after the = of an override."""
    (texts,) = expand([{"product": {key: [value] for key, value in values.items()}}], {}, None)
    return dict(text.partition("=")[::2] for text in texts)


def read_entries(name: str) -> list[dict[str, Any]]:
    """The winners in the file called ``name``. Raises: ConfigError when there is none, or it is not as we write it."""
    path = path_of(name)
    if not path.exists():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        there = f"{nearest(name, known)} Known: {', '.join(known)}." if known else ""
        raise ConfigError(
            f"tuned={name}: there is no {path}, the winners of a search.{there} "
            f"They are found by: poolbench tune ... --param 'optimizer.lr=log(0.01,1.0)'{_named(name)}"
        )
    entries = read_file(path)
    if not isinstance(entries, list):
        raise ConfigError(f"{path} holds {described(entries)}, and must be a list, as `poolbench tune` writes it")
    for number, entry in enumerate(entries, start=1):
        parts = [entry.get(part) if isinstance(entry, dict) else None for part in ("match", "set", "from")]
        if not all(isinstance(part, dict) for part in parts):
            raise ConfigError(f"{path}: entry {number} must have match, set and from, as `poolbench tune` writes them")
        for key, kind in _FROM.items():
            if not isinstance(parts[2].get(key), kind):
                raise ConfigError(f"{path}: entry {number}: from.{key} is {parts[2].get(key)!r}")
        rungs = parts[2]["rungs"]
        if not rungs or not all(wholes(2).allowed(rung) for rung in rungs):
            raise ConfigError(f"{path}: entry {number}: from.rungs is {rungs!r}, and must list [trials, epochs]")
        for option, value in parts[1].items():
            if not (isinstance(option, str) and _OPTION.fullmatch(option) and may_be_searched(option)):
                raise ConfigError(f"{path}: entry {number} sets {option!r}, which is no option that may be searched")
            if not all(_is_plain(one) for one in (value if isinstance(value, list) else [value])):
                raise ConfigError(f"{path}: entry {number}: {option} is {value!r}, and must be a plain value")
    return entries


def may_be_searched(option: str) -> bool:
    """Whether ``option`` is one that a search may vary: it belongs to a recipe, and does not set the budget."""
    return option not in _NOT_SEARCHED and option.partition(".")[0] not in ("sweep", "hydra", "names", "probe")


def _is_plain(value: Any) -> bool:
    """Whether ``value`` stands for itself: ``${...}`` would be what something else says."""
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and "${" not in value)


def write_entries(name: str, entries: list[dict[str, Any]]) -> Path:
    """Add winners to the file called ``name``, each in the place of an earlier one of the same treatment."""
    from poolbench.records.files import write_text

    path = path_of(name)
    old = read_entries(name) if path.exists() else []
    new = {repr(entry["match"]): entry for entry in (*old, *entries)}
    import yaml

    head = (
        f"# Written by `poolbench tune`, for `optimizer=tuned` and `tuned={name}`: the best recipe of each treatment.\n"
    )
    write_text(path, head + yaml.safe_dump(list(new.values()), sort_keys=False, width=110, default_flow_style=None))
    return path


def path_of(name: str) -> Path:
    """The file of the search called ``name``. Raises: ConfigError for what is no name."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", name):
        raise ConfigError(f"the name of a search has letters, digits, '_', '-' and '.', got {name!r}")
    return FOLDER / f"{name}.yaml"


def _asked(overrides: list[str]) -> str | None:
    """The search that ``overrides`` name, if they ask for tuned values."""
    names = [text.partition("=")[2] for text in overrides if text.startswith("tuned=")]
    return names[0] if names else DEFAULT if "optimizer=tuned" in overrides else None


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _missing(
    name: str, entries: list[dict[str, Any]], found: list[Any], cell: dict[str, Any], overrides: list[str]
) -> str:
    """Why there is not one winner for the cell, and how to get one."""
    if found:
        return f"{path_of(name)}: {len(found)} entries match {_treatment(cell)}: make their match say more"
    ranges = next((entry["from"]["parameters"] for entry in entries), {"optimizer.lr": "log(0.01,1.0)"})
    tried = next((f" --trials {entry['from']['trials']}" for entry in entries), "")
    params = " ".join(f"--param {shlex.quote(f'{option}={text}')}" for option, text in ranges.items())
    own = [text for text in overrides if not text.startswith("sweep")]
    command = f"poolbench tune {shlex.join(own)} {params}{tried}{_named(name)}"
    same = COMPONENTS[:4]  # pool, head, model, data; the rest is the recipe
    near = [entry["match"] for entry in entries if all(entry["match"].get(g, cell[g]) == cell[g] for g in same)]
    if near:
        odd = min(([key for key in match if cell.get(key) != match[key]] for match in near), key=len)
        match = next(match for match in near if [key for key in match if cell.get(key) != match[key]] == odd)
        what = ", ".join(f"{key}={match[key]} there and {cell.get(key)} here" for key in odd)
        return f"tuned={name}: {_treatment(cell)} was tuned with {what}. Say the same here, or tune it: {command}"
    known = [{**cell, **entry["match"]} for entry in entries]
    pools = [other["pool"] for other in known if all(other[group] == cell[group] for group in same[1:])]
    beside = dict.fromkeys(pools)
    tuned = f"there, only {', '.join(beside)}" if beside else f"but {'; '.join(dict.fromkeys(map(_treatment, known)))}"
    return f"tuned={name}: {_treatment(cell)} was not tuned{' ' if beside else ', '}{tuned}. Tune it: {command}"


def _treatment(cell: Mapping[str, Any]) -> str:
    return f"{cell['pool']} in {cell['model']} with {cell['head']} on {cell['data']}"


def _named(name: str) -> str:
    return "" if name == DEFAULT else f" --name {name}"
