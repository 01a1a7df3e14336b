"""Live progress of a sweep: a table that redraws itself in a terminal, lines elsewhere."""

import time
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from poolbench.cli.words import duration, percent
from poolbench.records.labels import label
from poolbench.records.overview import share_done
from poolbench.records.printable import printable
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.workers import RETRIED, read_status


class SweepProgress:
    """Shows which cells run, their epoch, training accuracy and time left, and the time left for all.

    Args:
        plan: of the sweep.
        done: cells that were done before.
    """

    def __init__(self, plan: Plan, done: int):
        self.total, self.done, self.failed = len(plan.cells), done, 0
        self.running: dict[str, Cell] = {}
        self.began = time.monotonic()
        self.fresh = 0.0  # cells finished in this session, those that went on in parts
        self.before: dict[str, float] = {}  # run_id -> what was done of it before this session
        self.epochs: dict[str, int] = {}
        self.shown = 0.0
        self.console = Console()
        # A terminal that cannot move its cursor, or a file, gets lines.
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.update("", refresh=True)
            self.live.stop()

    def started(self, cell: Cell) -> None:
        self.running[cell.run_id] = cell

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        if state == "damaged":
            self._print(f"{cell.run_id}: {reason}")
            return
        self.running.pop(cell.run_id, None)
        if state == RETRIED:
            self._print(f"{cell.run_id}: {reason}; it is tried again later")
            return
        self.fresh += 1 - self.before.pop(cell.run_id, 0.0)
        self.done += state == "done"
        self.failed += state == "failed"
        self._print(f"[{self.done + self.failed}/{self.total}] {cell.run_id} {state}{': ' + reason if reason else ''}")

    def tick(self) -> None:
        if time.monotonic() - self.shown < (0.5 if self.live else 1.0):
            return
        self.shown = time.monotonic()
        statuses = {run_id: read_status(cell.folder) or {} for run_id, cell in self.running.items()}
        if self.live:
            self.live.update(self._table(statuses), refresh=True)
            return
        for run_id, status in statuses.items():
            epoch = int(status.get("epoch") or 0)
            if status.get("state") == "running" and epoch > self.epochs.get(run_id, 0):
                self.epochs[run_id] = epoch
                self._print(
                    f"[{self.done + self.failed}/{self.total}] {run_id}  epoch {epoch}/{status['epochs']}  "
                    f"train {percent(status['train_accuracy'])}  {self._left(statuses)} left in all"
                )

    def _table(self, statuses: dict[str, dict[str, Any]]) -> Table:
        head = f"{self.done} of {self.total} done" + (f", {self.failed} failed" if self.failed else "")
        table = Table(
            title=f"{head}, about {self._left(statuses)} left",
            title_justify="left",
            box=None,
            padding=(0, 1),
            expand=True,
        )
        table.add_column("cell", ratio=1, no_wrap=True, overflow="ellipsis")  # gives way to the numbers
        for title, width in (("epoch", 8), ("train", 7), ("images/s", 8), ("left", 7)):
            table.add_column(title, justify="right", width=width, no_wrap=True)
        for run_id, status in statuses.items():
            speed = status.get("images_per_second")
            table.add_row(
                _short(self.running[run_id]),
                f"{status.get('epoch') or 0:.1f}/{status.get('epochs', '?')}",
                percent(status.get("train_accuracy")),
                f"{speed:.0f}" if speed else "-",
                duration(status.get("seconds_left")),
            )
        return table

    def _left(self, statuses: dict[str, dict[str, Any]]) -> str:
        """Time left: what is done of the cells of this session, in parts, against what is not."""
        shares = {name: share_done(status) for name, status in statuses.items() if status.get("state") == "running"}
        for name, share in shares.items():
            if statuses[name].get("share_done") is not None:  # it is only once a checkpoint was looked for
                self.before.setdefault(name, share)
        finished = self.fresh + sum(max(0.0, share - self.before.get(name, 0.0)) for name, share in shares.items())
        if finished < 0.05:
            return "-"
        left = self.total - self.done - self.failed - sum(shares.values())
        return duration((time.monotonic() - self.began) / finished * left)

    def _print(self, text: str) -> None:
        text = printable(text)
        if self.live:
            self.live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)


def _short(cell: Cell) -> str:
    """What tells the cell from others first: what follows may be cut off."""
    pool, model, data = (label(cell.config, group) for group in ("pool", "model", "data"))
    return f"{pool}, seed {cell.config['seed']}, {model}, {data}"
