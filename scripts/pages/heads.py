"""``docs/heads.md``: a table and a section a head."""

import itertools
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pages import trained
from pages.docstrings import config_of, options_listed, parsed
from pages.markdown import row, wrapped
from poolbench.heads import HEADS, create_head
from poolbench.heads.base import Head
from poolbench.measure.cost import cost

CHANNELS, CLASSES, SIDE = 256, 10, 8  # of the last map for which numbers are given


def page() -> str:
    """The text of ``docs/heads.md``."""
    lines = [
        "<!-- written by scripts/refresh_docs.py from the docstrings and conf/head: change those -->",
        "",
        "# The heads",
        "",
        *wrapped(
            "Every head maps the last map `(N, C, H, W)` to logits `(N, K)`: it pools to a vector, and fully connected "
            "layers classify that. `create_head(name, channels=C, num_classes=K, size=(H, W), **options)` builds one, "
            "`head=name head.option=value` puts it on a model, and `head=native` is what the model's paper had on top "
            "(see [the models](models.md)). What they gain over each other on one trunk, over seeds: "
            "[the comparison of all heads](../experiments/2026_heads/README.md)."
        ),
        *wrapped(
            "*Maps*: the sizes that one trained head takes. *Loss*: cross-entropy, or the head's own. *Fitted*: what "
            "training leaves is fitted anew to the features of the trained trunk, after the last epoch. Weights are "
            f"for `C` channels and `K` classes, where it matters on maps of `HW` pixels, and for {CHANNELS} channels, "
            f"{CLASSES} classes and maps of {SIDE}x{SIDE}, as the kFLOPs of an image (two for a multiply-add): "
            "classifier included, with default options, before what is fitted."
        ),
        "| head | in one line | maps | loss | fitted | weights | of 8x8 | kFLOPs |",
        "|---|---|---|---|---|---:|---:|---:|",
    ]
    for name in HEADS.table:
        said, costs = properties(name), costs_of(name)
        numbers = [formula(name), f"{costs['parameters']:,}", f"{costs['forward_flops'] / 1e3:,.1f}"]
        first = parsed(HEADS.find(name))["first"]
        lines.append(row([f"[`{name}`](#{name})", first, said["maps"], said["loss"], said["fitted"], *numbers]))
    for name in HEADS.table:
        lines += ["", *section(name)]
    lines += ["", *trained.section("heads")]
    return "\n".join(lines).rstrip() + "\n"


def section(name: str) -> list[str]:
    """All about one head."""
    head, text, costs = HEADS.find(name), parsed(HEADS.find(name)), costs_of(name)
    numbers = f"{costs['parameters']:,} and {costs['forward_flops'] / 1e3:,.1f} kFLOPs an image"
    return [
        f"## {name}",
        "",
        text["first"],
        "",
        *([text["body"], ""] if text["body"] else []),
        *options_listed(head, config_of("head", name)),
        f"**When to use it.** {text['Use']}",
        "",
        f"**Shape.** {text['Shape']}.",
        "",
        f"**Cost.** {formula(name)} weights: {numbers} for {CHANNELS} channels, {CLASSES} classes and maps of "
        f"{SIDE}x{SIDE}.",
        "",
        f"**Source.** {text['Source']}.",
    ]


def properties(name: str) -> dict[str, str]:
    """What kinds of maps a head takes, which loss it has and whether it is fitted, in words."""
    head = built(name)
    least = next(side for side in range(1, SIDE + 1) if _takes(name, side))
    own = type(head).criterion is not Head.criterion or type(head).training_loss is not Head.training_loss
    return {
        "maps": ("any" if head.any_size else "the one it is built for") + f", from {least}x{least}" * (least > 1),
        "loss": "its own" if own else "cross-entropy",
        "fitted": "after training" if callable(getattr(head, "fit", None)) else "–",
    }


@cache
def built(name: str, channels: int = CHANNELS, classes: int = CLASSES, side: int = SIDE) -> Any:
    """The head with its default options."""
    return create_head(name, channels=channels, num_classes=classes, size=(side, side))


@cache
def costs_of(name: str) -> dict[str, Any]:
    """Weights and operations for an image, as :func:`poolbench.measure.cost.cost` counts them in a model."""
    return cost(_Alone(built(name)), (SIDE, SIDE))


@cache
def formula(name: str) -> str:
    """The number of weights by channels ``C``, classes ``K`` and pixels ``HW``: ``C K + K``."""
    channels, classes, sides = (128, 160, 192), (3, 5), (8, 12)
    counts = [Fraction(_weights(name, *point)) for point in itertools.product(channels, classes, sides)]
    terms = np.array(counts, dtype=object).reshape(3, 2, 2)  # of the polynomial: powers of C, of K, of HW
    for axis, points in enumerate((channels, classes, [side**2 for side in sides])):
        terms = np.apply_along_axis(lambda values, points=points: _coefficients(points, values), axis, terms)
    powers = list(np.ndindex(terms.shape))[::-1]
    told = sum(terms[i, j, k] * CHANNELS**i * CLASSES**j * 100**k for i, j, k in powers)
    if told != _weights(name, CHANNELS, CLASSES, 10):
        return f"{_weights(name, CHANNELS, CLASSES, SIDE):,} at C = {CHANNELS}, K = {CLASSES}"
    words = []
    for i, j, k in powers:
        if factor := terms[i, j, k]:
            units = " ".join([*(["C²" if i == 2 else "C"] if i else []), *["K"] * j, *["HW"] * k])
            words.append(units if factor == 1 and units else f"{float(factor):,.6g} {units}".strip())
    return " + ".join(words).replace("+ -", "- ") or "0"


def _weights(name: str, channels: int, classes: int, side: int) -> int:
    return sum(parameter.numel() for parameter in built(name, channels, classes, side).parameters())


def _coefficients(points: Any, values: Any) -> Any:
    """Of the polynomial through two points or three that are equally far apart, the constant one first."""
    (low, middle), step = points[:2], points[1] - points[0]
    square = (values[2] - 2 * values[1] + values[0]) / (2 * step**2) if len(points) == 3 else Fraction(0)
    each = (values[1] - values[0]) / step - square * (low + middle)
    fixed = values[0] - each * low - square * low**2
    return np.array([fixed, each, square][: len(points)], dtype=object)


def _takes(name: str, side: int) -> bool:
    try:
        head = built(name, side=side).eval()
        return head(torch.zeros(2, CHANNELS, side, side)).shape == (2, CLASSES)
    except (ValueError, RuntimeError):
        return False


class _Alone(nn.Module):
    """A head as a model of which the trunk costs nothing."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image.new_zeros(len(image), CHANNELS, *image.shape[-2:]))
