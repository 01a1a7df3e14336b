"""What the docstring of a component says, in Markdown, and its options with the defaults of their YAML."""

import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pages.markdown import inline, markdown
from poolbench.registry import locate

ROOT = Path(__file__).resolve().parents[2]


@cache
def parsed(component: type) -> dict[str, str]:
    """The docstring in Markdown: ``first`` line, ``body``, and each marked part."""
    doc = inspect.getdoc(component) or ""
    first, _, rest = doc.partition("\n\n")
    first = " ".join(first.split())
    parts = re.split(r"^(Args|Use|Shape|Raises|Source):[ \n]", rest, flags=re.M)
    found = {"first": inline(first), "body": markdown(parts[0])}
    for mark, text in zip(parts[1::2], parts[2::2], strict=True):
        found[mark] = text if mark == "Args" else inline(" ".join(text.split())).rstrip(".") + "." * (mark == "Use")
    if "Use" in found:
        found["Use"] = found["Use"][0].upper() + found["Use"][1:]
    missing = [mark for mark in ("Use", "Shape", "Source") if mark not in found]
    if missing:
        raise ValueError(f"the docstring of {component.__name__} has no part {', '.join(missing)}")
    return found


def config_of(kind: str, name: str) -> dict[str, Any]:
    """The options with their defaults, as in the YAML of a pool, a head or a model."""
    config = yaml.safe_load((ROOT / f"conf/{kind}/{name}.yaml").read_text(encoding="utf-8"))
    config = config.get(kind, config)  # one that changes other groups too has its own options under its name
    return {option: default for option, default in config.items() if option not in ("_target_", "defaults")}


def options_of(component: type, config: dict[str, Any]) -> list[tuple[list[tuple[str, str]], str]]:
    """Names and defaults of the options that the docstring describes together, and what it says of them."""
    found = []
    for names, meaning in _described(parsed(component)["Args"]):
        group = [(option, json.dumps(config[option])) for option in names if option in config]
        elsewhere = re.fullmatch(r"see :class:`~([\w.]+)`\.?", meaning)
        if group and elsewhere:  # what is said once for all, by the class that they derive from
            base = re.split(r"^(?=Shape:)", inspect.getdoc(locate(elsewhere[1], meaning)) or "", flags=re.M)[0]
            said = _described(base.partition("\nArgs:\n")[2])
            meaning = "; ".join(text for options, text in said if any(option in options for option, _ in group))
        if group:
            found.append((group, inline(meaning)))
    lost = config.keys() - {option for group, _ in found for option, _ in group}
    if lost:
        raise ValueError(f"the docstring of {component.__name__} does not describe {', '.join(sorted(lost))}")
    return found


def options_listed(component: type, config: dict[str, Any]) -> list[str]:
    """The options of a component as a part of its section."""
    lines = [
        f"- {', '.join(f'`{option}` = `{default}`' for option, default in group)}: {meaning}"
        for group, meaning in options_of(component, config)
    ]
    return ["**Options.**", "", *lines, ""] if lines else ["**Options.** None.", ""]


def _described(arguments: str) -> list[tuple[list[str], str]]:
    """The entries of ``Args``: names, and what they mean."""
    entries = (entry.partition(":") for entry in re.split(r"^ {4}(?=\S)", arguments, flags=re.M))
    return [(names.strip().split(", "), " ".join(meaning.split())) for names, _, meaning in entries]
