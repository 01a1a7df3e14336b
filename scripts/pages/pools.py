"""``docs/pools.md``: a table, what each pool is by its formula, a section a pool, and the speeds."""

from fractions import Fraction
from functools import cache
from typing import Any

import torch

from pages.docstrings import ROOT, config_of, options_listed, parsed
from pages.markdown import row, wrapped
from pages.speed import LARGE, multiple, speed_section
from poolbench.pooling import POOLS, create_pool
from poolbench.pooling.base import Pool

CHANNELS = 64

# Where each group of the table begins.
GROUPS = {
    "max": "Classics",
    "stochastic": "Random",
    "mixed": "Mixtures and learned",
    "blur_max": "Signal processing",
    "space_to_depth": "Today's downsamplers, as controls",
}
TOLD = ROOT / "docs/pools/pools.json"
# What a pool says of itself: the head of a column, the words in its section.
PROPERTIES = {
    "mixes_channels": ("mixes", "mixes channels"),
    "random": ("draws", "draws in training"),
    "random_evaluation": ("draws in evaluation", "draws in evaluation"),
    "keeps_constants": ("constants", "keeps constant maps"),
    "bounded": ("range", "stays in the range of its input"),
    "odd": ("odd", "odd: `f(-x) = -f(x)`"),
    "homogeneous": ("scale", "homogeneous: `f(a x) = a f(x)` for `a > 0`"),
    "follows_offset": ("offset", "follows offsets: `f(x + b) = f(x) + b`"),
    "keeps_sign": ("sign", "keeps `x >= 0` that way"),
    "mirrors": ("mirror", "commutes with mirroring"),
    "stationary": ("places", "alike everywhere on the map"),
}


def page() -> str:
    """The text of ``docs/pools.md``."""
    lines = [
        "<!-- written by scripts/refresh_docs.py from the docstrings and docs/speed.json: change those -->",
        "",
        "# The pools",
        "",
        *wrapped(
            "Every operator maps `(N, C, H, W)` to `(N, C, H', W')` with the same number of channels, and unless it "
            "says otherwise halves a map of any size, rounding down. `create_pool(name, channels=C, **options)` builds "
            "one, `pool=name pool.option=value` puts it into a training, `poolbench gallery` shows what it does to an "
            "image and `poolbench check-pool name` what it promises."
        ),
        *wrapped(
            "Windows of `kernel_size` pixels start every `stride` pixels, the first one `padding` pixels outside the "
            "map. Cells outside never count: a maximum ignores them, an average divides by the cells inside."
        ),
        *wrapped(
            "Each of the three may be `(rows, columns)`, on the command line `'pool.kernel_size=[3,2]'`, in all pools "
            f"but {_named(False)}, which say why not. The same pools serve maps `(N, C, L)`: with `create_pool(name, "
            "channels=C, dims=1, **options)` a pool does to a sequence what it does to a map of one row."
        ),
        *wrapped(
            f"Weights are for `C` channels; FLOPs a pooled value (two for a multiply-add), at {CHANNELS} channels "
            "where it matters; both with default options. Time is forward and backward together, as a multiple of "
            f"torch's own channels_last `max_pool2d` in the same run, on maps {tuple(LARGE)} in channels_last with one "
            "thread."
        ),
        *wrapped(
            "In the pictures one 8x8 map goes through each pool, in evaluation and with the weights that it starts "
            "with: a slope, a bright dot, a fine texture and an edge. Four channels went in, this map and the same "
            "moved by two pixels down, right and both, round the border; the first that came out is shown, of random "
            "weights the first that is not constant."
        ),
        "| pool | in one line | weights | FLOPs | time |",
        "|---|---|---:|---:|---:|",
    ]
    for name in POOLS.table:
        pool, text = example(name), parsed(POOLS.find(name))
        cells = [f"[`{name}`](#{name})", text["first"], formula(name), flops(pool), multiple(name) or "–"]
        lines.append(row(cells))
    lines += ["", *properties_section()]
    for name in POOLS.table:
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}"]
        lines += ["", *section(name)]
    lines += ["", *speed_section()]
    return "\n".join(lines).rstrip() + "\n"


def _named(rectangles: bool) -> str:
    """The pools that take rectangles, or those that do not."""
    *names, last = (f"`{name}`" for name in POOLS.table if POOLS.find(name).rectangles == rectangles)
    return f"{', '.join(names)} and {last}"


def told() -> dict[str, dict[str, str]]:
    """Family, first line and source of each pool in plain words, for pages that are made without torch."""
    found, family = {}, ""
    for name in POOLS.table:
        family = GROUPS.get(name, family)
        line, source = POOLS.describe(name)
        found[name] = {"family": family, "line": line.replace("`", ""), "source": source.rstrip(".").replace("`", "")}
    return found


