"""Train one cell, as `poolbench run pool=lp pool.p=3 data=cifar10 data.root=data trainer.epochs=5 seed=1`.

Killed at any moment, the same command goes on from the last finished epoch; a cell that is done is not trained again.
`--cfg job` prints the config with every option instead of training.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from poolbench.cli.options import add_overrides
from poolbench.cli.words import duration, percent
from poolbench.records.labels import cell_name
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cfg", choices=["job"], help="print the completed config and exit")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.read import read_record
    from poolbench.records.state import DONE
    from poolbench.sweep.plan import make_plan

    (cell,) = make_plan(arguments.overrides, arguments.config_dir, single=True, trust=arguments.trust).cells
    if arguments.cfg:
        import yaml

        print(yaml.safe_dump(cell.config, sort_keys=False), end="")
        return 0
    if cell.state() == DONE:
        print(f"{_name(cell.config)} is done already.")
    else:
        from poolbench.sweep.workers import writable

        writable(Path(cell.config["runs_dir"]))
        state = train_here(cell.config)
        if state == "failed":
            from poolbench.sweep.workers import read_status

            reason = (read_status(cell.folder) or {}).get("error")
            who = f"{_name(cell.config)} failed"
            print(f"poolbench: {who}: {reason} ({cell.folder / 'error.txt'} has more)", file=sys.stderr)
            return 1
    result = read_record(cell.folder).result or {}
    print(
        f"test accuracy {percent(result['test_accuracy'])}, train {percent(result['train_accuracy'])}, "
        f"{result['parameters']:,} parameters, {_flops(result['forward_flops'])}, "
        f"trained in {duration(result['train_seconds'])}\n{cell.folder}"
    )
    return 0


def _name(config: dict[str, Any]) -> str:
    return printable(cell_name(config))


def _flops(count: float | None) -> str:
    return "FLOPs not counted: a pool says none" if count is None else f"{count / 1e6:.1f} MFLOPs an image"


def train_here(config: dict[str, Any]) -> str:
    """Train a cell in this process, showing how it gets on. Returns: its state, ``done`` or ``failed``."""
    from poolbench.assembly import assemble
    from poolbench.cell import train_cell
    from poolbench.records.environment import code_version

    assemble(config).source.prepare()  # what cannot work is said before anything is written
    print(_name(config))
    line = _Line()
    code = code_version()
    while (state := train_cell(config, code, announce=line.show)) == "busy":
        line.say("another process is training this cell; waiting for it")
        time.sleep(1)
    line.end()
    return state


class _Line:
    """The running epoch on one line that is written over, or one line an epoch where there is no terminal."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.shown: Any = None

    def show(self, status: dict[str, Any]) -> None:
        if status["state"] == "damaged":
            self.say(f"its record could not be read and was {status['error']}")
        elif status["state"] == "running" and status["train_accuracy"] is not None:
            text = (
                f"epoch {status['epoch']:.1f}/{status['epochs']}  train {percent(status['train_accuracy'])}  "
                f"{status['images_per_second']:.0f} images/s  {duration(status['seconds_left'])} left"
            )
            if self.live:
                print(f"\r{text:<78}", end="", flush=True)
            elif int(status["epoch"]) != self.shown:
                self.shown = int(status["epoch"])
                print(text, flush=True)

    def say(self, text: str) -> None:
        if self.shown != text:
            self.shown = text
            print(text, flush=True)

    def end(self) -> None:
        if self.live:
            print()
