"""From what a user writes to cells: grids on the command line, and declared blocks."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from poolbench.checks import is_whole
from poolbench.configuration import GROUPS, ConfigError
from poolbench.overrides import parse, quoted, refuse_cut
from poolbench.records.identity import digest
from poolbench.registry import nearest

Axes = dict[str, list[str]]  # option -> its values, each as it would stand after the = of an override

_BLOCK_KEYS = ("product", "zip", "exclude", "overrides", "seeds")
_OVERRIDE_KEYS = ("match", "set")
_PATTERN = "partial matches such as {pool: lp, seed: 3}"
MOST_CELLS = 100_000  # of a sweep: planning them takes a minute
_OF_THE_SWEEP = ("runs_dir", "report_dir")


def command_line(overrides: Iterable[str]) -> tuple[Axes, int | None]:
    """Axes of a command line, ``pool=max,average trainer.epochs=3``, and what ``seeds=`` says.

    Raises: ConfigError for what cannot be read, an option given twice, or ``seeds`` beside ``seed``.
    """
    axes: Axes = {}
    seeds = None
    overrides = list(overrides)
    refuse_cut(overrides)
    for text in overrides:
        if text.startswith("~"):
            raise ConfigError(f"{text}: an option cannot be removed")
        override = parse(text)
        key = text.partition("=")[0]
        if key == "seeds":
            if seeds is not None:
                raise ConfigError("seeds is given twice")
            seeds = count_of_seeds(_several(text, override) if override.is_sweep_override() else override.value())
            continue
        if bare(key) in map(bare, axes):
            raise ConfigError(f"{bare(key)} is given twice; several values are written {bare(key)}=a,b")
        axes[key] = _several(text, override) if override.is_sweep_override() else [text.partition("=")[2]]
        if key in _OF_THE_SWEEP and len(axes[key]) > 1:
            raise ConfigError(f"{key} takes one value, for the whole sweep, got {', '.join(axes[key])}")
    if seeds is not None and "seed" in axes:
        raise ConfigError("give either seed=... (which seeds) or seeds=... (how many, from 0), not both")
    if clash := _clash(axes):
        raise ConfigError(clash)
    return axes, seeds


def count_of_seeds(value: Any, where: str = "") -> int:
    """``seeds=6`` means seeds 0 to 5. Raises: ConfigError, which begins with ``where``."""
    if isinstance(value, list) and value:
        which = ",".join(map(str, value))
        raise ConfigError(
            f"{where}seeds must be a whole number of at least 1 (6 means seed 0 to 5), got {which}: these seeds are "
            f"seed={which}, so many are seeds={len(value)}"
        )
    if not is_whole(value, 1):
        raise ConfigError(
            f"{where}seeds must be a whole number of at least 1 (6 means seed 0 to 5; which ones: seed), got {value!r}"
        )
    return value


def bare(key: str) -> str:
    """The option that ``+pool.p`` or ``++pool.p`` names."""
    return key.lstrip("+")


def expand(blocks: list[Any], given: Axes, seeds: int | None) -> dict[tuple[str, ...], str]:
    """All cells of a sweep as overrides: the union of its blocks, each crossed with what the command line gives.

    A block has ``product`` (options to lists: all combinations), ``zip`` (options to lists of one length: side by
    side), ``exclude`` (a list of partial matches to leave out), ``overrides`` (a list of ``{match: ..., set: ...}``:
    what to set in the cells that match, as they were declared; later ones win) and ``seeds``. An option on the command
    line takes the place of the block's own, as ``seeds`` does of its seeds. Without blocks the command line alone is
    the sweep.

    Returns: cell -> the block that has it (empty without blocks), in order, each once; the seed varies slowest, so that
        the first seed of every treatment comes early.
    Raises: ConfigError naming the block and what is wrong.
    """
    cells: dict[tuple[str, ...], str] = {}
    meanings: dict[tuple[str, ...], tuple[tuple[str, ...], str]] = {}  # a cell's words -> what overrides make of them
    for number, content in enumerate(blocks or [{}], start=1):
        where = f"sweep block {number}" if blocks else ""
        block = _read(content, where)
        for option in block.options_set():
            if option in map(bare, given):
                raise ConfigError(
                    f"{where}: overrides sets {option}, which the command line gives too: which of the two is meant? "
                    f"Leave one out"
                )
        for words, meaning in _cells(block, given, seeds).items():
            known, place = meanings.setdefault(words, (meaning, where))
            if known != meaning:
                raise ConfigError(
                    f"{where}: {' '.join(words)} means {_told(meaning, words)} there and {_told(known, words)} in "
                    f"{place}: leave it out of one of them"
                )
            cells.setdefault(meaning, where)
    return cells


@dataclass(frozen=True)
class _Block:
    """One block as it was declared; values as they stand on the command line."""

    where: str
    product: Axes
    zipped: Axes
    seeds: int | None
    exclude: list[dict[str, list[str]]]
    overrides: list[tuple[dict[str, list[str]], dict[str, str]]]

    def options_set(self) -> list[str]:
        return [bare(key) for _, settings in self.overrides for key in settings]


def _read(content: Any, where: str) -> _Block:
    """Raises: ConfigError for whatever can be told wrong from the block alone."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: a block may have {', '.join(_BLOCK_KEYS)}, got {content!r}")
    _check_keys(content, _BLOCK_KEYS, where, f"A block may have {', '.join(_BLOCK_KEYS)}")
    product, zipped = _axes(content, "product", where), _axes(content, "zip", where)
    if len({len(values) for values in zipped.values()}) > 1:
        lengths = ", ".join(f"{key}: {len(values)}" for key, values in zipped.items())
        raise ConfigError(f"{where}: lists under zip must have one length, got {lengths}")
    seeds = None if content.get("seeds") is None else count_of_seeds(content["seeds"], f"{where}: ")
    own = [bare(key) for key in (*product, *zipped, *(["seed"] if seeds is not None else []))]
    if twice := [key for key in dict.fromkeys(own) if own.count(key) > 1]:
        raise ConfigError(f"{where} says twice what {twice[0]} is: in product, in zip or by seeds")
    if clash := _clash({**product, **zipped}):
        raise ConfigError(f"{where}: {clash}")
    return _Block(
        where,
        product,
        zipped,
        seeds,
        [_pattern(item, "exclude", where) for item in _list(content, "exclude", f"a list of {_PATTERN}", where)],
        [_override(item, where) for item in _list(content, "overrides", "a list of {match: {...}, set: {...}}", where)],
    )


