"""Live progress of a sweep: a table that redraws itself in a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from poolbench.cli.words import duration, percent
from poolbench.records.labels import cell_name, shortened, told_apart
from poolbench.records.overview import share_done
from poolbench.records.printable import printable
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.workers import RETRIED, read_status

_WIDTH = 80  # of a line, in columns
_NUMBERS = 40  # columns that the numbers of a table take
TITLES = ("cell", "epoch", "train", "images/s", "left")


class Screen(Protocol):
    """Where progress is shown; a sweep enters and leaves it as a context, and says lines before as well.

    Args:
        redraws: whether a table is shown that changes in place; else every epoch is a line.
    """

    redraws: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def line(self, text: str) -> None: ...

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None: ...


class Lines:
    """A line after the other, by ``say``."""

    redraws = False

    def __init__(self, say: Callable[[str], None] | None = None):
        self.line = say or (lambda text: print(text, flush=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        raise AssertionError("lines have no table")


class Terminal:
    """A table that redraws itself below the lines."""

    redraws = True

    def __init__(self, console: Console):
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.update("", refresh=True)
        self.live.stop()

    def line(self, text: str) -> None:
        if self.live.is_started:
            self.live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1), expand=True)
        table.add_column(TITLES[0], ratio=1, no_wrap=True, overflow="ellipsis")  # gives way to the numbers
        for heading, width in zip(TITLES[1:], (8, 7, 8, 7), strict=True):
            table.add_column(heading, justify="right", width=width, no_wrap=True)
        for name, *numbers in rows:
            table.add_row(shortened(name, max(16, self.live.console.width - _NUMBERS)), *numbers)
        self.live.update(table, refresh=True)


def usual_screen() -> Screen:
    """The terminal, or lines where its cursor cannot be moved, as in a file."""
    console = Console()
    return Terminal(console) if console.is_terminal else Lines()


class SweepProgress:
    """Shows which cells run, their epoch, training accuracy and time left, and the time left for all.

    Args:
        plan: of the sweep.
        done: cells that were done before.
        screen: where; the terminal unless told otherwise.
    """

    def __init__(self, plan: Plan, done: int, screen: Screen | None = None):
        self.total, self.done, self.failed = len(plan.cells), done, 0
        self.running: dict[str, Cell] = {}
        self.began = time.monotonic()
        self.fresh = 0.0  # cells finished in this session, those that went on in parts
        self.before: dict[str, float] = {}  # run_id -> what was done of it before this session
        self.epochs: dict[str, int] = {}
        self.shown = 0.0
        self.names = told_apart({cell.run_id: cell_name(cell.config) for cell in plan.cells})
        self.screen = screen or usual_screen()

    def __enter__(self) -> Self:
        self.screen.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.screen.__exit__(*exception)

    def started(self, cell: Cell) -> None:
        self.running[cell.run_id] = cell

    def ended(self, cell: Cell, state: str, reason: str) -> None:
        if state == "damaged":
            self._print(f"{self.names[cell.run_id]}: {reason}")
            return
        self.running.pop(cell.run_id, None)
        if state == RETRIED:
            self._print(f"{self.names[cell.run_id]}: {reason}; it is tried again later")
            return
        self.fresh += 1 - self.before.pop(cell.run_id, 0.0)
        self.done += state == "done"
        self.failed += state == "failed"
        count, name = f"[{self.done + self.failed}/{self.total}]", self.names[cell.run_id]
        if not reason and self.screen.redraws:
            name = shortened(name, _WIDTH - len(f"{count}  {state}"))
        self._print(f"{count} {name} {state}{': ' + reason if reason else ''}")

    def tick(self) -> None:
        if time.monotonic() - self.shown < (0.5 if self.screen.redraws else 1.0):
            return
        self.shown = time.monotonic()
        statuses = {run_id: read_status(cell.folder) or {} for run_id, cell in self.running.items()}
        if self.screen.redraws:
            head = f"{self.done} of {self.total} done" + (f", {self.failed} failed" if self.failed else "")
            self.screen.table(f"{head}, about {self._left(statuses)} left", self._rows(statuses))
            return
        for run_id, status in statuses.items():
            epoch = int(status.get("epoch") or 0)
            if status.get("state") == "running" and epoch > self.epochs.get(run_id, 0):
                self.epochs[run_id] = epoch
                self._print(
                    f"[{self.done + self.failed}/{self.total}] {self.names[run_id]}  epoch {epoch}/{status['epochs']}  "
                    f"train {percent(status['train_accuracy'])}  {self._left(statuses)} left in all"
                )

    def _rows(self, statuses: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
        """What ``TITLES`` name, of the cells that run."""
        rows = []
        for run_id, status in statuses.items():
            speed = status.get("images_per_second")
            rows.append(
                (
                    printable(self.names[run_id]),
                    f"{status.get('epoch') or 0:.1f}/{status.get('epochs', '?')}",
                    percent(status.get("train_accuracy")),
                    f"{speed:.0f}" if speed else "-",
                    duration(status.get("seconds_left")),
                )
            )
        return rows

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
        self.screen.line(printable(text))
