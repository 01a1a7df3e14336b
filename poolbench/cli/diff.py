"""What differs between two records: options, environment, result, time, and the last epoch of their curves.

RUN is a record's folder, its run_id, or a unique beginning or end of that; PLACE:RUN is one of another folder of
records or of an archive, as `results/2026_five_pools:max-convnet-cifar10-s0`. Exit code 0, whatever differs.

`--json` gives one object with the keys a, b, same_cell, same_result, config, outside (options that are no part of what
the cell is), environment, result, test_accuracy_points (b minus a), measured, epoch (the last), parts_in_epoch.
"""

import argparse
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolbench.records.files import json_ready
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="RUN")
    parser.add_argument("b", metavar="RUN")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where records are (runs)")
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.difference import difference
    from poolbench.records.find import find_run

    found = difference(*(find_run(run, arguments.runs_dir) for run in (arguments.a, arguments.b)))
    if arguments.json:
        print(json.dumps(json_ready(found), indent=2, allow_nan=False))
    else:
        show(found)
    return 0


def show(found: Mapping[str, Any]) -> None:
    """Print what :func:`poolbench.records.difference.difference` found, for people."""
    for side in ("a", "b"):
        who = found[side]
        print(f"{side}: {printable(who['run_id'])} ({who['state']})\n   {printable(who['path'])}")
    sections = {
        "config": "config",
        "outside": "places, device and labels, which are no part of what a cell is",
        "environment": "environment",
        "result": "result",
        "measured": "time and memory, measured anew by every training",
        "epoch": "last epoch",
    }
    if not any(found[section] for section in sections) and found["parts_in_epoch"] is None:
        print("\nNothing differs.")
        return
    for section, title in sections.items():
        if found[section]:
            print(f"\n{title}")
            _table(found[section])
    print()
    if found["test_accuracy_points"] is not None:
        print(f"test accuracy: b is {found['test_accuracy_points']:+.2f} points from a")
    if found["images"] is not None:
        print(_of_images(found["images"]))
    if found["parts_in_epoch"] is not None:
        print(f"the learning curves part in epoch {found['parts_in_epoch']}")
    if found["same_cell"]:
        print("same cell, " + ("same result to the last bit" if found["same_result"] else "not the same result"))


def _of_images(images: Mapping[str, Any]) -> str:
    """On which test images one alone is right, and how far that would be told by other images."""
    half = 1.96 * images["spread"]
    text = (
        f"of {images['images']:,} test images a alone is right on {images['only_a']:,} and b alone on "
        f"{images['only_b']:,}: with other images of this kind b would be {images['points'] - half:+.2f} to "
        f"{images['points'] + half:+.2f} points from a (95 %)"
    )
    if images["by_class"]:
        low, high = min(images["by_class"]), max(images["by_class"])
        worst, best = images["by_class"].index(low), images["by_class"].index(high)
        text += f"; by class from {low:+.1f} (class {worst}) to {high:+.1f} (class {best})"
    return textwrap.fill(text, 100)


def _table(differing: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each name, ``name  a -> b``; over several lines where 80 columns are too few."""
    names = {name: printable(name) for name in differing}
    width = min(30, max(map(len, names.values())))
    for name, values in differing.items():
        a, b = (_short(name, values[side]) if side in values else "(none)" for side in ("a", "b"))
        line = f"  {names[name]:<{width}}  {a} -> {b}"
        if len(line) <= 80:
            print(line)
        else:
            print(f"  {names[name]}")
            for side, text in (("    a: ", a), ("    b: ", b)):
                print(textwrap.fill(text, 80, initial_indent=side, subsequent_indent=7 * " "))


def _short(name: str, value: Any) -> str:
    if name.endswith("accuracy") and isinstance(value, int | float) and math.isfinite(value):
        return f"{100 * value:.4f}".rstrip("0").rstrip(".") + " %"  # more digits than tables have: small is not equal
    text = printable(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
