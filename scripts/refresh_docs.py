"""Write ``docs/pools.md`` and its pictures anew, from the docstrings of the pools, their files in ``conf/pool``, what
they say of themselves and the measured speed (``docs/speed.json``, see ``scripts/benchmark_operators.py``).

    python scripts/refresh_docs.py

Pictures are drawn again only where the numbers in them changed by more than another machine's last digits, or where
drawing them did. Where nothing changed, nothing is written.
"""

import hashlib
import inspect
import json
import re
import sys
import textwrap
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from poolbench.pooling import POOLS, create_pool
from poolbench.records.store import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES, SPEED = ROOT / "docs/pools.md", ROOT / "docs/pools", ROOT / "docs/speed.json"
NUMBERS = PICTURES / "pictures.json"
TOLERANCE = 0.002  # between the numbers in a picture and those of today, which are rounded to 0.001
CHANNELS = 64
LARGE, SMALL = [256, 64, 32, 32], [64, 32, 32, 32]

# Where each group of the table begins.
GROUPS = {
    "max": "Classics",
    "stochastic": "Random",
    "mixed": "Mixtures and learned",
    "blur_max": "Signal processing",
    "space_to_depth": "Today's downsamplers, as controls",
}
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


def main() -> int:
    """Returns: the exit code."""
    PICTURES.mkdir(exist_ok=True)
    known = shown_numbers()
    for name in POOLS.table:
        now = pictured(name).tolist()
        if not alike(known.get(name), now) or not (PICTURES / f"{name}.png").exists():
            known[name] = now
            draw(name, now)
            print(f"docs/pools/{name}.png drawn")
    for path in PICTURES.glob("*.png"):
        if path.stem not in POOLS.table:
            path.unlink()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(known[name])}" for name in POOLS.table)
    numbers = f'{{"drawn by": "{drawn_by()}", "numbers": {{\n{lines}\n}}}}\n'
    for path, text in ((NUMBERS, numbers), (PAGE, page())):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            print(f"{path.relative_to(ROOT)} written")
    return 0


def page() -> str:
    """The text of ``docs/pools.md``."""
    lines = [
        "<!-- written by scripts/refresh_docs.py from the docstrings and docs/speed.json: change those -->",
        "",
        "# The pools",
        "",
        *_wrapped(
            "Every operator maps `(N, C, H, W)` to `(N, C, H', W')` with the same number of channels, and unless it "
            "says otherwise halves a map of any size, rounding down. `create_pool(name, channels=C, **options)` builds "
            "one, `pool=name pool.option=value` puts it into a training, `poolbench gallery` shows what it does to an "
            "image and `poolbench check-pool name` what it promises."
        ),
        *_wrapped(
            "Windows of `kernel_size` pixels start every `stride` pixels, the first one `padding` pixels outside the "
            "map. Cells outside never count: a maximum ignores them, an average divides by the cells inside."
        ),
        *_wrapped(
            f"Weights are for `C` channels; FLOPs a pooled value (two for a multiply-add), at {CHANNELS} channels "
            "where it matters; both with default options. Time is forward and backward together, as a multiple of "
            f"torch's own channels_last `max_pool2d` in the same run, on maps {tuple(LARGE)} in channels_last with one "
            "thread."
        ),
        *_wrapped(
            "In the pictures one 8x8 map goes through each pool, in evaluation and with the weights that it starts "
            "with: a slope, a bright dot, a fine texture and an edge. Four channels went in, this map and the same "
            "moved by two pixels down, right and both, round the border; the first that came out is shown, of random "
            "weights the first that is not constant."
        ),
        "| pool | in one line | weights | FLOPs | time |",
        "|---|---|---:|---:|---:|",
    ]
    for name in POOLS.table:
        pool, text = example(name), parsed(name)
        row = [f"[`{name}`](#{name})", text["first"], formula(name), flops(pool), multiple(name) or "–"]
        lines.append(_row(row))
    lines += ["", *properties_section()]
    for name in POOLS.table:
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}"]
        lines += ["", *section(name)]
    lines += ["", *speed_section()]
    return "\n".join(lines).rstrip() + "\n"


