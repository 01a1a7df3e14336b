"""From what a user writes to cells: grids on the command line, and declared blocks."""

import itertools
from collections.abc import Iterable
from typing import Any

from poolbench.configuration import ConfigError, parse

Axes = dict[str, list[str]]  # option -> its values, each as it would stand after the = of an override

_BLOCK_KEYS = ("product", "zip", "exclude", "seeds")


def command_line(overrides: Iterable[str]) -> tuple[Axes, int | None]:
    """Axes of a command line, ``pool=max,average trainer.epochs=3``, and what ``seeds=`` says.

    Raises: ConfigError for what cannot be read, an option given twice, or ``seeds`` beside ``seed``.
    """
    axes: Axes = {}
    seeds = None
    for text in overrides:
        override = parse(text)
        key = text.partition("=")[0]
        if key == "seeds":
            seeds = count_of_seeds(override.value())
            continue
        if key in axes:
            raise ConfigError(f"{key} is given twice; several values are written {key}=a,b")
        value = text.partition("=")[2]
        axes[key] = list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]
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
    place of the block's own. Without blocks the command line alone is the sweep.

    Returns: in order, each once; the seed last, so that the first seed of every treatment comes early.
    Raises: ConfigError naming the block and what is wrong.
    """
    cells: dict[tuple[str, ...], None] = {}
    for number, block in enumerate(blocks or [{}], start=1):
        where = f"sweep block {number}"
        if not isinstance(block, dict) or set(block) - set(_BLOCK_KEYS):
            raise ConfigError(f"{where} may have {', '.join(_BLOCK_KEYS)}, got {block!r}")
        product = {
            key: _values(key, values) for key, values in (block.get("product") or {}).items() if key not in given
        }
        zipped = {key: _values(key, values) for key, values in (block.get("zip") or {}).items() if key not in given}
        if len({len(values) for values in zipped.values()}) > 1:
            lengths = ", ".join(f"{key}: {len(values)}" for key, values in zipped.items())
            raise ConfigError(f"{where}: lists under zip must have one length, got {lengths}")
        count = seeds if seeds is not None else block.get("seeds")
        axes = {**product, **given}
        if count is not None and "seed" not in axes and "seed" not in zipped:
            axes["seed"] = [str(seed) for seed in range(count_of_seeds(count))]
        side_by_side = [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)] or [{}]
        # The seed varies slowest: a sweep that is stopped early has whole seeds, which can be compared in pairs.
        keys = sorted(axes, key=lambda key: key != "seed")
        for values in itertools.product(*(axes[key] for key in keys)):
            for row in side_by_side:
                cell = {**dict(zip(keys, values, strict=True)), **row}
                if not any(_matches(cell, pattern, where) for pattern in block.get("exclude") or []):
                    cells[tuple(f"{key}={value}" for key, value in cell.items())] = None
    return list(cells)


def _values(key: str, values: Any) -> list[str]:
    """The values of an axis as they would stand on the command line; ``range(0, 10)`` goes through Hydra's parser."""
    if isinstance(values, str):
        override = parse(f"{key}={values}")
        return list(override.sweep_string_iterator()) if override.is_sweep_override() else [values]
    return [_written(value) for value in (values if isinstance(values, list) else [values])]


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    return str(value)


def _matches(cell: dict[str, str], pattern: Any, where: str) -> bool:
    if not isinstance(pattern, dict) or not pattern:
        raise ConfigError(
            f"{where}: exclude is a list of partial matches such as {{pool: lp, seed: 3}}, got {pattern!r}"
        )
    return all(cell.get(key) in _values(key, wanted) for key, wanted in pattern.items())
