"""A search for the best recipe of each treatment: the same trials and the same budget for all, decided from records.

Each rung is an ordinary plan of cells: what was trained is there when the search is killed and started again, and what
is decided follows from the records alone. A rung trains its trials anew, each with a full schedule of its own length: a
long schedule cut short would be another recipe.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.configuration import GROUPS, ConfigError, composer, flatten, parse
from poolbench.records.identity import digest
from poolbench.records.read import read_record
from poolbench.records.state import DONE, FAILED
from poolbench.records.tuning import recipe
from poolbench.registry import nearest
from poolbench.sweep.grammar import bare
from poolbench.sweep.plan import Cell, Plan, make_plan
from poolbench.sweep.tune_optuna import check_installed, propose
from poolbench.sweep.tune_rungs import Rung, Score, make_rungs, ranked, sides, survivors
from poolbench.sweep.tune_space import Parameter, Point, grid_points, random_points, read_parameter, size_of
from poolbench.sweep.tuned import description, path_of
from poolbench.sweep.workers import failure_reason, read_status

SAMPLERS = ("random", "grid", "optuna")
TRIALS, ETA = 9, 3
SEED = 1000  # of trials: no seed that a comparison usually has takes part in the choice of its recipe
VALIDATION = 0.1
_WAVES = 4  # times that Optuna is told results and proposes anew; within one, trials run at once
# What a search sets itself, what would change its budget or its images, and what changes no result.
_NOT_SEARCHED = {
    *("seed", "seeds", "runs_dir", "report_dir", "tuned", "pool", "head", "model", "data", "trainer"),
    *("trainer.epochs", "trainer.sizes", "trainer.test", "trainer.device", "trainer.threads", "trainer.keep_memory"),
    *("trainer.evaluation_batch_size", "trainer.train_evaluation"),
    *("data.validation", "data.root", "data.download", "data.mirrors"),
}


class Unfinished(Exception):
    """Trials are neither done nor failed, as when ``sweep.max_hours`` was over; the same command goes on."""


@dataclass(frozen=True)
class Treatment:
    """What is tuned by itself: one value of each axis of the sweep.

    Args:
        label: what tells it from the others.
        words: its options, as on a command line, the seed apart.
        config: completed, before anything is tuned.
        match: how a cell of the treatment is recognised, see :func:`poolbench.sweep.tuned.description`.
    """

    label: str
    words: tuple[str, ...]
    config: dict[str, Any]
    match: dict[str, Any]


@dataclass(frozen=True)
class Search:
    """All that is decided before the first trial.

    Args:
        name: of the file that its winners go to.
        sampler: one of ``SAMPLERS``; seed: that it draws with.
        rungs: the stages; the first has all trials.
        seeds: of each trial's cells.
        validation: share of the training set that trials are judged on.
        fixed: options of the optimizer that all treatments share, which are a part of what ``optimizer=tuned`` means.
        options: the ``sweep`` part of the config.
        folders: further folders of configs.
    """

    name: str
    parameters: tuple[Parameter, ...]
    sampler: str
    seed: int
    eta: int
    rungs: tuple[Rung, ...]
    treatments: tuple[Treatment, ...]
    seeds: tuple[int, ...]
    validation: float
    fixed: dict[str, Any]
    options: dict[str, Any]
    folders: tuple[Path, ...]

    @property
    def trials(self) -> int:
        """Of each treatment."""
        return self.rungs[0].trials

    def cells(self, rung: Rung) -> int:
        """Cells of a rung, of all treatments."""
        return rung.trials * len(self.treatments) * len(self.seeds)


@dataclass(frozen=True)
class Wave:
    """Trials that are trained together: a rung, or a part of the first.

    Args:
        rung: its number, from 0.
        plan: the cells, each once.
        cells: (treatment, trial, seed) -> its cell, by numbers.
    """

    rung: int
    plan: Plan
    cells: dict[tuple[int, int, int], Cell]


@dataclass(frozen=True)
class Outcome:
    """What a search found for one treatment.

    Args:
        points: of its trials, by number.
        scores: of each rung, trial -> score.
        winner: the trial, None when all that were left failed.
        cells: of the winner, in the last rung.
    """

    treatment: Treatment
    points: list[Point]
    scores: list[dict[int, Score]]
    winner: int | None
    cells: tuple[Cell, ...]


def make_search(
    overrides: Iterable[str],
    params: Iterable[str],
    folders: Iterable[Path] = (),
    name: str = "default",
    trials: int | None = None,
    sampler: str = "random",
    eta: int = ETA,
    seed: int = 0,
) -> Search:
    """Check everything that can be checked before the first trial.

    Args:
        overrides: as for a sweep; their combinations, seeds apart, are the treatments.
        params: as ``optimizer.lr=log(0.01,1.0)``.
    Raises: ConfigError; DataError when the data is missing.
    """
    path_of(name)
    overrides, folders = list(overrides), tuple(folders)
    parameters = _parameters(params)
    if sampler == "optuna":
        check_installed()
    if sampler == "grid" and trials is not None:
        raise ConfigError("--trials does not go with --sampler grid, which takes every combination: see the ranges")
    given = {bare(text.partition("=")[0]) for text in overrides}
    for key in ("trainer.test", "tuned"):
        if key in given:
            raise ConfigError(f"{key} cannot be given to a search: it sets that itself")
    if "optimizer=tuned" in overrides:
        raise ConfigError("optimizer=tuned cannot be given to a search: it is what a search is for")
    for parameter in parameters:
        if parameter.option in given:
            raise ConfigError(f"{parameter.option} is given as an option and as --param: which is meant?")
    plan = make_plan([*overrides, *([] if given & {"seed", "seeds"} else [f"seed={SEED}"])], folders)
    for option in ("sample", "fail_fast"):
        if plan.options[option]:
            raise ConfigError(f"sweep.{option}={plan.options[option]} cannot be given to a search: its trials decide")
    epochs, validation = _shared(plan, "data.validation" in given)
    seeds: dict[tuple[str, ...], list[int]] = {}
    configs: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in plan.cells:
        words = tuple(text for text in cell.overrides if not text.startswith("seed="))
        seeds.setdefault(words, []).append(cell.config["seed"])
        configs.setdefault(words, cell.config)
    if len({tuple(own) for own in seeds.values()}) > 1:
        raise ConfigError(
            "all treatments of a search need the same seeds: give seeds=N or seed=... on the command line"
        )
    fixed = _fixed(list(configs))
    treatments = _treatments(configs, fixed, folders)
    _check_options(parameters, treatments)
    if sampler == "grid":
        trials = len(grid_points(parameters))
    else:
        trials = min(TRIALS if trials is None else trials, size_of(parameters) or math.inf)
    return Search(
        name=name,
        parameters=parameters,
        sampler=sampler,
        seed=seed,
        eta=eta,
        rungs=tuple(make_rungs(trials, eta, epochs)),
        treatments=treatments,
        seeds=tuple(next(iter(seeds.values()))),
        validation=validation,
        fixed={key: parse(f"x={value}").value() for key, value in fixed.items()},
        options=plan.options,
        folders=folders,
    )


def run_search(search: Search, train: Callable[[Wave], Mapping[str, str]]) -> list[Outcome]:
    """Let ``train`` train each wave of trials and decide, from the records that it leaves, which go on.

    A trial that failed counts as the worst and stops nothing.

    Args:
        train: trains the open cells of a wave and returns run_id -> reason for those that failed; it may as well do
            nothing, to see how far the records go.
    Raises: Unfinished when cells are neither done nor failed after ``train``.
    """
    numbers = range(len(search.treatments))
    points: list[list[Point]] = [[] for _ in numbers]
    scores: list[list[dict[int, Score]]] = [[] for _ in numbers]
    cells: dict[tuple[int, int, int], Cell] = {}
    for number, rung in enumerate(search.rungs):
        cells.clear()  # the winner's are those of the last rung
        for treatment in numbers:
            scores[treatment].append({})
        for chosen in _chosen(search, number, rung, points, scores):
            wave = _wave(search, number, rung, chosen, points)
            failed = train(wave)
            cells |= wave.cells
            for (treatment, trial), own in _trials(wave).items():
                scores[treatment][number][trial] = _score(own, failed)
    outcomes = []
    for number, treatment in enumerate(search.treatments):
        best = next((trial for trial in ranked(scores[number][-1])), None)
        if best is not None and scores[number][-1][best].accuracy is None:
            best = None
        own = tuple(cell for (place, trial, _), cell in cells.items() if (place, trial) == (number, best))
        outcomes.append(Outcome(treatment, points[number], scores[number], best, own))
    return outcomes


def open_cells(wave: Wave) -> Plan:
    """The plan of what there is to train in ``wave``: a cell that is done is not trained again, nor one that failed in
    a way that would repeat itself, as by a loss that is not finite."""
    return dataclasses.replace(wave.plan, cells=tuple(cell for cell in wave.plan.cells if not _settled(cell)))


def entry(search: Search, outcome: Outcome) -> dict[str, Any]:
    """What the file of winners says of a treatment that has one."""
    assert outcome.winner is not None
    point = outcome.points[outcome.winner]
    found = dict(zip((parameter.option for parameter in search.parameters), point, strict=True))
    values = {**search.fixed, **{option: parse(f"x={text}").value() for option, text in found.items()}}
    words = [text for text in outcome.treatment.words if bare(text.partition("=")[0]) not in found]
    (cell,) = make_plan(
        [*words, "seed=0", *(f"{k}={v}" for k, v in found.items())], search.folders, own_blocks=[]
    ).cells
    record = read_record(outcome.cells[0].folder)
    score = outcome.scores[-1][outcome.winner]
    shared = _alike(search)
    return {
        "match": outcome.treatment.match,
        "set": values,
        "from": {
            "search": digest(shared)[:8],
            **shared,
            "accuracy": score.accuracy,
            "images": score.images,
            "recipe": recipe(cell.config),
            "run_ids": [own.run_id for own in outcome.cells],
            "poolbench": record.environment.get("poolbench"),
            "commit": record.environment.get("commit"),
        },
    }


def _alike(search: Search) -> dict[str, Any]:
    """What all treatments of a fair search share."""
    return {
        "parameters": {parameter.option: parameter.text for parameter in search.parameters},
        "trials": search.trials,
        "rungs": [[rung.trials, rung.epochs] for rung in search.rungs],
        "sampler": search.sampler,
        "draw_seed": search.seed,
        "seeds": list(search.seeds),
        "validation": search.validation,
    }


def _parameters(params: Iterable[str]) -> tuple[Parameter, ...]:
    parameters = tuple(read_parameter(text) for text in params)
    if not parameters:
        raise ConfigError("a search needs at least one --param, as --param 'optimizer.lr=log(0.01,1.0)'")
    options = [parameter.option for parameter in parameters]
    for option in options:
        if options.count(option) > 1:
            raise ConfigError(f"--param {option} is given twice")
        if option in _NOT_SEARCHED or option.partition(".")[0] in ("sweep", "hydra"):
            raise ConfigError(f"--param {option} cannot be searched: it is no part of a recipe, or sets the budget")
    return parameters


def _check_options(parameters: Iterable[Parameter], treatments: Iterable[Treatment]) -> None:
    """Raises: ConfigError for a parameter that some treatment does not have: its trials would be no search."""
    for treatment in treatments:
        known = [key for key in flatten(treatment.config) if not key.startswith("names.") and "._" not in key]
        for parameter in parameters:
            if parameter.option not in (*known, "optimizer", "schedule"):
                raise ConfigError(
                    f"--param {parameter.option}: {treatment.label} has no such option."
                    f"{nearest(parameter.option, known)}"
                )


def _shared(plan: Plan, explicit: bool) -> tuple[int, float]:
    """The epochs and the share of validation images that all treatments have. Raises: ConfigError when they differ."""
    epochs = {cell.config["trainer"]["epochs"] for cell in plan.cells}
    if len(epochs) > 1:
        shown = ", ".join(map(str, sorted(epochs)))
        raise ConfigError(f"treatments have {shown} epochs, and a search has one budget for all: give trainer.epochs=N")
    shares = {cell.config["data"].get("validation", 0.0) for cell in plan.cells}
    if len(shares) > 1:
        raise ConfigError("treatments have different data.validation, and a search has one for all")
    (validation,) = shares
    if validation == 0 and explicit:
        raise ConfigError(f"data.validation=0 leaves nothing to choose by: leave it out ({VALIDATION}) or give a share")
    return epochs.pop(), validation or VALIDATION


def _fixed(treatments: list[tuple[str, ...]]) -> dict[str, str]:
    """The optimizer's options that are the same for all."""
    common = set(treatments[0]).intersection(*treatments)
    pairs = [text.partition("=")[::2] for text in treatments[0] if text in common]
    return {key: value for key, value in pairs if bare(key).partition(".")[0] == "optimizer"}