def properties_section() -> list[str]:
    """What each pool says of itself, as one table."""
    shown = {attribute: words for attribute, words in PROPERTIES.items() if attribute != "random_evaluation"}
    lines = [
        "## Properties",
        "",
        *_wrapped(
            "What each pool is by its formula, with default options, in evaluation and with the weights that it starts "
            "with; ○ where it depends on the weights. Tests hold ours to what is marked, and to not having what is "
            "not. *Mixes*: an output channel sees several input channels. *Draws*: at random, in training. "
            "*Constants*: a constant map of at least 0 keeps its level. *Range*: nothing leaves that of the input. "
            "*Odd*: `f(-x) = -f(x)`. *Scale*: `f(a x) = a f(x)` for `a > 0`. *Offset*: `f(x + b) = f(x) + b`. *Sign*: "
            "`x >= 0` gives `f(x) >= 0`. *Mirror*: mirroring before or after is the same. *Places*: moving the map by "
            "a stride moves the output by a pixel. *ONNX*: `torch.onnx` exports it, and onnxruntime gives the same."
        ),
        _row(["pool", *(head for head, _ in shown.values()), "ONNX"]),
        f"|---|{':-:|' * (len(shown) + 1)}",
    ]
    for name in POOLS.table:
        said = [getattr(example(name), attribute) for attribute in (*shown, "onnx")]
        lines.append(_row([f"[`{name}`](#{name})", *("○" if value is None else "●" * value for value in said)]))
    return lines


def section(name: str) -> list[str]:
    """All about one pool."""
    pool, text = example(name), parsed(name)
    told = [words for attribute, (_, words) in PROPERTIES.items() if getattr(pool, attribute)]
    unsaid = [words for attribute, (_, words) in PROPERTIES.items() if getattr(pool, attribute) is None]
    said = ", ".join(told) + (f"; depending on its weights: {', '.join(unsaid)}" if unsaid else "")
    options = [f"- {', '.join(f'`{o}` = `{d}`' for o, d in group)}: {meaning}" for group, meaning in options_of(name)]
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
        "**Options.**" if options else "**Options.** None.",
        "",
        *([*options, ""] if options else []),
        f"**When to use it.** {text['Use']}",
        "",
        f"**Properties.** {said[0].upper()}{said[1:]}.",
        "",
        f"**Shape.** {text['Shape']}.",
        "",
        f"**Cost.** {'; '.join(cost)}. ONNX: {'yes' if pool.onnx else 'no'}.",
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


@cache
def parsed(name: str) -> dict[str, str]:
    """The docstring in Markdown: ``first`` line, ``body``, and each marked part."""
    doc = inspect.getdoc(POOLS.find(name)) or ""
    first, _, rest = doc.partition("\n\n")
    first = " ".join(first.split())
    parts = re.split(r"^(Args|Use|Shape|Raises|Source):[ \n]", rest, flags=re.M)
    found = {"first": _inline(first), "body": _markdown(parts[0])}
    for mark, text in zip(parts[1::2], parts[2::2], strict=True):
        found[mark] = text if mark == "Args" else _inline(" ".join(text.split())).rstrip(".") + "." * (mark == "Use")
    if "Use" in found:
        found["Use"] = found["Use"][0].upper() + found["Use"][1:]
    missing = [mark for mark in ("Use", "Shape", "Source") if mark not in found]
    if missing:
        raise ValueError(f"the docstring of pool {name!r} has no part {', '.join(missing)}")
    return found


def config_of(name: str) -> dict[str, Any]:
    """The options with their defaults, as in the YAML."""
    config = yaml.safe_load((ROOT / f"conf/pool/{name}.yaml").read_text(encoding="utf-8"))
    return {option: default for option, default in config.items() if option != "_target_"}


