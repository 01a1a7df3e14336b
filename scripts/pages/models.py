"""``docs/models.md``: a table of the models and their presets, and a section a model."""

from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import torch

from pages import trained
from pages.docstrings import ROOT, config_of, options_listed, parsed
from pages.layers import layers_of
from pages.markdown import inline, row, wrapped
from poolbench.cli.list import model_files
from poolbench.heads import HEADS, create_head
from poolbench.measure.cost import cost
from poolbench.models import MODELS, create_model
from poolbench.models.sites import map_sizes

SIZE = (32, 32)
OTHER_POOLS = {"max": "`max`", "fractional_max": "`fractional_max` (ratio √2)"}
LARGEST = 128  # side up to which limits of the images that a net takes are looked for


def page() -> str:
    """The text of ``docs/models.md``."""
    lines = [
        "<!-- written by scripts/refresh_docs.py from the docstrings and conf/model: change those -->",
        "",
        "# The models",
        "",
        *wrapped(
            "Every model maps images `(N, 3, H, W)` to logits `(N, K)`: a trunk with a pool at every site, and a head "
            "on top. `create_model(name, pool=name, head=name, **options)` builds one, `model=name model.option=value` "
            "trains it, and `pool=native`, `head=native` (what a historical model takes unless told otherwise) stand "
            "for what its paper had there. A row without a link is a preset: the model above it with other options, "
            "`model=` its name. [The pools](pools.md) and [the heads](heads.md) that fit: all, unless a section says "
            "otherwise."
        ),
        *wrapped(
            "Numbers are for native pools and head, 10 classes and images of 32x32: parameters, operations of the "
            "forward pass an image (two for a multiply-add; pooling counted, normalisations and activations not). "
            "*Maps*: side of the image and after each site, in pixels, then that of the last map where it is another. "
            "*Images*: the sides that it can be built for, and whether it then takes all of them or only the one."
        ),
        "| model | in one line | paper | parameters | MFLOPs | maps | head | images |",
        "|---|---|---|---:|---:|---|---|---|",
    ]
    for name in MODELS.table:
        for choice in presets()[name]:
            lines.append(_table_row(name, choice))
    for name in MODELS.table:
        lines += ["", *section(name)]
    lines += ["", *trained.section("models")]
    return "\n".join(lines).rstrip() + "\n"


def section(name: str) -> list[str]:
    """All about one model."""
    model, text = MODELS.find(name), parsed(MODELS.find(name))
    size = usual_size(name, name)
    others = [f"- {words}: {_path(name, size, pool)}" for pool, words in OTHER_POOLS.items()]
    return [
        f"## {name}",
        "",
        text["first"],
        "",
        *([text["body"], ""] if text["body"] else []),
        f"**Layers** with native pools and head, for images of {_side(size)}; normalisations and activations are left "
        "out.",
        "",
        "| part | layers | map |",
        "|---|---|---|",
        *(row([f"`{part}`", words, map_]) for part, words, map_ in measured(layers_of, name, name, size)),
        "",
        "**Sites.** Side of the image and after each site, in the order in which they are passed:",
        "",
        f"- `native`: {_path(name, size)}",
        *others,
        "",
        *options_listed(model, config_of("model", name)),
        f"**When to use it.** {text['Use']}",
        "",
        f"**Shape.** {text['Shape']}.",
        "",
        f"**Source.** {text['Source']}.",
    ]


@cache
def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """Model -> the names that ``model=`` takes for it, its own first, with their options."""
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in MODELS.table}
    names = {location.rpartition(":")[2]: name for name, location in MODELS.table.items()}
    for choice, block in sorted(model_files().items(), key=lambda file: (file[0] not in MODELS.table, file[0])):
        name = names.get(block["_target_"].rpartition(".")[2])
        if name:
            found[name][choice] = {option: value for option, value in block.items() if option != "_target_"}
    return found


@cache
def built(name: str, choice: str, size: tuple[int, int] = SIZE, pool: str = "native", device: str = "meta") -> Any:
    """A preset of a model, without values for its weights on the device ``meta``. Raises: ValueError where the images
    or the pool do not fit."""
    with torch.device(device):
        return create_model(name, pool=pool, input_size=size, **presets()[name][choice])