def properties_section() -> list[str]:
    """What each pool says of itself, as one table."""
    shown = {attribute: words for attribute, words in PROPERTIES.items() if attribute != "random_evaluation"}
    lines = [
        "## Properties",
        "",
        *wrapped(
            "What each pool is by its formula, with default options, in evaluation and with the weights that it starts "
            "with; ○ where it depends on the weights. Tests hold ours to what is marked, and to not having what is "
            "not. *Mixes*: an output channel sees several input channels. *Draws*: at random, in training. "
            "*Constants*: a constant map of at least 0 keeps its level. *Range*: nothing leaves that of the input. "
            "*Odd*: `f(-x) = -f(x)`. *Scale*: `f(a x) = a f(x)` for `a > 0`. *Offset*: `f(x + b) = f(x) + b`. *Sign*: "
            "`x >= 0` gives `f(x) >= 0`. *Mirror*: mirroring before or after is the same. *Places*: moving the map by "
            "a stride moves the output by a pixel. *ONNX*: `torch.onnx` exports it, and onnxruntime gives the same; ○ "
            "for one height and width only: an export that leaves them open is refused."
        ),
        row(["pool", *(head for head, _ in shown.values()), "ONNX"]),
        f"|---|{':-:|' * (len(shown) + 1)}",
    ]
    for name in POOLS.table:
        pool = example(name)
        said = [*(getattr(pool, attribute) for attribute in shown), pool.onnx and (pool.dynamic_sizes or None)]
        lines.append(row([f"[`{name}`](#{name})", *("○" if value is None else "●" * value for value in said)]))
    return lines


def _onnx(pool: Pool) -> str:
    if not pool.onnx:
        return "no"
    return "yes, with height and width open too" if pool.dynamic_sizes else "yes, for one height and width"


def section(name: str) -> list[str]:
    """All about one pool."""
    pool, text = example(name), parsed(POOLS.find(name))
    told = [words for attribute, (_, words) in PROPERTIES.items() if getattr(pool, attribute)]
    unsaid = [words for attribute, (_, words) in PROPERTIES.items() if getattr(pool, attribute) is None]
    said = ", ".join(told) + (f"; depending on its weights: {', '.join(unsaid)}" if unsaid else "")
    count, time = weights(pool), multiple(name)
    cost = [
        f"{count:,} weight{'s' * (count != 1)} at {CHANNELS} channels" + f" ({formula(name)})" * ("C" in formula(name)),
        f"{flops(pool)} FLOPs a pooled value",
        *([f"{time} times max pooling in time"] if time else []),
    ]
    return [
        f"### {name}",
        "",
        text["first"],
        "",
        f"![An 8x8 map and what {name} makes of it](pools/{name}.png)",
        "",
        text["body"],
        "",
        *options_listed(POOLS.find(name), config_of("pool", name)),
        f"**When to use it.** {text['Use']}",
        "",
        f"**Properties.** {said[0].upper()}{said[1:]}.",
        "",
        f"**Shape.** {text['Shape']}.",
        "",
        f"**Cost.** {'; '.join(cost)}. ONNX: {_onnx(pool)}.",
        "",
        f"**Source.** {text['Source']}.",
    ]


@cache
def example(name: str, channels: int = CHANNELS) -> Any:
    """The pool with its default options, its weights as they are for one seed."""
    torch.manual_seed(0)
    return create_pool(name, channels=channels).eval()


def weights(pool: Any) -> int:
    """Numbers that are learned."""
    return sum(p.numel() for p in pool.parameters())


@cache
def formula(name: str) -> str:
    """The number of weights by the number of channels ``C``: ``9 C² + 2 C``, ``256`` if it does not depend on it."""
    low, middle, high, far = (weights(example(name, channels)) for channels in (16, 32, 48, 64))
    square = Fraction(high - 2 * middle + low, 2 * 16**2)
    each = Fraction(middle - low, 16) - 48 * square
    fixed = low - 16 * each - 256 * square
    if square * 64**2 + each * 64 + fixed != far:
        return f"{far:,} at {CHANNELS}"
    parts = ((square, " C²"), (each, " C"), (fixed, ""))
    terms = [f"{float(a):,.6g}{unit}" if a != 1 or not unit else unit.strip() for a, unit in parts if a]
    return " + ".join(terms).replace("+ -", "- ") or "0"


def flops(pool: Any) -> str:
    """Operations for one pooled value."""
    height, width = pool.output_size((32, 32))
    return f"{pool.flops((32, 32)) / (CHANNELS * height * width):,.0f}"
