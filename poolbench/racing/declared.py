"""What a race is, checked before its first cell and kept in a file: arms, budgets, looks, difference."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.checks import Rule, checked, is_whole, number
from poolbench.configuration import GROUPS, ConfigError
from poolbench.foreign import parsed_json, read_bytes
from poolbench.heads import HEADS
from poolbench.messages import meant_options
from poolbench.overrides import parse
from poolbench.pooling import POOLS
from poolbench.records.files import write_json
from poolbench.records.identity import SCHEMA_VERSION, cell_hash
from poolbench.registry import said
from poolbench.statistics.race import LOOKS
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.grammar import bare, command_line, expand
from poolbench.sweep.plan import make_plan
from poolbench.tuning.rungs import sides

VALIDATION = 0.1
MOST_BLOCKS = 1000
FILE = "race.json"
EVERY = {"pool": POOLS, "head": HEADS}  # groups that take the word "all"


def _growing(least: int, most: int) -> Rule:
    def allowed(value: Any) -> bool:
        whole = isinstance(value, list) and value and all(is_whole(one, least, most) for one in value)
        return bool(whole) and all(a < b for a, b in itertools.pairwise(value))

    return Rule(allowed, f"a list of growing whole numbers from {least} to {most:,}, as [3, 5, 8]")


_POINTS = number(0, 100, open=True)
OPTIONS: dict[str, tuple[Any, Rule]] = {  # option -> its default, and what it may be
    "race.looks": (list(LOOKS), _growing(2, MOST_BLOCKS)),
    "race.difference": (0.5, Rule(_POINTS.allowed, f"{_POINTS.words} (points of accuracy)")),
    "race.epochs": (None, _growing(1, 100_000)),
    "race.cheap_difference": (3.0, Rule(_POINTS.allowed, f"{_POINTS.words} (points of accuracy)")),
    "race.name": ("default", Rule(lambda value: bool(re.fullmatch(r"[\w.+-]{1,60}", str(value))), "a short name")),
    "hours": (None, number(0, open=True)),
}
_OURS = {  # what a race sets itself -> what to say instead
    "seed": "its blocks are seeds 0, 1, ...: race.looks says how many",
    "seeds": "its blocks are seeds 0, 1, ...: race.looks says how many",
    "trainer.test": "the test set is read at its end, of the arms that are left",
    "sweep.max_hours": "hours=N says how long it may take",
    "sweep.sample": "it trains whole blocks",
    "sweep.fail_fast": "an arm that fails falls, and the others go on",
}


@dataclass(frozen=True)
class Budget:
    """A stage of a race: how long its cells are trained, and when they are looked at.

    Args:
        epochs: of its cells; None where the arms have their own.
        looks: numbers of blocks.
        margin: an arm falls where another is surely better by more than this, as a fraction.
        cheap: whether it comes before the full budget.
        cells: arm -> its cells, a block each.
    """

    epochs: int | None
    looks: tuple[int, ...]
    margin: float
    cheap: bool
    cells: Mapping[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Race:
    """All that is decided before the first cell.

    Args:
        name: of its folder; difference, cheap_difference: of interest, as fractions.
        hours: that a call of the command may take; None: any.
        budgets: the full one comes last.
        refused: arms that cannot be configured -> why; they fell before the race.
        options: the ``sweep`` part of the config.
        folder: where its declaration and report go.
        notes: what the user should know of how the arms came about.
    """

    name: str
    difference: float
    cheap_difference: float
    hours: float | None
    budgets: tuple[Budget, ...]
    refused: Mapping[str, str]
    options: dict[str, Any]
    folder: Path
    notes: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """Those that can be trained."""
        return tuple(self.full.cells)

    @property
    def full(self) -> Budget:
        """The last budget, which alone decides who is the best."""
        return self.budgets[-1]

    @property
    def most_cells(self) -> int:
        """That are trained where no arm falls."""
        return sum(len(budget.cells) * budget.looks[-1] for budget in self.budgets)


def make_race(overrides: Iterable[str], folders: Iterable[Path] = (), trust: Iterable[str] = ()) -> Race:
    """Check everything that can be checked before the first cell.

    Args:
        overrides: as for a sweep, ``pool=all`` and ``head=all`` besides; every combination is an arm.
        folders, trust: see :func:`poolbench.sweep.plan.make_plan`.
    Raises: ConfigError for anything wrong with an option; DataError when the data is missing.
    """
    folders, trust = tuple(folders), tuple(trust)
    own, words = _taken(overrides)
    words, every = _spelt_out(words)
    given = {bare(text.partition("=")[0]) for text in words}
    for key, hint in _OURS.items():
        if key in given:
            raise ConfigError(f"{key} cannot be given to a race: {hint}")
    epochs = own["race.epochs"]
    if epochs and "trainer.epochs" in given:
        raise ConfigError(
            f"trainer.epochs and race.epochs={epochs} are both given: the last of race.epochs is the full"
        )
    words += ["trainer.test=false", *([] if "data.validation" in given else [f"data.validation={VALIDATION}"])]
    words += [f"trainer.epochs={epochs[-1]}"] if epochs else []
    of_sweep = [text for text in words if text.startswith("sweep.")]
    arms, refused, plan = _arms(words, of_sweep, every, folders, trust)
    looks = tuple(own["race.looks"])
    full = {label: _cells(arm, of_sweep, looks[-1], folders, trust) for label, arm in arms.items()}
    _check_alike(full)
    difference, cheap = own["race.difference"] / 100, own["race.cheap_difference"] / 100
    budgets = []
    for few in (epochs or [])[:-1]:
        short = {
            label: _cells(_shortened(arm, full[label][0], few), of_sweep, looks[0], folders, trust)
            for label, arm in arms.items()
        }
        budgets.append(Budget(few, looks[:1], cheap, True, short))
    budgets.append(Budget(epochs[-1] if epochs else None, looks, 0.0, False, full))
    name = str(own["race.name"])
    folder = plan.report_dir.parent / f"race-{name}"
    return Race(name, difference, cheap, own["hours"], tuple(budgets), refused, plan.options, folder, plan.notes)


def declare(race: Race) -> None:
    """Keep what was decided beforehand in ``race.json``; where it is there, see that it says the same.

    Raises: ConfigError where it says something else: what holds of a race holds for looks that were declared before.
    """
    path, said_now = race.folder / FILE, _declaration(race)
    known = declared(race)
    differing = [key for key in said_now if known and key != "hours" and known.get(key) != said_now[key]]
    if differing:
        changes = "; ".join(_change(key, known.get(key), said_now[key]) for key in differing)
        raise ConfigError(
            f"race {race.name!r} was declared otherwise in {path}: {changes}. A race keeps to what was declared before "
            "its first cell: give that, or race.name=ANOTHER for another race"
        )
    if known != said_now:
        write_json(path, said_now)


def declared(race: Race) -> dict[str, Any]:
    """What ``race.json`` says; empty where there is none. Raises: ConfigError when it cannot be read."""
    path = race.folder / FILE
    if not path.exists():
        return {}
    try:
        content = parsed_json(read_bytes(path, inside=path.parent))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; put it away to declare the race anew") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no declaration of a race; put it away to declare the race anew")
    return content


def _declaration(race: Race) -> dict[str, Any]:
    hashes = {arm: cell_hash(cells[0].run_id) for arm, cells in race.full.cells.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "arms": {**hashes, **dict.fromkeys(race.refused)},  # arm -> hash of its first cell
        "looks": list(race.full.looks),
        "difference": round(100 * race.difference, 9),
        "epochs": [budget.epochs for budget in race.budgets],
        "cheap_difference": round(100 * race.cheap_difference, 9) if len(race.budgets) > 1 else None,
        "hours": race.hours,
    }


def _change(key: str, before: Any, now: Any) -> str:
    if key != "arms" or not isinstance(before, dict):
        return f"{key} {before}, now {now}"
    gone, new = sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())
    told = [f"without {', '.join(gone)}"] if gone else []
    told += [f"with {', '.join(new)}"] if new else []
    other = [arm for arm in now if arm in before and before[arm] != now[arm]]
    return f"arms, now {' and '.join(told) or 'with another recipe or data for ' + ', '.join(other)}"


def _taken(overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The race's own options, checked, and all other words."""
    own = {option: default for option, (default, _) in OPTIONS.items()}
    rest: list[str] = []
    given: set[str] = set()
    for text in overrides:
        key = text.partition("=")[0]
        if key not in OPTIONS:
            if key.startswith("race"):
                near = said(meant_options(key, list(OPTIONS))[:3])
                raise ConfigError(f"a race has no option {key}.{near} It has: {', '.join(OPTIONS)}")
            rest.append(text)
            continue
        if key in given:
            raise ConfigError(f"{key} is given twice")
        given.add(key)
        override = parse(text)
        if override.is_sweep_override():
            raise ConfigError(f"{text}: {key} takes one value; a list is written {key}=[2,8]")
        own[key] = checked(key, override.value(), OPTIONS[key][1], ConfigError)
    if own["race.epochs"] and len(own["race.epochs"]) < 2:
        raise ConfigError(f"race.epochs must be a list of two or more, the full budget last, got {own['race.epochs']}")
    if "race.cheap_difference" in given and not own["race.epochs"]:
        raise ConfigError("race.cheap_difference is for cheap budgets: give race.epochs=[2,8] too, or leave it out")
    return own, rest


