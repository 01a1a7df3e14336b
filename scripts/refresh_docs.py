"""Write ``docs/pools.md`` and its pictures anew, from the docstrings of the pools, their files in ``conf/pool``, what
they say of themselves and the measured speed (``docs/speed.json``, see ``scripts/benchmark_operators.py``).

    python scripts/refresh_docs.py

Pictures are drawn again only where the numbers in them changed. Where nothing changed, nothing is written.
"""

import hashlib
import inspect
import json
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from poolbench.pooling import POOLS, create_pool
from poolbench.records.store import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES, SPEED = ROOT / "docs/pools.md", ROOT / "docs/pools", ROOT / "docs/speed.json"
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
PROPERTIES = {
    "mixes_channels": "mixes channels",
    "random": "draws in training",
    "random_evaluation": "draws in evaluation",
    "keeps_constants": "keeps constant maps",
    "bounded": "stays in the range of its input",
    "odd": "odd: f(-x) = -f(x)",
    "homogeneous": "homogeneous: f(ax) = a f(x) for a > 0",
    "follows_offset": "follows offsets: f(x + b) = f(x) + b",
    "keeps_sign": "keeps x >= 0 that way",
    "mirrors": "commutes with mirroring",
    "stationary": "alike everywhere on the map",
}


def main() -> int:
    """Returns: the exit code."""
    known = json.loads((PICTURES / "pictures.json").read_text()) if (PICTURES / "pictures.json").exists() else {}
    hashes = {name: picture_hash(name) for name in POOLS.table}
    PICTURES.mkdir(exist_ok=True)
    for name, value in hashes.items():
        if known.get(name) != value or not (PICTURES / f"{name}.png").exists():
            draw(name)
            print(f"docs/pools/{name}.png drawn")
    for path in PICTURES.glob("*.png"):
        if path.stem not in hashes:
            path.unlink()
    for path, text in ((PICTURES / "pictures.json", json.dumps(hashes, indent=1) + "\n"), (PAGE, page())):
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
            f"Weights are for {CHANNELS} channels, FLOPs a pooled value (two for a multiply-add), both with default "
            "options. Time is forward and backward together, as a multiple of torch's own channels_last `max_pool2d` "
            f"in the same run, on maps {tuple(LARGE)} in channels_last with one thread. ONNX: whether `torch.onnx` "
            "exports it with the same values in onnxruntime."
        ),
        "| pool | in one line | weights | FLOPs | time | ONNX |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name in POOLS.table:
        pool, text = example(name), parsed(name)
        onnx = "yes" if pool.onnx else "no"
        row = [f"[`{name}`](#{name})", text["first"], f"{weights(pool):,}", flops(pool), multiple(name), onnx]
        lines.append(f"| {' | '.join(row)} |")
    for name in POOLS.table:
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}"]
        lines += ["", *section(name)]
    lines += ["", *speed_section()]
    return "\n".join(lines).rstrip() + "\n"


def section(name: str) -> list[str]:
    """All about one pool."""
    pool, text = example(name), parsed(name)
    told = [words for attribute, words in PROPERTIES.items() if getattr(pool, attribute)]
    unsaid = [words for attribute, words in PROPERTIES.items() if getattr(pool, attribute) is None]
    said = ", ".join(told) + (f"; depending on its weights: {', '.join(unsaid)}" if unsaid else "")
    options = [f"- `{option}` = `{default}`: {meaning}" for option, default, meaning in options_of(name)]
    return [
        f"### {name}",
        "",
        text["first"],
        "",
        f"![An 8x8 map and what {name} makes of it](pools/{name}.png)",
        "",
        text["body"],
        "",
        *(options or ["- no options"]),
        "",
        f"**When to use it.** {text['Use']}",
        "",
        f"**Properties.** {said[0].upper()}{said[1:]}. {text['Shape']}.",
        "",
        f"**Cost.** {weights(pool):,} weights at {CHANNELS} channels; {flops(pool)} FLOPs a pooled value; "
        f"{multiple(name)} times max pooling.",
        "",
        f"**Source.** {text['Source']}",
    ]


@cache
def example(name: str) -> Any:
    """The pool with its default options, its weights as they are for one seed."""
    torch.manual_seed(0)
    return create_pool(name, channels=CHANNELS).eval()


def weights(pool: Any) -> int:
    """Numbers that are learned."""
    return sum(p.numel() for p in pool.parameters())


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


def options_of(name: str) -> list[tuple[str, str, str]]:
    """Option, default as in its YAML, meaning as in its docstring."""
    config = yaml.safe_load((ROOT / f"conf/pool/{name}.yaml").read_text(encoding="utf-8"))
    meanings: dict[str, str] = {}
    for entry in re.split(r"^ {4}(?=\S)", parsed(name)["Args"], flags=re.M):
        names, _, meaning = entry.partition(":")
        for option in names.split(","):
            meanings[option.strip()] = _inline(" ".join(meaning.split()))
    return [
        (option, json.dumps(default), meanings[option]) for option, default in config.items() if option != "_target_"
    ]


def _wrapped(text: str) -> list[str]:
    return [*textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False), ""]


def _markdown(text: str) -> str:
    """Paragraphs and displayed formulas of a docstring."""
    lines: list[str] = []
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    for block in blocks:
        if block.lstrip().startswith(".. math::"):
            formula = " ".join(block.replace(".. math::", " ", 1).split())
            lines += ["$$", formula, "$$", ""]
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
    """What the pool makes of :func:`picture_map`, ``(H', W')``: the first channel of two that are alike."""
    torch.manual_seed(0)
    pool = create_pool(name, channels=2).eval()
    with torch.no_grad():
        return pool(picture_map().expand(1, 2, 8, 8).contiguous())[0, 0]


def picture_hash(name: str) -> str:
    """Of the numbers in a picture, rounded so that another machine's last digits change nothing."""
    text = " ".join(f"{value:.3f}" for value in (pictured(name) + 1e-6).flatten().tolist())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw(name: str) -> None:
    """The map and what is made of it, side by side."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    y = pictured(name)
    figure, axes = plt.subplots(1, 2, figsize=(4.2, 2.35), dpi=100, layout="constrained")
    for axis, map, title in zip(axes, (picture_map()[0, 0], y), ("8x8", f"{y.shape[0]}x{y.shape[1]}"), strict=True):
        low, high = map.min().item(), map.max().item()
        if low >= 0 and 0.4 < high <= 1:
            low, high = 0.0, 1.0  # else in its own range, which the title tells
        axis.imshow(map, cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        beyond = f", {map.min().item():.2f} to {map.max().item():.2f}" if axis is axes[1] else ""
        axis.set_title(f"{title}{beyond}", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(PICTURES / f"{name}.png", metadata={"Software": None})
    plt.close(figure)


@cache
def speed() -> dict[str, Any]:
    """What was measured; nothing where it was not."""
    return json.loads(SPEED.read_text(encoding="utf-8")) if SPEED.exists() else {"machine": {}, "rows": []}


def timing(name: str, shape: list[int], memory_format: str, threads: int) -> dict[str, Any] | None:
    """The measurement of one pool in one setting."""
    wanted = {"pool": name, "shape": shape, "memory_format": memory_format, "threads": threads}
    return next((row for row in speed()["rows"] if all(row[key] == value for key, value in wanted.items())), None)


def multiple(name: str) -> str:
    """Of max pooling, in the setting of the first table."""
    row = timing(name, LARGE, "channels_last", 1)
    return "–" if row is None else f"{row['multiple']:.1f}"


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
            "copy of the map; medians of the ratios within a round."
        ),
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
