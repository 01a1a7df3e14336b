"""The plan of a sweep: its cells, completed and named, and how far each is. Made before anything starts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poolbench.checks import checked
from poolbench.config_files import experiments_dir, read_file
from poolbench.configuration import COMPONENTS, Composer, ConfigError, composer
from poolbench.foreign import read_text
from poolbench.limits import LIMITS, check, check_components, check_with_data
from poolbench.messages import described
from poolbench.records.groups import group_hash, pool_hash, pool_labels
from poolbench.records.identity import cell_hash, digest, identity, run_id
from poolbench.records.kinds import wrong_config
from poolbench.registry import component, nearest
from poolbench.sweep.blocks import BLOCKS, in_blocks
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.grammar import Axes, bare, command_line, expand
from poolbench.sweep.sample import draw
from poolbench.sweep.tuned import complete, refuse_unequal
from poolbench.trust import check_trust, own_targets

USUAL_SCALE = "small"  # of a sweep that is declared at several
_GRID = "grid"  # a sweep that no file declares


def make_plan(
    overrides: Iterable[str],
    folders: Iterable[Path] = (),
    single: bool = False,
    own_blocks: list[Any] | None = None,
    trust: Iterable[str] = (),
) -> Plan:
    """The plan of a command line.

    Args:
        overrides: as given; ``sweep=NAME`` names a file of ``conf/sweep/`` or a folder of ``experiments/``, and
            ``scale=small`` one of its scales.
        folders: further folders of configs.
        single: refuse more than one cell, as ``poolbench run`` does.
        own_blocks: of a sweep that no file declares, as the trials of a search.
        trust: packages whose code an experiment may name that somebody else may have written; what the command line
            and the ``folders`` name is the user's own.
    Raises: ConfigError for anything wrong with an option; DataError when the data is missing.
    """
    overrides, folders = list(overrides), list(folders)
    given, seeds = command_line(overrides)
    if single:
        _refuse_sweeps(given, seeds)
    known = own_targets(overrides, folders)
    with composer(folders) as compose:
        name = given.get("sweep", [_GRID])
        if len(name) > 1:
            raise ConfigError("sweep takes one name")
        scale = given.pop("scale", None)
        blocks, chosen, scales = _declared(compose, name[0], scale) if own_blocks is None else (own_blocks, [], ())
        scale = scales[0] if scales else None
        given.pop("sweep", None)
        shared = [*chosen, *_sweep_options(given)]
        combinations = expand(blocks, given, seeds)
        if not combinations:
            raise ConfigError("the sweep has no cell: exclude leaves nothing")
        cells: dict[str, Cell] = {}
        merged: list[tuple[Cell, Cell]] = []
        completed: dict[tuple[str, ...], dict[str, Any]] = {}
        held: dict[tuple[str, ...], tuple[str, int | None]] = {}
        named = _Names()
        for combination, block in combinations.items():
            # Composing costs more than all else; cells that differ in their seed alone share it.
            rest = tuple(text for text in combination if not text.startswith("seed="))
            if compose.interpolates(rest):
                rest = combination
            with _blaming(block, combination, given):
                if rest not in completed:
                    completed[rest] = complete(compose, [*rest, *shared])
                    _check_trust(completed[rest], trust, known)
                    check_components(completed[rest])
                # The parts of a config are shared by the cells that differ in their seed alone: nobody changes them.
                config = {**completed[rest]}
                for text in combination:
                    if text.startswith("seed="):
                        config["seed"] = _seed(text.partition("=")[2])
                options = config.pop("sweep")  # of the sweep, not of the cell
                if rest in held:
                    checked("seed", config["seed"], LIMITS["seed"], ConfigError)
                else:
                    check({**config, "sweep": options}, complete=True)
                    held[rest] = named.told_by_data(config)
                cell = named.cell(config, combination, *held[rest])
                if reason := wrong_config(cell.run_id, config):
                    raise ConfigError(f"{reason}: its record could not be read again")
            # By its hash: in other words it would be another name, and trained twice.
            first = cells.setdefault(cell_hash(cell.run_id), cell)
            if first is not cell:
                merged.append((first, cell))
    refuse_unequal(cell.config for cell in cells.values())
    chosen_cells, note = draw(list(cells.values()), options["sample"])
    chosen_cells = in_blocks(chosen_cells) if options["order"] == BLOCKS else chosen_cells
    _refuse_one_name_for_two(chosen_cells)
    notes = [*named.notes(chosen_cells), *_of_merged(merged), *note]
    report_dir = chosen_cells[0].config["report_dir"]
    title = name[0] if scale in (None, USUAL_SCALE) else f"{name[0]}-{scale}"
    folder = title if name[0] != _GRID else _grid_folder(completed.values())
    return Plan(title, tuple(chosen_cells), options, Path(report_dir) / folder, tuple(notes), scale, scales)


def _grid_folder(configs: Iterable[dict[str, Any]]) -> str:
    """``grid-pool-head-1a2b3c``: what varies, and a hash of what is compared, seeds apart, so that another grid's
    report takes no other's place."""
    configs = list(configs)
    kinds = [kind for kind in COMPONENTS if len({digest(config.get(kind)) for config in configs}) > 1]
    cells = sorted(digest(identity({**config, "seed": 0})) for config in configs)
    return "-".join([_GRID, *kinds, digest(cells)[:6]])