def _treatments(
    configs: dict[tuple[str, ...], dict[str, Any]], fixed: Mapping[str, str], folders: tuple[Path, ...]
) -> tuple[Treatment, ...]:
    common = set(next(iter(configs))).intersection(*configs)
    treatments = []
    with composer(folders) as compose:
        for words, config in configs.items():
            own = [text for text in words if text not in common]
            keys = {text.partition("=")[0] for text in own}
            label = own[0].partition("=")[2] if len(keys) == 1 and keys <= set(GROUPS) else " ".join(own)
            recognised = [text for text in words if text.partition("=")[0] not in fixed]
            match = description(compose.complete(recognised) if fixed else config)
            treatments.append(Treatment(label or config["names"]["pool"], words, config, match))
    return tuple(treatments)


def _chosen(
    search: Search, number: int, rung: Rung, points: list[list[Point]], scores: list[list[dict[int, Score]]]
) -> Iterator[list[list[int]]]:
    """For each wave of a rung the trials of each treatment; new ones are added to ``points``."""
    if number:
        yield [survivors(own[number - 1], rung.trials) for own in scores]
        return
    if search.sampler != "optuna":
        drawn = (
            grid_points(search.parameters)
            if search.sampler == "grid"
            else random_points(search.parameters, rung.trials, search.seed)
        )
        for own in points:
            own += drawn
        yield [list(range(len(drawn))) for _ in points]
        return
    size = max(2, math.ceil(rung.trials / _WAVES))
    for begun in range(0, rung.trials, size):
        for own, known in zip(points, scores, strict=True):
            told = [(own[trial], score) for trial, score in sorted(known[0].items())]
            own += propose(search.parameters, told, min(size, rung.trials - begun), search.seed)
        yield [list(range(begun, len(own))) for own in points]


