"""What a notebook shows while cells train, and that it shows figures as pictures. IPython is used where it runs."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

from poolbench.cli.progress import TITLES, Lines, Screen
from poolbench.report.html import escaped, table

_MOST_LINES = 12  # that stay on show below the table


def screen_for(progress: Callable[[str], None] | None) -> Screen:
    """Where progress goes: to ``progress``, a line at a time; without it to the notebook's cell, elsewhere nowhere."""
    if progress is not None:
        return Lines(progress)
    return Display() if _shell() is not None else Lines(lambda text: None)


def show_figures() -> None:
    """Let the notebook show figures as pictures, if it does not yet: IPython learns it with pyplot, which we leave
    alone."""
    shell = _shell()
    if shell is None:
        return
    from IPython.core.pylabtools import print_figure
    from matplotlib.figure import Figure

    pictures = shell.display_formatter.formatters["image/png"]
    try:
        pictures.lookup_by_type(Figure)
    except KeyError:
        pictures.for_type(Figure, lambda figure: print_figure(figure, "png"))


class Display:
    """A part of a notebook's output that changes in place: the cells that run, and below the latest lines."""

    redraws = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.running = ""
        self.handle: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.running = ""
        self._show()

    def line(self, text: str) -> None:
        self.lines.append(text)
        self._show()

    def table(self, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        self.running = f"<b>{escaped(title)}</b>{table(TITLES, rows, range(1, len(TITLES)))}"
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        before = len(self.lines) - _MOST_LINES
        told = [f"... {before} lines before"] if before > 0 else []
        told += self.lines[-_MOST_LINES:]
        shown = HTML(f"{self.running}<pre>{escaped(chr(10).join(told))}</pre>")
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)


def _shell() -> Any:
    """IPython's shell where it is a notebook's; None elsewhere. Nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(shell, "kernel") else None
