"""The measured speed of the pools, ``docs/speed.json``, which ``scripts/benchmark_operators.py`` writes."""

import json
from functools import cache
from typing import Any

from pages.docstrings import ROOT
from pages.markdown import wrapped
from poolbench.pooling import POOLS

SPEED = ROOT / "docs/speed.json"
LARGE, SMALL = [256, 64, 32, 32], [64, 32, 32, 32]


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
        *wrapped(
            f"{machine['cpu']} ({machine['capability']}, {machine['cores']} cores), torch {machine['torch']}, float32, "
            f"freed memory {'kept' if machine['allocator_kept'] else 'given back'}; "
            "`python scripts/benchmark_operators.py`. Every operator is timed in turn with torch's max pooling and a "
            "copy of the map; medians of the ratios within a round. "
            f"Measured at commit `{str(machine.get('commit'))[:7]}`"
            f"{' with uncommitted changes' if machine.get('dirty') else ''}."
        ),
        *(wrapped(speed()["note"]) if "note" in speed() else []),
        *wrapped(
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
        *wrapped(
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