def _spelt_out(words: list[str]) -> tuple[list[str], bool]:
    """``words`` with all names in place of ``all``, and whether there was one."""
    spelt = [
        f"{key}={','.join(EVERY[key].table)}" if value == "all" and key in EVERY else f"{key}{equals}{value}"
        for key, equals, value in (text.partition("=") for text in words)
    ]
    return spelt, spelt != words


def _arms(
    words: list[str], of_sweep: list[str], every: bool, folders: tuple[Path, ...], trust: tuple[str, ...]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str], Plan]:
    """The arms, label -> words; those that cannot be configured -> why; and a plan with the options of all.

    Whoever names an arm is told what is wrong with it. Of all that there are, some fit no net: they fall.
    """
    refused: dict[tuple[str, ...], str] = {}
    plan: Plan | None = None
    good: list[tuple[str, ...]] = []
    try:
        plan = make_plan([*words, "seeds=1"], folders, trust=trust)
        good = [_without_seed(cell) for cell in plan.cells]
    except ConfigError as error:
        if not every:
            raise
        given, _ = command_line([text for text in words if text not in of_sweep])
        for arm in expand([], given, None):
            try:
                plan = make_plan([*arm, *of_sweep, "seeds=1"], folders, own_blocks=[], trust=trust)
                good.append(_without_seed(plan.cells[0]))
            except ConfigError as reason:
                refused[arm] = str(reason)
        if plan is None:  # what is wrong is wrong with all of them
            raise error from None
    labels = _labels([*good, *refused])
    if len(good) < 2:
        hint = "" if refused else ": give several values of an option, as pool=max,average, or pool=all"
        raise ConfigError(f"a race needs two arms or more, got {len(good)}{hint}")
    arms = {labels[arm]: arm for arm in good}
    assert plan is not None
    return arms, {labels[arm]: why for arm, why in refused.items()}, plan


