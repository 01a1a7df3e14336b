"""How cells get on: which are done, running, queued, failed and why, the time left and the throughput.

  poolbench status                      the folder runs; or another: poolbench status FOLDER
  poolbench status sweep=demo           the cells of a sweep, also those not begun; takes what `plan` takes
  poolbench status sweep=demo --watch   redraws every second, and ends when nothing runs and nothing is queued

A cell is shown by what it trains and by the end of its run_id, which `poolbench logs` and `show` take. --watch waits
for the first cell.
An interrupted cell was killed and goes on with its sweep; one set aside had a record that could not be read and was
trained again. Time left comes from what running cells say and from done cells of the same config. Cells per hour are
those that ended in the last hour of work.

`--json` gives a list with an object a cell: run_id, name, state (running, queued, interrupted, failed, damaged,
unreadable, set aside, done), folder, epoch, epochs, share_done (of the FLOPs of its training), train_accuracy,
seconds_left, images_per_second, test_accuracy, cell_seconds and finished (of done cells), host (of others), error;
null where there is none. With `--totals` it is one object for all: cells, counts (state to number), images_per_second,
cells_per_hour, seconds_left.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poolbench.cli.options import add_config_dir, add_trust, take_in_working_folder
from poolbench.cli.words import duration, percent
from poolbench.messages import counted
from poolbench.records.labels import cell_name, shortened
from poolbench.records.printable import printable

REDRAW_SECONDS = 1.0
# One cell has ended and the sweep has not begun the next: a folder alone does not say that there is one.
PATIENCE_SECONDS = 5.0

_WAITING = "waiting for the first cell"
_HASH = 6  # letters of the end of a run_id
_OPEN = ("queued", "interrupted")
_TROUBLE = ("failed", "damaged", "unreadable", "set aside")

Look = Callable[[], tuple[list[dict[str, Any]], dict[str, Any]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FOLDER | option=value",
        help="a folder of records (runs), or the options of a sweep",
    )
    parser.add_argument("--totals", action="store_true", help="only what the cells come to in all")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for scripts: a list of cells; with --totals one object")
    how.add_argument("--watch", action="store_true", help="keep looking until nothing runs and nothing is queued")
    add_config_dir(parser)
    add_trust(parser, "an experiment")


def main(arguments: argparse.Namespace) -> int:
    look, name, knows_queue = _look(arguments)
    if arguments.watch:
        _watch(look, name, knows_queue)
        return 0
    rows, totals = look()
    if arguments.json:
        print(json.dumps(totals if arguments.totals else rows, indent=2, allow_nan=False))
        return 0
    width = _width()
    for row in [] if arguments.totals else rows:
        print("\n".join(_lines(row, width)))
    print("\n".join(_in_all(totals)))
    return 0


def _look(arguments: argparse.Namespace) -> tuple[Look, str, bool]:
    """What looks at the cells, what they are called together, and whether those not begun are known."""
    from poolbench.records.overview import cell_row, folder_rows, totals

    overrides = [word for word in arguments.words if "=" in word]
    folders = [word for word in arguments.words if "=" not in word]
    known: dict[str, dict[str, Any]] = {}
    if not overrides:
        if len(folders) > 1:
            raise ValueError(f"one folder of records at a time, got {', '.join(folders)}")
        runs_dir = Path(folders[0] if folders else "runs")
        if not runs_dir.is_dir() and not arguments.watch:
            raise ValueError(f"there is no folder {runs_dir}: nothing was trained here, or runs_dir= was another")

        def look_at_folder() -> tuple[list[dict[str, Any]], dict[str, Any]]:
            rows = folder_rows(runs_dir, known) if runs_dir.is_dir() else []
            return rows, totals(rows)

        return look_at_folder, str(runs_dir), False
    if folders:
        raise ValueError(f"give a folder or the options of a sweep, not both: runs_dir={folders[0]} says where it is")
    from poolbench.records.environment import available_cores
    from poolbench.records.identity import digest, identity
    from poolbench.sweep.blocks import whole_blocks
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    take_in_working_folder()  # a component of the user's own may be among the options
    plan = make_plan(launcher_options(overrides)[1], arguments.config_dir, trust=arguments.trust)
    at_once = plan.options.get("workers") or available_cores()
    alike = {c.run_id: digest({k: v for k, v in identity(c.config).items() if k != "seed"}) for c in plan.cells}

    def look_at_plan() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rows = [{**cell_row(cell.folder, known), "name": cell_name(cell.config)} for cell in plan.cells]
        whole, blocks = whole_blocks(plan, {row["run_id"]: row["state"] for row in rows})
        return rows, {**totals(rows, alike, at_once), "whole_blocks": whole, "blocks": blocks}

    return look_at_plan, f"sweep {plan.name}", True


def _watch(look: Look, name: str, knows_queue: bool) -> None:
    """Show again and again until nothing runs and nothing is queued, or until Ctrl-C."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console()
    # A terminal that cannot move its cursor, or a file, gets a line whenever something changed.
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not console.is_dumb_terminal else None
    said, quiet_since, has_run = None, time.monotonic(), False
    try:
        if live:
            live.start()
        while True:
            rows, totals = look()
            if live:
                lines = _screen(name, rows, totals, console.width, console.height - 1)
                live.update(Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)), refresh=True)
            elif totals["counts"] != said:
                said = totals["counts"]
                print("; ".join(_in_all(totals)) if rows else f"{printable(name)}: {_WAITING}", flush=True)
            if "running" in totals["counts"]:
                quiet_since, has_run = time.monotonic(), True
            elif rows and not (knows_queue and any(state in totals["counts"] for state in _OPEN)):
                patience = 0.0 if knows_queue or not has_run else PATIENCE_SECONDS
                if time.monotonic() - quiet_since >= patience:
                    return
            time.sleep(REDRAW_SECONDS)
    except KeyboardInterrupt:
        return
    finally:
        if live:
            live.stop()


