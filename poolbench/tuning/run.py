"""A search for the best recipe of each treatment: the same trials and the same budget for all, decided from records.

Each rung is an ordinary plan of cells: what was trained is there when the search is killed and started again, and what
is decided follows from the records alone. A rung trains its trials anew, each with a full schedule of its own length: a
long schedule cut short would be another recipe.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.configuration import ConfigError
from poolbench.options import Trainer
from poolbench.overrides import parse
from poolbench.records.identity import digest
from poolbench.records.read import read_record
from poolbench.records.state import DONE, FAILED
from poolbench.records.tuning import recipe
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.grammar import bare
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import failure_reason, is_lasting
from poolbench.tuning.optuna import propose
from poolbench.tuning.rungs import Rung, Score, ranked, sides, survivors
from poolbench.tuning.search import Search, Treatment
from poolbench.tuning.space import Point, grid_points, random_points

_WAVES = 4  # times that Optuna is told results and proposes anew; within one, trials run at once


class Unfinished(Exception):
    """Trials are neither done nor failed, as when ``sweep.max_hours`` was over; the same command goes on."""


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
        trainer = Trainer(**treatment.config["trainer"])
        short = sides(trainer.sizes, trainer.epochs, rung.epochs)
        if short != trainer.sizes:
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
    return state == DONE or (state == FAILED and is_lasting(cell))