def _declared(compose: Composer, name: str, scales: list[str] | None) -> tuple[list[Any], list[str], tuple[str, ...]]:
    """Blocks of the sweep called ``name``, what chooses its options, and its scales, the chosen one first."""
    folder = experiments_dir()
    experiments = sorted(path.parent.name for path in folder.glob("*/experiment.yaml"))
    files = [path for f in compose.folders if (path := f / "sweep" / f"{name}.yaml").is_file()]
    places = [*files, *([folder / name / "experiment.yaml"] if name in experiments else [])]
    if len(places) > 1:
        raise ConfigError(f"sweep={name} means two things: {' and '.join(map(str, places))}; rename yours")
    if files:
        blocks = compose.block("sweep", name).get("blocks") or []
        if not isinstance(blocks, list):
            raise ConfigError(f"{files[0]}: blocks must be a list of blocks, got {described(blocks)}")
        _choose_scale(blocks, scales, f"sweep={name}")
        return blocks, [f"sweep={name}"], ()
    if name not in experiments:
        names = [choice for choice in compose.choices("sweep") if choice != _GRID] + experiments
        raise ConfigError(f"unknown sweep {name!r}.{nearest(name, names)} Known: {', '.join(names)}")
    from omegaconf import OmegaConf

    place = f"experiments/{name}/experiment.yaml"
    if not isinstance(content := read_file(places[0]), dict):
        raise ConfigError(f"{place} holds {described(content)}, and must hold a list of blocks under 'sweep'")
    try:  # as Hydra reads files: 1e-3 is a number, and no key may stand twice
        declared = OmegaConf.to_container(OmegaConf.create(read_text(places[0])))
    except Exception as error:  # a parser's every exception is about the file
        raise ConfigError(f"{place} cannot be parsed: {' '.join(str(error).split())}") from error
    keys = [str(key) for key in declared]
    sweep = declared["sweep"] if "sweep" in keys else None
    if not isinstance(sweep, dict | list) or not sweep:
        hint = "" if "sweep" in keys else nearest("sweep", keys)
        there = f", and has {described(sweep)} there" if "sweep" in keys else ""
        raise ConfigError(f"{place} must have a list of blocks under 'sweep'{there}.{hint}")
    blocks, scale = _choose_scale(sweep, scales, place)
    if not isinstance(blocks, list) or not blocks:
        raise ConfigError(f"{place} must have a list of blocks under 'sweep: {scale}', got {described(blocks)}")
    others = [str(key) for key in sweep if str(key) != scale] if scale else []
    return blocks, [], (scale, *others) if scale else ()


def _choose_scale(sweep: Any, scales: list[str] | None, place: str) -> tuple[Any, str | None]:
    """What ``scale=`` chooses of a sweep that is declared at several scales; the small one unless told otherwise."""
    if not isinstance(sweep, dict):
        if scales is not None:
            raise ConfigError(f"scale={','.join(scales)}: {place} is declared at one scale; leave scale out")
        return sweep, None
    known = [str(key) for key in sweep]
    if scales is not None and len(scales) > 1:
        raise ConfigError(f"scale takes one of {', '.join(known)}, got {', '.join(scales)}")
    scale = scales[0] if scales is not None else USUAL_SCALE
    if scale not in sweep:
        raise ConfigError(f"{place} has no scale {scale!r}.{nearest(scale, known)} Known: {', '.join(known)}")
    return sweep[scale], scale


@contextmanager
def _blaming(block: str, combination: tuple[str, ...], given: Axes) -> Iterator[None]:
    """Say of an error in which block of the sweep it is, unless it is about what the command line gives."""
    try:
        yield
    except ConfigError as error:
        own = [bare(text.partition("=")[0]) for text in combination]
        own = [key for key in own if key not in map(bare, given)]
        what, _, _ = str(error).partition("Did you mean")
        if not block or not any(key in what for key in own):
            raise
        raise ConfigError(f"{block}: {error}") from error