def options_of(name: str) -> list[tuple[list[tuple[str, str]], str]]:
    """Names and defaults of the options that the docstring describes together, and what it says of them."""
    config, found = config_of(name), []
    for entry in re.split(r"^ {4}(?=\S)", parsed(name)["Args"], flags=re.M):
        names, _, meaning = entry.partition(":")
        group = [(option, json.dumps(config[option])) for option in names.strip().split(", ") if option in config]
        if group:
            found.append((group, _inline(" ".join(meaning.split()))))
    lost = config.keys() - {option for group, _ in found for option, _ in group}
    if lost:
        raise ValueError(f"the docstring of pool {name!r} does not describe {', '.join(sorted(lost))}")
    return found


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _wrapped(text: str) -> list[str]:
    return [*textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False), ""]


def _markdown(text: str) -> str:
    """Paragraphs and displayed formulas of a docstring."""
    lines: list[str] = []
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    for block in blocks:
        if block.lstrip().startswith(".. math::"):
            # Between $$ GitHub takes the backslash of \\, and \\; away before they are read as a formula.
            lines += ["```math", " ".join(block.replace(".. math::", " ", 1).split()), "```", ""]
        elif block.strip():
            lines += [_inline(block.strip()), ""]
    return "\n".join(lines).strip()


def _inline(text: str) -> str:
    """References, formulas and code of a docstring within a line."""
    text = text.replace(", see :class:`~poolbench.pooling.base.Pool`", "")
    text = re.sub(r":math:`([^`]+)`", lambda m: f"$`{' '.join(m[1].split())}`$", text)
    text = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return re.sub(r"``([^`]+)``", lambda m: f"`{m[1]}`", text)