def _screen(name: str, rows: list[dict[str, Any]], totals: dict[str, Any], width: int, height: int) -> list[str]:
    """As much as a screen of ``height`` lines holds: all in all, what runs, what went wrong, what was done last."""
    lines = [printable(name), *(_in_all(totals) if rows else [_WAITING])]
    done = sorted((row for row in rows if row["state"] == "done"), key=lambda row: str(row["finished"]), reverse=True)
    for some in (
        [row for row in rows if row["state"] == "running"],
        [row for row in rows if row["state"] in _TROUBLE],
        done,
        [row for row in rows if row["state"] in _OPEN],
    ):
        for row in some:
            lines += _lines(row, width)
    return lines if len(lines) <= height else [*lines[: height - 1], "..."]


def _in_all(totals: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in totals["counts"].items())
    lines = [f"{counted(totals['cells'], 'cell')}: {counts or 'none'}"]
    if totals.get("blocks", 0) > 1:
        lines[0] += f"; {totals['whole_blocks']} of {totals['blocks']} blocks whole"
    more = []
    if (totals["seconds_left"] or 0) >= 0.5:
        more.append(f"about {duration(totals['seconds_left'])} left")
    if totals["cells_per_hour"] is not None:
        many = _about(totals["cells_per_hour"])
        more.append(f"{many} {'cell' if many == '1' else 'cells'} an hour")
    if totals["images_per_second"] is not None:
        more.append(f"{totals['images_per_second']:,.0f} images/s")
    return [*lines, ", ".join(more)] if more else lines


def _about(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def _lines(row: dict[str, Any], width: int | None) -> list[str]:
    """One line about a cell, and in a terminal a second one for a reason that does not fit beside its name."""
    state, epochs = row["state"], row["epochs"]
    epoch = f"epoch {row['epoch'] or 0:.1f}/{epochs}" if epochs is not None else ""
    if state == "running":
        speed = row["images_per_second"]
        parts = [epoch]
        parts += [f"train {percent(row['train_accuracy'])}"] if row["train_accuracy"] is not None else []
        parts += [f"{speed:,.0f}/s"] if speed else []
        parts += [f"{duration(row['seconds_left'])} left"] if row["seconds_left"] is not None else []
        tail = "  ".join(part for part in parts if part)
    elif state == "done":
        tail = f"test {percent(row['test_accuracy'])}"
    else:
        tail = printable(row["error"] or (epoch if row["epoch"] else ""))
    name = printable(row["name"] or row["run_id"])
    # With the end of its hash: that is what `poolbench logs` and `show` take.
    end = f"  {printable(row['run_id'][-_HASH:])}" if row["name"] else ""
    if width is None:
        return [f"{state:<12}{name:<44}{end}  {tail}".rstrip()]
    room = max(16, width - 12 - len(end) - (len(tail) + 2 if tail else 0))
    if tail and (len(name) > room or (row["error"] and state != "running")):  # a line of its own for each
        room = max(16, width - 12 - len(end))
        return [f"{state:<12}{shortened(name, room)}{end}"[:width], f"{'':<12}{tail}"[:width]]
    return [f"{state:<12}{shortened(name, room):<{room}}{end}  {tail}".rstrip()[:width]]


def _width() -> int | None:
    """Columns of the terminal, None where there is none."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console().width
