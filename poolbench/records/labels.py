"""What a component of a config is called where people read it. The folder of a cell has a name of its own, from what
its config says; this one may get better and moves no folder."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

# A function that builds many nets says nothing of the net; one of these options of it does.
_BUILDER = re.compile(r"(create|get|build|make|load)(_(model|net|network|backbone|classifier))?")
_LIST = re.compile(r"(\w+)=\[(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)\]")  # of plain numbers
_CELL = re.compile(r"(.+?), (seed \d+)(, .*)?")
_NET = ("model_name", "name", "arch", "architecture", "model")


def label(config: Mapping[str, Any], group: str) -> str:
    """What to call the ``group`` of a completed ``config``: ``model`` and the like.

    A net that a builder of many gives is called by its own name, with the package of the builder and the options that
    are not as usual: ``create_model(model_name=resnet18,pretrained=true)`` is ``resnet18 (timm, pretrained=true)``.
    Lists of numbers in a net's options are short, ``widths`` without its name: ``fast_cnn_small(26-52-104)``.
    """
    given = str(config["names"].get(group, ""))
    if group == "model":
        given = _LIST.sub(_short_list, given)
    block = config.get(group)
    if group != "model" or not isinstance(block, Mapping):
        return given
    package, _, builder = str(block.get("_target_", "")).rpartition(".")
    match = re.fullmatch(rf"{re.escape(builder)}\((.*)\)", given) if _BUILDER.fullmatch(builder) else None
    named = next((name for name in _NET if isinstance(block.get(name), str) and block[name]), None)
    if not package or package.startswith("poolbench.") or match is None or named is None:
        return given
    options = re.split(r",(?![^\[]*\])", match[1])  # what stands in brackets is one value
    others = [text for text in options if text.partition("=")[0] != named]
    return f"{block[named]} ({', '.join([package.partition('.')[0], *others])})"


def cell_name(config: Mapping[str, Any]) -> str:
    """What to call the cell of a completed ``config``: ``lp, seed 0, convnet, cifar10``; with the head where it is not
    the usual one, and of a tuned cell with the values that were found for it."""
    words = [label(config, "pool") or "unnamed", f"seed {config.get('seed')}"]
    words += [head] if (head := label(config, "head")) not in ("", "global_average", "native") else []
    words += [text for group in ("model", "data") if (text := label(config, group))]
    tuned = config.get("tuned")
    if isinstance(tuned, Mapping):
        found = tuned.get("set")
        values = [f"{key}={value}" for key, value in found.items()] if isinstance(found, Mapping) else []
        words.append(" ".join(["tuned", *values]))
    return ", ".join(words)


def told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """``run_id`` -> name of a cell, with the start of the hash where several bear one name."""
    several = {name for name, count in Counter(names.values()).items() if count > 1}
    return {
        run_id: f"{name}, {run_id.rpartition('-')[2][:6]}" if name in several else name
        for run_id, name in names.items()
    }


def shortened(name: str, room: int) -> str:
    """``name`` of a cell in ``room`` columns: its end is cut off first, then its pool's, and its seed never."""
    match = _CELL.fullmatch(name)
    if len(name) <= room or match is None:
        return name if len(name) <= room else f"{name[: max(0, room - 1)]}…"
    pool, seed, _ = match.groups()
    head = f"{pool}, {seed}"
    if len(head) + 1 <= room:
        return f"{name[: room - 1].rstrip(', ')}…"
    return f"{pool[: max(1, room - len(seed) - 3)]}…, {seed}"


def _short_list(match: re.Match[str]) -> str:
    numbers = match[2].replace(",", "-")
    return numbers if match[1] == "widths" else f"{match[1]}={numbers}"