def measured(function: Callable[[Any, tuple[int, int]], Any], name: str, choice: str, size: tuple[int, int]) -> Any:
    """``function(net, size)`` of a preset, without computing a value where that is possible."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                return function(built(name, choice, size, device=device), size)
        except RuntimeError:  # some steps, as those without autocast, are for real devices
            if device == "cpu":
                raise


@cache
def limits(name: str, choice: str) -> tuple[int, int | None]:
    """Sides of the smallest and the largest square image that a preset can be built for; None: any larger one."""
    some = next(side for side in (SIZE[0], *range(1, LARGEST)) if _can_be_built(name, choice, side))
    net = built(name, choice, (some, some))

    def fits(side: int) -> bool:
        if tied(name):
            return _can_be_built(name, choice, side)
        head, options = net.native_head
        try:
            with torch.device("meta"):
                size = map_sizes(net.features, (side, side))[-1][1]
                create_head(head, channels=net.channels, num_classes=2, size=size, **options)
        except ValueError:
            return False
        return True

    least = 1 + bisect_left(range(1, some), True, key=fits)
    if fits(LARGEST):
        return least, None
    return least, some + bisect_left(range(some + 1, LARGEST), True, key=lambda side: not fits(side))


def tied(name: str) -> bool:
    """Has a model weights for every position of the image?"""
    return "input_size" in signature(MODELS.find(name)).parameters


@cache
def usual_size(name: str, choice: str) -> tuple[int, int]:
    """32x32, or the nearest that the net takes."""
    least, most = limits(name, choice)
    side = min(max(SIZE[0], least), most or LARGEST)
    return (side, side)


def _table_row(name: str, choice: str) -> str:
    text, size, own = parsed(MODELS.find(name)), usual_size(name, choice), choice == name
    costs = measured(cost, name, choice, size)
    other = f" ({_side(size)})" if size != SIZE else ""
    cells = [f"[`{choice}`](#{name})" if own else f"`{choice}`", text["first"] if own else _comment(choice)]
    cells += [text["Source"] if own else "", f"{costs['parameters']:,}{other}"]
    cells += [f"{costs['forward_flops'] / 1e6:,.1f}{other}", _path(name, size, choice=choice)]
    return row([*cells, _head(name, choice, size), _images(name, choice, size)])


def _head(name: str, choice: str, size: tuple[int, int]) -> str:
    net = built(name, choice, size)
    head, options = net.native_head
    if type(net.head) is not HEADS.find(head):
        return "its own"
    settings = ", ".join(f"`{option}={_value(value)}`" for option, value in options.items())
    return f"[`{head}`](heads.md#{head})" + (f" with {settings}" if settings else "")


def _images(name: str, choice: str, size: tuple[int, int]) -> str:
    """The sides that a preset takes, in words."""
    least, most = limits(name, choice)
    sides = f"from {least}" if most is None else f"{least} to {most}"
    any_size = not tied(name) and getattr(built(name, choice, size).head, "any_size", False)
    return f"{sides}, all" if any_size else f"{sides}, one"


def _path(name: str, size: tuple[int, int], pool: str = "native", choice: str | None = None) -> str:
    """``32 → 16 → 8, last 6``."""
    try:
        net = built(name, choice or name, size, pool)
    except ValueError as error:
        return f"refused: {inline(str(error).partition(' (so far')[0])}"
    with torch.device("meta"):
        *steps, (_, last) = map_sizes(net.features, size)
    path = " → ".join(_side(side) for side in (size, *(after for _, after in steps)))
    if not steps:
        return f"{path}, no site, last {_side(last)}"
    return path if steps[-1][1] == last else f"{path}, last {_side(last)}"


def _can_be_built(name: str, choice: str, side: int) -> bool:
    try:
        built(name, choice, (side, side))
    except ValueError:
        return False
    return True


def _comment(choice: str) -> str:
    """The first lines of comment in the file of a preset."""
    lines = (ROOT / f"conf/model/{choice}.yaml").read_text(encoding="utf-8").splitlines()
    words = [line.lstrip("# ") for line in lines if line.startswith("# ") and "@package" not in line]
    return inline(" ".join(words))


def _side(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _value(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple | list) else str(value).lower()
