"""One record: its config, learning curve and result. RUN is its folder, its run_id, or the beginning or end of that."""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolbench.cli.words import percent
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where records are (runs)")


def main(arguments: argparse.Namespace) -> int:
    import yaml

    from poolbench.records.find import find_record
    from poolbench.records.read import read_record
    from poolbench.records.state import cell_state

    folder = find_record(arguments.run, arguments.runs_dir)
    record = read_record(folder)
    print(f"{printable(folder)}: {cell_state(folder)}\n")
    print(yaml.safe_dump(record.config, sort_keys=False))
    if record.metrics:
        print("epoch  learning rate  train loss  train  validation  images/s")
    for row in record.metrics:
        print(
            f"{_cell(row, 'epoch', 5, '.0f')}  {_cell(row, 'learning_rate', 13, '.5f')}  "
            f"{_cell(row, 'train_loss', 10, '.4f')}  {percent(row.get('train_accuracy')):>6}  "
            f"{percent(row.get('validation_accuracy')):>9}  {_cell(row, 'images_per_second', 8, '.0f')}"
        )
    for title, values in (("result", record.result), ("environment", record.environment)):
        print("".join(f"{line}\n" for line in _section(title, values or {})), end="")
    error = (record.status or {}).get("error")
    if error:
        print(f"\nerror: {printable(error)}")
    return 0


def _cell(row: Mapping[str, Any], name: str, width: int, form: str) -> str:
    value = row.get(name)
    return f"{'-' if value is None else format(value, form):>{width}}"


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    """A line a value that there is, names to the left; what files hold in full is rounded here."""
    shown = {printable(key): _value(key, value) for key, value in values.items() if value is not None}
    width = max(map(len, shown), default=0)
    return [f"\n{title}", *(f"  {key:<{width}}  {text}" for key, text in shown.items())] if shown else []


def _value(name: Any, value: Any) -> str:
    name = str(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(value)
    if not math.isfinite(value):
        return str(value)
    if "accuracy" in name and 0 <= value <= 1:
        return f"{100 * value:.2f} %"
    if name.endswith("seconds"):
        return f"{value:,.1f}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}"