def _check_keys(content: dict[Any, Any], allowed: tuple[str, ...], where: str, words: str) -> None:
    for key in content:
        if key not in allowed:
            raise ConfigError(f"{where}: unknown key {key!r}.{nearest(str(key), list(allowed))} {words}")


def _list(content: dict[str, Any], part: str, what: str, where: str) -> list[Any]:
    items = content.get(part)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ConfigError(f"{where}: {part} is {what}, got {items!r}")
    return items


def _pattern(item: Any, part: str, where: str) -> dict[str, list[str]]:
    if not isinstance(item, dict) or not item:
        raise ConfigError(f"{where}: {part} takes {_PATTERN}, got {item!r}")
    return {bare(_option(key, part, where)): _values(key, wanted, part, where) for key, wanted in item.items()}


def _override(item: Any, where: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: overrides is a list of {{match: {{...}}, set: {{...}}}}, got {item!r}")
    _check_keys(item, _OVERRIDE_KEYS, f"{where}: overrides", "An entry has match and set")
    settings = item.get("set")
    if not isinstance(settings, dict) or not settings:
        raise ConfigError(f"{where}: overrides: set must be options with a value each, got {settings!r}")
    match = _pattern(item.get("match"), "overrides: match", where)
    values = {}
    for key, value in settings.items():
        name = bare(_option(key, "overrides: set", where))
        if name == "seed":
            raise ConfigError(f"{where}: overrides: set cannot change seed: cells would lose the ones they pair with")
        if isinstance(value, str) and (several := _values(key, value, "overrides: set", where)) != [value]:
            raise ConfigError(f"{where}: overrides: set takes one value for {name}, got {', '.join(several)}")
        if name in map(bare, values):
            raise ConfigError(f"{where}: overrides: set says twice what {name} is")
        values[key] = _written(value)
    return match, values


def _axes(content: dict[str, Any], part: str, where: str) -> Axes:
    axes = content.get(part) or {}
    if not isinstance(axes, dict):
        raise ConfigError(f"{where}: {part} must be options with lists of values, got {axes!r}")
    for key in axes:
        _option(key, part, where)
    return {key: _values(key, values, part, where) for key, values in axes.items()}


def _option(key: Any, part: str, where: str) -> str:
    """``key``, if it may be an option of a cell. Raises: ConfigError."""
    if not isinstance(key, str) or not re.fullmatch(r"\+{0,2}[A-Za-z_][\w.\-]*", key):
        hint = "; inside braces a value with a comma needs quotes" if isinstance(key, str) else ""
        raise ConfigError(f"{where}: {part}: {key!r} is no option: options look like pool or trainer.epochs{hint}")
    name = bare(key)
    if name == "seeds":
        raise ConfigError(f"{where}: {part}: seeds stands beside product; under it, seed: [0, 1] says which")
    if name.partition(".")[0] in ("sweep", "hydra", *_OF_THE_SWEEP):
        raise ConfigError(
            f"{where}: {part}: {name} is of the whole sweep and not of a cell: give it on the command line"
        )
    return key


def _cells(block: _Block, given: Axes, seeds: int | None) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The cells of ``block``: their words, and what its overrides make of them, which is the same without any."""
    _check_patterns(block, given, seeds)
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    origins: dict[tuple[str, ...], tuple[str, ...]] = {}
    for cell in _kept(block, given, seeds):
        changed = dict(cell)
        for pattern, settings in block.overrides:
            if _matches(cell, pattern):
                for key, value in settings.items():
                    place = next((known for known in changed if bare(known) == bare(key)), key)
                    changed[place] = value
        if clash := _clash({key: [value] for key, value in changed.items()}):
            raise ConfigError(f"{block.where}: {clash}" if block.where else clash)
        words, meaning = _texts(cell), _texts(changed)
        if origins.setdefault(meaning, words) != words:
            raise ConfigError(
                f"{block.where}: overrides makes one cell of {' '.join(origins[meaning])} and {' '.join(words)}: "
                f"it sets an option that varies between them"
            )
        found[words] = meaning
    return found


def _texts(cell: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in cell.items())


def _told(meaning: tuple[str, ...], words: tuple[str, ...]) -> str:
    return " ".join(text for text in meaning if text not in words) or "just that"


def _check_patterns(block: _Block, given: Axes, seeds: int | None) -> None:
    """Raises: ConfigError for a pattern that names what does not vary, or that no cell matches: it says something else
    than what was meant. A command line may well have left out the cells that it was for."""
    known = {bare(key) for key in (*block.product, *block.zipped, *given, "seed")}
    patterns = [(pattern, "exclude") for pattern in block.exclude]
    patterns += [(pattern, "overrides: match") for pattern, _ in block.overrides]
    for pattern, part in patterns:
        for key in pattern:
            if key not in known:
                hint = nearest(key, sorted(known))
                raise ConfigError(f"{block.where}: {part} names {key}, which does not vary there.{hint}")
        use = _combinations if part == "exclude" else _kept
        narrowed = bool(given) or seeds is not None
        for lines in ((given, seeds), ({}, None)) if narrowed else ((given, seeds),):
            if any(_matches(cell, pattern) for cell in use(block, *lines)):
                break
        else:
            shown = ", ".join(f"{key}: {' or '.join(values)}" for key, values in pattern.items())
            has = "; ".join(
                f"{key} is {', '.join(dict.fromkeys(values))}" for key in pattern if (values := _has(block, given, key))
            )
            raise ConfigError(f"{block.where}: {part} {{{shown}}} fits no cell{f' ({has})' if has else ''}")


def _has(block: _Block, given: Axes, option: str) -> list[str]:
    """The values that ``option`` takes in ``block``."""
    if option == "seed" and block.seeds is not None:
        return [str(seed) for seed in range(block.seeds)]
    return [
        v for axes in (block.product, block.zipped, given) for k, vs in axes.items() if bare(k) == option for v in vs
    ]


def _kept(block: _Block, given: Axes, seeds: int | None) -> Iterator[dict[str, str]]:
    """The combinations that ``exclude`` leaves."""
    for cell in _combinations(block, given, seeds):
        if not any(_matches(cell, pattern) for pattern in block.exclude):
            yield cell


def _combinations(block: _Block, given: Axes, seeds: int | None) -> Iterator[dict[str, str]]:
    replaced = {*map(bare, given), *(["seed"] if seeds is not None else [])}
    product, zipped = (
        {key: values for key, values in axes.items() if bare(key) not in replaced}
        for axes in (block.product, block.zipped)
    )
    count = seeds if seeds is not None else block.seeds
    axes = {**product, **given}
    count = None if "seed" in given else count
    rows = len(next(iter(zipped.values()), [None]))
    cells = math.prod([count or 1, rows, *(len(values) for values in axes.values())])
    if cells > MOST_CELLS:
        raise ConfigError(f"{block.where or 'the sweep'} has {cells:,} cells, and {MOST_CELLS:,} are the most")
    if count is not None:
        axes["seed"] = [str(seed) for seed in range(count)]
    side_by_side = [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)] or [{}]
    # The seed varies slowest: a sweep that is stopped early has whole seeds, which can be compared in pairs.
    keys = sorted(axes, key=lambda key: key != "seed")
    for values in itertools.product(*(axes[key] for key in keys)):
        for row in side_by_side:
            yield {**dict(zip(keys, values, strict=True)), **row}


def _clash(axes: Axes) -> str:
    """What two options of one cell say against each other: one is a part of the other; empty when there is nothing."""
    names = {bare(key): values for key, values in axes.items()}
    for name in names:
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent in names and parent not in GROUPS:
                return f"{parent} and {name} are both given, and the second is a part of the first"
            lists = [value for value in names.get("pool", []) if value.lstrip().startswith("[")]
            if parent == "pool" and lists:
                return (
                    f"pool={lists[0]} and {name} are both given: in a list of pools a site's options stand in "
                    f"braces, as pool=[max,{{lp:{{p:3}}}}]"
                )
    return ""


def _values(key: str, values: Any, part: str, where: str) -> list[str]:
    """The values of an axis as they would stand on the command line; ``range(0, 10)`` goes through Hydra's parser."""
    try:
        if isinstance(values, str):
            override = parse(f"{key}={values}")
            return _several(f"{key}={values}", override) if override.is_sweep_override() else [values]
    except ConfigError as error:
        raise ConfigError(
            f"{where}: {part}: cannot read {values!r} as values of {key}: text with '=' or other special characters "
            f"needs quotes of its own or stands in a list, as {key}: [{values!r}]"
        ) from error
    if values == []:
        raise ConfigError(f"{where}: {part}: {key} has no value")
    return [_written(value) for value in (values if isinstance(values, list) else [values])]


def _several(text: str, override: Any) -> list[str]:
    """The values of ``text``, such as ``pool=max,average`` or ``seed=range(0,3)``. Raises: ConfigError."""
    from hydra.errors import HydraException

    whole = override.value()
    steps = abs((whole.stop - whole.start) / (whole.step or 1)) if type(whole).__name__ == "RangeSweep" else 0
    if steps > MOST_CELLS:
        raise ConfigError(f"{text!r} has {int(steps):,} values, and {MOST_CELLS:,} are the most")
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise ConfigError(f"{text!r}: {error}; values are written a,b or range(0,3)") from error
    if not values:
        raise ConfigError(f"{text!r} has no value")
    return values


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


def _matches(cell: dict[str, str], pattern: dict[str, list[str]]) -> bool:
    values = {bare(key): value for key, value in cell.items()}
    return all(key in values and _meaning(values[key]) in map(_meaning, wanted) for key, wanted in pattern.items())


@cache
def _meaning(text: str) -> str:
    """The same for ``0.10``, ``0.1`` and ``1e-1``."""
    try:
        return digest(parse(f"x={text}").value())
    except (ConfigError, TypeError):
        return text
