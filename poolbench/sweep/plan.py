"""The plan of a sweep: its cells, completed and named, and how far each is. Made before anything starts."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.configuration import Composer, ConfigError, composer, experiments_dir
from poolbench.limits import check
from poolbench.records.identity import run_id
from poolbench.records.state import DONE, cell_state
from poolbench.registry import call, locate, nearest
from poolbench.sweep.grammar import Axes, command_line, expand


@dataclass(frozen=True)
class Cell:
    """One cell of a plan.

    Args:
        run_id: its name.
        config: completed, ``run_id`` included.
        overrides: what makes it, as on a command line.
    """

    run_id: str
    config: dict[str, Any]
    overrides: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its record is."""
        return Path(self.config["runs_dir"]) / self.run_id

    def state(self) -> str:
        """How far it is now."""
        return cell_state(self.folder)


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep.

    Args:
        name: of the sweep: its file's, or ``grid`` for one from the command line.
        cells: each once.
        options: the ``sweep`` part of the config: workers, fail_fast.
        report_dir: where tables and plots go.
    """

    name: str
    cells: tuple[Cell, ...]
    options: dict[str, Any]
    report_dir: Path

    def states(self) -> dict[str, str]:
        """``run_id`` -> state, read now."""
        return {cell.run_id: cell.state() for cell in self.cells}

    def open(self) -> list[Cell]:
        """Cells that are not done."""
        return [cell for cell in self.cells if cell.state() != DONE]


def make_plan(overrides: Iterable[str], folders: Iterable[Path] = (), single: bool = False) -> Plan:
    """The plan of a command line.

    Args:
        overrides: as given; ``sweep=NAME`` names a file of ``conf/sweep/`` or a folder of ``experiments/``.
        folders: further folders of configs.
        single: refuse more than one cell, as ``poolbench run`` does.
    Raises: ConfigError for anything wrong with an option; DataError when the data is missing.
    """
    given, seeds = command_line(overrides)
    if single:
        _refuse_sweeps(given, seeds)
    with composer(folders) as compose:
        name = given.get("sweep", ["grid"])
        if len(name) > 1:
            raise ConfigError("sweep takes one name")
        blocks, chosen = _declared(compose, name[0])
        given.pop("sweep", None)
        shared = [*chosen, *_sweep_options(given)]
        combinations = expand(blocks, given, seeds)
        if not combinations:
            raise ConfigError("the sweep has no cell: exclude leaves nothing")
        cells: dict[str, Cell] = {}
        completed: dict[tuple[str, ...], dict[str, Any]] = {}
        fingerprints: dict[str, str] = {}
        options: dict[str, Any] = {}
        for combination in combinations:
            # Composing costs more than all else; cells that differ in their seed alone share it.
            rest = tuple(text for text in combination if not text.startswith("seed="))
            if compose.interpolates(rest):
                rest = combination
            if rest not in completed:
                completed[rest] = compose.complete([*rest, *shared])
            config = copy.deepcopy(completed[rest])
            for text in combination:
                if text.startswith("seed="):
                    config["seed"] = _seed(text.partition("=")[2])
            check(config, whole=True)
            options = config.pop("sweep")  # of the sweep, not of the cell
            _name(config, fingerprints)
            # By its hash: in other words it would be another name, and trained twice.
            cells.setdefault(config["run_id"].rpartition("-")[2], Cell(config["run_id"], config, combination))
    report_dir = next(iter(cells.values())).config["report_dir"]
    return Plan(name[0], tuple(cells.values()), options, Path(report_dir) / name[0])


def _declared(compose: Composer, name: str) -> tuple[list[Any], list[str]]:
    """Blocks of the sweep called ``name``, and the override that chooses its options."""
    if name in compose.choices("sweep"):
        return compose.block("sweep", name).get("blocks") or [], [f"sweep={name}"]
    folder = experiments_dir()
    known = sorted(path.parent.name for path in folder.glob("*/experiment.yaml"))
    if name not in known:
        names = [choice for choice in compose.choices("sweep") if choice != "grid"] + known
        raise ConfigError(f"unknown sweep {name!r}.{nearest(name, names)} Known: {', '.join(names)}")
    from omegaconf import OmegaConf

    declared = OmegaConf.to_container(OmegaConf.load(folder / name / "experiment.yaml"))
    if not isinstance(declared, dict) or not isinstance(declared.get("sweep"), list):
        raise ConfigError(f"experiments/{name}/experiment.yaml must have a list of blocks under 'sweep'")
    return declared["sweep"], []


def _sweep_options(given: Axes) -> list[str]:
    """Take the ``sweep.`` options, of the sweep and not of its cells, out of ``given``."""
    taken = []
    for key in [key for key in given if key.startswith("sweep.")]:
        values = given.pop(key)
        if key == "sweep.blocks" or len(values) > 1:
            raise ConfigError(f"{key} takes one value; blocks are declared in a file, for sweep=NAME")
        taken.append(f"{key}={values[0]}")
    return taken


def _name(config: dict[str, Any], fingerprints: dict[str, str]) -> None:
    """Add what the data holds, and with it the cell's name, to a completed config."""
    block = {key: value for key, value in config["data"].items() if key != "_target_"}
    key = repr(sorted(config["data"].items(), key=lambda item: item[0]))
    if key not in fingerprints:
        target = config["data"]["_target_"]
        source = call(locate(target, f"data._target_={target}"), f"data {config['names']['data']!r}", block)
        source.check()
        fingerprints[key] = source.info().fingerprint
    config["data_fingerprint"] = fingerprints[key]
    config["run_id"] = run_id(config)
    # A cell reached in other words (model=convnet_small, or its widths spelt out) is the same by its hash: its record
    # keeps the name that it got first.
    known = Path(config["runs_dir"]).glob(f"*-{config['run_id'].rpartition('-')[2]}")
    config["run_id"] = min((path.name for path in known), default=config["run_id"])


def _seed(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"seed must be a whole number of at least 0, got {text!r}") from None


def _refuse_sweeps(given: dict[str, list[str]], seeds: int | None) -> None:
    several = [key for key, values in given.items() if len(values) > 1]
    if several or seeds is not None or "sweep" in given:
        what = f"{several[0]} has {len(given[several[0]])} values" if several else "that is a sweep"
        raise ConfigError(f"{what}, and `poolbench run` trains one cell; `poolbench sweep` takes the same options")