def _wave(search: Search, number: int, rung: Rung, chosen: list[list[int]], points: list[list[Point]]) -> Wave:
    cells: dict[tuple[int, int, int], Cell] = {}
    for place, (treatment, trials) in enumerate(zip(search.treatments, chosen, strict=True)):
        if not trials:
            continue
        words = [
            f"data.validation={search.validation}",
            "trainer.test=false",
            f"trainer.epochs={rung.epochs}",
        ]
        trainer = treatment.config["trainer"]
        short = sides(trainer["sizes"], trainer["epochs"], rung.epochs)
        if short != trainer["sizes"]:
            words.append(f"trainer.sizes=[{','.join(map(str, short or []))}]")
        keys = {text.partition("=")[0] for text in words}
        words += [text for text in treatment.words if bare(text.partition("=")[0]) not in keys]
        drawn = {points[place][trial]: trial for trial in trials}
        options = [parameter.option for parameter in search.parameters]
        side_by_side = {option: [point[axis] for point in drawn] for axis, option in enumerate(options)}
        block = {"product": {"seed": list(search.seeds)}, "zip": side_by_side}
        made = make_plan(words, search.folders, own_blocks=[block]).cells
        if len(made) < len(drawn) * len(search.seeds):
            raise ConfigError(
                f"{treatment.label}: two trials are one and the same cell: a --param changes nothing there"
            )
        for cell in made:
            own = dict(text.partition("=")[::2] for text in cell.overrides)
            cells[place, drawn[tuple(own[option] for option in options)], cell.config["seed"]] = cell
    # A whole seed of every trial first, and treatments side by side, as in a sweep.
    ordered = [cells[key] for key in sorted(cells, key=lambda key: (search.seeds.index(key[2]), key[1], key[0]))]
    unique = tuple({cell.run_id: cell for cell in ordered}.values())
    return Wave(number, Plan(f"tune-{search.name}", unique, search.options, Path()), cells)


def _trials(wave: Wave) -> dict[tuple[int, int], list[Cell]]:
    found: dict[tuple[int, int], list[Cell]] = {}
    for (treatment, trial, _), cell in wave.cells.items():
        found.setdefault((treatment, trial), []).append(cell)
    return found


def _score(cells: list[Cell], failed: Mapping[str, str]) -> Score:
    """What a trial reached, from its records. Raises: Unfinished."""
    accuracies, losses, images = [], [], 0
    for cell in cells:
        state = cell.state()
        if state == FAILED and (cell.run_id in failed or _settled(cell)):
            return Score(None, failed=failure_reason(cell))
        if state != DONE:
            raise Unfinished(f"{cell.run_id} is {state}")
        result = read_record(cell.folder).result or {}
        accuracies.append(result["validation_accuracy"])
        losses.append(result["validation_loss"])
        images += result["validation_samples"]
    return Score(sum(accuracies) / len(cells), sum(losses) / len(cells), images)


def _settled(cell: Cell) -> bool:
    state = cell.state()
    return state == DONE or (state == FAILED and bool((read_status(cell.folder) or {}).get("lasting")))