def _without_seed(cell: Cell) -> tuple[str, ...]:
    return tuple(text for text in cell.overrides if not text.startswith("seed="))


def _labels(arms: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What tells each arm from the others: the name of its pool where nothing else does."""
    common = set(arms[0]).intersection(*arms)
    labels = {}
    for arm in arms:
        own = [text for text in arm if text not in common]
        keys = {text.partition("=")[0] for text in own}
        short = len(keys) == 1 and keys <= set(GROUPS)
        labels[arm] = own[0].partition("=")[2] if short else " ".join(own) or "as configured"
    return labels


def _cells(
    arm: tuple[str, ...], of_sweep: list[str], blocks: int, folders: tuple[Path, ...], trust: tuple[str, ...]
) -> tuple[Cell, ...]:
    return make_plan([*arm, *of_sweep, f"seeds={blocks}"], folders, own_blocks=[], trust=trust).cells


def _shortened(arm: tuple[str, ...], full: Cell, epochs: int) -> tuple[str, ...]:
    """The words of ``arm`` at a smaller budget; where each epoch has an image size of its own, with fewer of them."""
    words = [f"trainer.epochs={epochs}"]
    trainer = full.trainer
    short = sides(trainer.sizes, trainer.epochs, epochs)
    if short != trainer.sizes:
        words.append(f"trainer.sizes=[{','.join(map(str, short or []))}]")
    keys = {text.partition("=")[0] for text in words}
    return (*words, *(text for text in arm if bare(text.partition("=")[0]) not in keys))


def _check_alike(cells: Mapping[str, tuple[Cell, ...]]) -> None:
    """Raises: ConfigError for arms that are not read on the same validation images, or on none."""
    shares = {own[0].config["data"].get("validation", 0.0) for own in cells.values()}
    data = {own[0].config["data_fingerprint"] for own in cells.values()}
    if len(shares) > 1 or len(data) > 1:
        raise ConfigError("the arms have different data or data.validation, and a race reads all on the same images")
    if not shares.pop() > 0:
        raise ConfigError(f"data.validation must be above 0, got 0: leave it out ({VALIDATION}) or give a share")
