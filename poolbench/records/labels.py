"""What a component of a config is called where people read it. The folder of a cell has a name of its own, from what
its config says; this one may get better and moves no folder."""

import re
from collections.abc import Mapping
from typing import Any

# A function that builds many nets says nothing of the net; one of these options of it does.
_BUILDER = re.compile(r"(create|get|build|make|load)(_(model|net|network|backbone|classifier))?")
_NET = ("model_name", "name", "arch", "architecture", "model")


def label(config: Mapping[str, Any], group: str) -> str:
    """What to call the ``group`` of a completed ``config``: ``model`` and the like.

    A net that a builder of many gives is called by its own name, with the package of the builder and the options that
    are not as usual: ``create_model(model_name=resnet18,pretrained=true)`` is ``resnet18 (timm, pretrained=true)``.
    """
    given = str(config["names"].get(group, ""))
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