def _of_merged(pairs: list[tuple[Cell, Cell]]) -> list[str]:
    """What to tell of cells that are those before them in other words."""
    if not pairs:
        return []
    known, other = pairs[0]
    mine = " ".join(text for text in other.overrides if text not in known.overrides)
    theirs = " ".join(text for text in known.overrides if text not in other.overrides)
    count = "a cell that is another" if len(pairs) == 1 else f"{len(pairs)} cells that are others"
    return [f"{count} in other words left out: {mine or 'leaving it out'} is {theirs or 'the default'}"]


def _refuse_one_name_for_two(cells: Iterable[Cell]) -> None:
    """Raises: ConfigError when two pools that are not the same would stand under one label in a table's row."""
    without_seed: dict[str, Cell] = {}
    for cell in cells:  # those that differ in their seed have one label
        shared = {k: v for k, v in cell.config.items() if k not in ("seed", "run_id")}
        without_seed.setdefault(repr(shared), cell)
    distinct = list(without_seed.values())
    meant: dict[tuple[str, str], Cell] = {}
    for cell, label in zip(distinct, pool_labels([cell.config for cell in distinct]), strict=True):
        other = meant.setdefault((group_hash(cell.config), label), cell)
        if pool_hash(other.config) != pool_hash(cell.config):
            targets = " and ".join(_targets(each.config["pool"]) for each in (other, cell))
            raise ConfigError(f"the name {label!r} would stand for two pools in a table: {targets}; rename one")


def _check_trust(config: dict[str, Any], trust: Iterable[str], known: frozenset[str]) -> None:
    """Raises: ConfigError for code that neither we nor the user named, before any of it is looked at."""
    try:
        check_trust({group: config[group] for group in COMPONENTS}, trust, known)
    except ValueError as error:
        raise ConfigError(f"{error}, --trust PACKAGE") from error


def _targets(pool: Any) -> str:
    return "+".join(block["_target_"] for block in (pool if isinstance(pool, list) else [pool]))


def _sweep_options(given: Axes) -> list[str]:
    """Take the ``sweep.`` options, of the sweep and not of its cells, out of ``given``."""
    taken = []
    for key in [key for key in given if key.startswith("sweep.")]:
        values = given.pop(key)
        if key == "sweep.blocks" or len(values) > 1:
            raise ConfigError(f"{key} takes one value; blocks are declared in a file, for sweep=NAME")
        taken.append(f"{key}={values[0]}")
    return taken


class _Names:
    """Makes cells of completed configs; looks at each data set and at each folder of records once."""

    def __init__(self) -> None:
        self._data: dict[str, tuple[Any, Any]] = {}  # data block -> its source, and what that says of itself
        self._records: dict[str, dict[str, str]] = {}  # runs_dir -> hash -> run_id

    def told_by_data(self, config: dict[str, Any]) -> tuple[str, int | None]:
        """The fingerprint of a config's data and its training images; see that it asks for no more than these hold."""
        source, info = self._look_at(config)
        check_with_data(config, source, info)
        samples, split = getattr(info, "train_samples", None), getattr(source, "split_sizes", None)
        return info.fingerprint, split(samples)[0] if samples and split else samples

    def cell(
        self, config: dict[str, Any], overrides: tuple[str, ...], fingerprint: str, train_samples: int | None
    ) -> Cell:
        """Add what the data holds, and with it the cell's name, to ``config``."""
        config["data_fingerprint"] = fingerprint
        config["run_id"] = run_id(config)
        # A cell reached in other words (model=convnet_small, or its widths spelt out) is the same by its hash: its
        # record keeps the name that it got first.
        known = self._names_in(config["runs_dir"]).get(cell_hash(config["run_id"]))
        config["run_id"] = known or config["run_id"]
        return Cell(config["run_id"], config, overrides, train_samples)

    def notes(self, cells: Iterable[Cell]) -> list[str]:
        """What the data of ``cells`` should have told of it, each once."""
        configs = {id(cell.config["data"]): cell.config for cell in cells}  # of which many share one block
        sources = {id(source): source for source, _ in map(self._look_at, configs.values())}
        told = [note for source in sources.values() for note in getattr(source, "notes", list)()]
        return list(dict.fromkeys(told))

    def _look_at(self, config: dict[str, Any]) -> tuple[Any, Any]:
        key = repr(sorted(config["data"].items(), key=lambda item: item[0]))
        if key not in self._data:
            source = component("data", config["data"], config["names"]["data"])()
            source.check()
            self._data[key] = source, source.info()
        return self._data[key]

    def _names_in(self, runs_dir: str) -> dict[str, str]:
        if runs_dir not in self._records:
            folder = Path(runs_dir)
            names = sorted((path.name for path in folder.iterdir()) if folder.is_dir() else (), reverse=True)
            self._records[runs_dir] = {cell_hash(name): name for name in names}
        return self._records[runs_dir]


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
