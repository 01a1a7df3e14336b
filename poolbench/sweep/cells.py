"""What a sweep is made of: cells, and the plan that lists them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.options import Trainer
from poolbench.records.state import DONE, cell_state


@dataclass(frozen=True)
class Cell:
    """One cell of a plan.

    Args:
        run_id: its name.
        config: completed, ``run_id`` included.
        overrides: what makes it, as on a command line.
        train_samples: training images in an epoch; None for data of the user's own that does not say.
    """

    run_id: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    train_samples: int | None = None

    @property
    def folder(self) -> Path:
        """Where its record is."""
        return Path(self.config["runs_dir"]) / self.run_id

    @property
    def trainer(self) -> Trainer:
        """The options of its training."""
        return Trainer(**self.config["trainer"])

    def state(self) -> str:
        """How far it is now."""
        return cell_state(self.folder)


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep.

    Args:
        name: of the sweep: its file's, or ``grid`` for one from the command line.
        cells: each once.
        options: the ``sweep`` part of the config: workers, fail_fast, ...
        report_dir: where tables and plots go.
        notes: what the user should know of how the cells came about, a sentence each.
        scale, scales: which one, of a sweep that is declared at several, and all of them; None and none of others.
    """

    name: str
    cells: tuple[Cell, ...]
    options: dict[str, Any]
    report_dir: Path
    notes: tuple[str, ...] = ()
    scale: str | None = None
    scales: tuple[str, ...] = ()

    def states(self) -> dict[str, str]:
        """``run_id`` -> state, read now."""
        return {cell.run_id: cell.state() for cell in self.cells}

    def open(self) -> list[Cell]:
        """Cells that are not done."""
        return [cell for cell in self.cells if cell.state() != DONE]
