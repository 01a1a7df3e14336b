"""From what a user writes to cells: grids on the command line, and declared blocks."""

import itertools
from collections.abc import Iterable
from typing import Any

from poolbench.configuration import ConfigError, parse, quoted
from poolbench.registry import nearest

Axes = dict[str, list[str]]  # option -> its values, each as it would stand after the = of an override

_BLOCK_KEYS = ("product", "zip", "exclude", "seeds")


def command_line(overrides: Iterable[str]) -> tuple[Axes, int | None]:
    """Axes of a command line, ``pool=max,average trainer.epochs=3``, and what ``seeds=`` says.

    Raises: ConfigError for what cannot be read, an option given twice, or ``seeds`` beside ``seed``.
    """
    axes: Axes = {}
    seeds = None
    for text in overrides:
        if text.startswith("~"):
            raise ConfigError(f"{text}: an option cannot be removed")
        override = parse(text)
        key = text.partition("=")[0]
        if key == "seeds":
            seeds = count_of_seeds(override.value())
            continue
        if key in axes:
            raise ConfigError(f"{key} is given twice; several values are written {key}=a,b")
        axes[key] = _several(text, override) if override.is_sweep_override() else [text.partition("=")[2]]
    if seeds is not None and "seed" in axes:
        raise ConfigError("give either seed=... (which seeds) or seeds=... (how many, from 0), not both")
    return axes, seeds


def count_of_seeds(value: Any) -> int:
    """``seeds=6`` means seeds 0 to 5. Raises: ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"seeds must be a whole number of at least 1 (6 means seed 0 to 5), got {value!r}")
    return value


def expand(blocks: list[Any], given: Axes, seeds: int | None) -> list[tuple[str, ...]]:
    """All cells of a sweep as overrides: the union of its blocks, each crossed with what the command line gives.

    A block has ``product`` (options to lists: all combinations), ``zip`` (options to lists of one length: side by
    side), ``exclude`` (a list of partial matches to leave out) and ``seeds``. An option on the command line takes the
    place of the block's own, as ``seeds`` does of its seeds. Without blocks the command line alone is the sweep.

    Returns: in order, each once; the seed varies slowest, so that the first seed of every treatment comes early.
    Raises: ConfigError naming the block and what is wrong.
    """
    cells: dict[tuple[str, ...], None] = {}
    for number, block in enumerate(blocks or [{}], start=1):
        where = f"sweep block {number}"
        if not isinstance(block, dict) or set(block) - set(_BLOCK_KEYS):
            raise ConfigError(f"{where} may have {', '.join(_BLOCK_KEYS)}, got {block!r}")
        product, zipped = _axes(block, "product", where), _axes(block, "zip", where)
        if len({len(values) for values in zipped.values()}) > 1:
            lengths = ", ".join(f"{key}: {len(values)}" for key, values in zipped.items())
            raise ConfigError(f"{where}: lists under zip must have one length, got {lengths}")
        own = [*product, *zipped, *(["seed"] if block.get("seeds") is not None else [])]
        if twice := [key for key in dict.fromkeys(own) if own.count(key) > 1]:
            raise ConfigError(f"{where} says twice what {twice[0]} is: in product, in zip or by seeds")
        replaced = {*given, *(["seed"] if seeds is not None else [])}
        product, zipped = ({k: v for k, v in axes.items() if k not in replaced} for axes in (product, zipped))
        count = seeds if seeds is not None else block.get("seeds")
        axes = {**product, **given}
        if count is not None and "seed" not in given:
            axes["seed"] = [str(seed) for seed in range(count_of_seeds(count))]
        known = {*own, *given, "seed"}
        side_by_side = [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)] or [{}]
        # The seed varies slowest: a sweep that is stopped early has whole seeds, which can be compared in pairs.
        keys = sorted(axes, key=lambda key: key != "seed")
        for values in itertools.product(*(axes[key] for key in keys)):
            for row in side_by_side:
                cell = {**dict(zip(keys, values, strict=True)), **row}
                if not any(_matches(cell, pattern, known, where) for pattern in block.get("exclude") or []):
                    cells[tuple(f"{key}={value}" for key, value in cell.items())] = None
    return list(cells)


def _axes(block: dict[str, Any], part: str, where: str) -> Axes:
    axes = block.get(part) or {}
    if not isinstance(axes, dict):
        raise ConfigError(f"{where}: {part} must be options with lists of values, got {axes!r}")
    return {key: _values(key, values) for key, values in axes.items()}


def _values(key: str, values: Any) -> list[str]:
    """The values of an axis as they would stand on the command line; ``range(0, 10)`` goes through Hydra's parser."""
    if isinstance(values, str):
        override = parse(f"{key}={values}")
        return _several(f"{key}={values}", override) if override.is_sweep_override() else [values]
    return [_written(value) for value in (values if isinstance(values, list) else [values])]


def _several(text: str, override: Any) -> list[str]:
    """The values of ``text``, such as ``pool=max,average`` or ``seed=range(0,3)``. Raises: ConfigError."""
    from hydra.errors import HydraException

    try:
        return list(override.sweep_string_iterator())
    except HydraException as error:
        raise ConfigError(f"{text!r}: {error}; values are written a,b or range(0,3)") from error


def _written(value: Any) -> str:
    """``value`` of a block as it would stand on the command line, in quotes where it would mean something else."""
    if isinstance(value, str):
        try:
            return quoted(value) if parse(f"x={value}").is_sweep_override() else value
        except ConfigError:
            return quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    return str(value)


def _matches(cell: dict[str, str], pattern: Any, known: set[str], where: str) -> bool:
    if not isinstance(pattern, dict) or not pattern:
        raise ConfigError(
            f"{where}: exclude is a list of partial matches such as {{pool: lp, seed: 3}}, got {pattern!r}"
        )
    for key in pattern:
        if key not in known:
            raise ConfigError(f"{where}: exclude names {key}, which does not vary there.{nearest(key, sorted(known))}")
    return all(cell.get(key) in _values(key, wanted) for key, wanted in pattern.items())