def picture_map() -> torch.Tensor:
    """The map of the pictures, ``(1, 1, 8, 8)``, from 0 to 1: a slope, an edge, a bright dot, a fine texture."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    x = 0.1 + 0.3 * columns / 7
    x = torch.where((rows >= 4) & (columns < 4), 0.2 + 0.4 * ((rows + columns) % 2), x)
    x = torch.where((rows >= 3) & (columns >= 5), 0.9, x)
    x[1, 2] = 1.0
    return x[None, None]


def pictured(name: str) -> torch.Tensor:
    """What the pool makes of :func:`picture_map`, ``(H', W')``, rounded: the first of four channels, or the first in
    which there is something to see. The others get the map moved by whole strides, since normalising over channels that
    are alike would leave nothing."""
    x = picture_map()
    maps = torch.cat([x, *(x.roll(by, dims=(2, 3)) for by in ((2, 0), (0, 2), (2, 2)))], dim=1)
    torch.manual_seed(0)
    pool = create_pool(name, channels=4).eval()
    with torch.no_grad():
        y = pool(maps)[0]
    shown = next((channel for channel in y if channel.max() - channel.min() > 0.01), y[0])
    return (shown.double() * 1000).round() / 1000 + 0.0  # no -0


def shown_numbers() -> dict[str, Any]:
    """The numbers in the pictures that are there; none if they were drawn in another way."""
    known = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    return known["numbers"] if known.get("drawn by") == drawn_by() else {}


def drawn_by() -> str:
    """A name for how pictures are drawn: the hash of the code that does it."""
    text = inspect.getsource(draw) + inspect.getsource(picture_map)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def alike(shown: list[list[float]] | None, numbers: list[list[float]]) -> bool:
    """Are these the numbers that are shown, last digits apart?"""
    if shown is None or [len(row) for row in shown] != [len(row) for row in numbers]:
        return False
    return (torch.tensor(shown) - torch.tensor(numbers)).abs().max().item() <= TOLERANCE


def draw(name: str, numbers: list[list[float]]) -> None:
    """The map and what is made of it, side by side, the latter with its numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 2.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, values in zip(figure.subplots(1, 2), (picture_map()[0, 0].numpy(), np.array(numbers)), strict=True):
        low, high = values.min(), values.max()
        own = low < 0 or high > 1.05 or high < 0.4
        low, high = (low, max(high, low + 1e-6)) if own else (0.0, 1.0)
        axes.imshow(values, cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(f"{values.shape[0]}x{values.shape[1]}{', in its own range' if own else ''}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        if len(values) < 8:
            for (row, column), value in np.ndenumerate(values):
                ink = "black" if (value - low) / (high - low) > 0.6 else "white"
                axes.text(column, row, f"{value + 0.0:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    figure.savefig(PICTURES / f"{name}.png", metadata={"Software": None})


@cache
def speed() -> dict[str, Any]:
    """What was measured; nothing where it was not."""
    return json.loads(SPEED.read_text(encoding="utf-8")) if SPEED.exists() else {"machine": {}, "rows": []}


def timing(name: str, shape: list[int], memory_format: str, threads: int) -> dict[str, Any] | None:
    """The measurement of one pool in one setting."""
    wanted = {"pool": name, "shape": shape, "memory_format": memory_format, "threads": threads}
    return next((row for row in speed()["rows"] if all(row[key] == value for key, value in wanted.items())), None)


def multiple(name: str) -> str:
    """Of max pooling, in the setting of the first table; nothing where it was not measured."""
    row = timing(name, LARGE, "channels_last", 1)
    return "" if row is None or "error" in row else f"{row['multiple']:.1f}"


def speed_section() -> list[str]:
    """The measurements in all settings."""
    machine = speed()["machine"]
    if not machine:
        return []
    lines = [
        "## Speed",
        "",
        *_wrapped(
            f"{machine['cpu']} ({machine['capability']}, {machine['cores']} cores), torch {machine['torch']}, float32, "
            f"freed memory {'kept' if machine['allocator_kept'] else 'given back'}; "
            "`python scripts/benchmark_operators.py`. Every operator is timed in turn with torch's max pooling and a "
            "copy of the map; medians of the ratios within a round. "
            f"Measured at commit `{str(machine.get('commit'))[:7]}`"
            f"{' with uncommitted changes' if machine.get('dirty') else ''}."
        ),
        *(_wrapped(speed()["note"]) if "note" in speed() else []),
        *_wrapped(
            f"**Maps {tuple(LARGE)}, channels_last, one thread.** *Floors*: multiple of the time in which the input, "
            "the output and both gradients could be read or written once, at the speed of the copy. *Memory*: most "
            "bytes in use at once beyond these four, over those of the input."
        ),
        "| pool | forward ms | backward ms | total ms (quartiles) | x max | floors | memory | MFLOPs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in POOLS.table:
        row = timing(name, LARGE, "channels_last", 1)
        if row is not None and "error" not in row:
            low, high = row["quartiles_ms"]
            cells = [f"{row['forward_ms']:.1f}", f"{row['backward_ms']:.1f}"]
            cells += [f"{row['total_ms']:.1f} ({low:.1f} to {high:.1f})", f"{row['multiple']:.2f}"]
            cells += [f"{row['floors']:.1f}", f"{row['extra_memory']:.2f}", f"{LARGE[0] * row['flops'] / 1e6:,.0f}"]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    settings = [(s, f, t) for s in (LARGE, SMALL) for f in ("channels_last", "contiguous") for t in (1, 2)]
    titles = [f"{s[0]}x{s[1]}, {f.replace('contiguous', 'default')}, {t}" for s, f, t in settings]
    lines += [
        "",
        *_wrapped(
            "**All settings**, as multiples of torch's channels_last max pooling in the same setting: images x "
            "channels (of 32x32 pixels), memory format, threads."
        ),
        f"| pool | {' | '.join(titles)} |",
        f"|---|{'---:|' * len(titles)}",
    ]
    for name in POOLS.table:
        rows = [timing(name, *setting) for setting in settings]
        cells = ["–" if row is None or "error" in row else f"{row['multiple']:.1f}" for row in rows]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
