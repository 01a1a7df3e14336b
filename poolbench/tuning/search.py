"""What a search is, checked before its first trial: treatments, parameters, rungs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from poolbench.configuration import GROUPS, ConfigError, composer
from poolbench.dotted import flatten
from poolbench.messages import meant_options
from poolbench.overrides import parse
from poolbench.registry import said
from poolbench.sweep.cells import Plan
from poolbench.sweep.grammar import bare
from poolbench.sweep.plan import make_plan
from poolbench.sweep.tuned import description, may_be_searched, path_of
from poolbench.tuning.optuna import check_installed
from poolbench.tuning.rungs import Rung, make_rungs
from poolbench.tuning.space import Parameter, grid_points, read_parameter, size_of

SAMPLERS = ("random", "grid", "optuna")
TRIALS, ETA = 9, 3
SEED = 1000  # of trials: no seed that a comparison usually has takes part in the choice of its recipe
VALIDATION = 0.1


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


class Sources(NamedTuple):
    """Where a search may take configs and code from: see :func:`poolbench.sweep.plan.make_plan`."""

    folders: Iterable[Path] = ()
    trust: Iterable[str] = ()


OURS = Sources()


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


def make_search(
    overrides: Iterable[str],
    params: Iterable[str],
    sources: Sources = OURS,
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
        sources: further folders of configs, and packages whose code an experiment may name.
    Raises: ConfigError; DataError when the data is missing.
    """
    path_of(name)
    if seed < 0:
        raise ConfigError(f"--draw-seed must be a whole number of at least 0, got {seed}")
    overrides, folders = list(overrides), tuple(sources.folders)
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
    plan = make_plan(
        [*overrides, *([] if given & {"seed", "seeds"} else [f"seed={SEED}"])], folders, trust=sources.trust
    )
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


def _parameters(params: Iterable[str]) -> tuple[Parameter, ...]:
    parameters = tuple(read_parameter(text) for text in params)
    if not parameters:
        raise ConfigError("a search needs at least one --param, as --param 'optimizer.lr=log(0.01,1.0)'")
    options = [parameter.option for parameter in parameters]
    for option in options:
        if options.count(option) > 1:
            raise ConfigError(f"--param {option} is given twice")
        if not may_be_searched(option):
            raise ConfigError(f"--param {option} cannot be searched: it is no part of a recipe, or sets the budget")
    return parameters


def _check_options(parameters: Iterable[Parameter], treatments: Iterable[Treatment]) -> None:
    """Raises: ConfigError for a parameter that some treatment does not have: its trials would be no search."""
    for treatment in treatments:
        known = [
            key for key in flatten(treatment.config, lists=False) if not key.startswith("names.") and "._" not in key
        ]
        for parameter in parameters:
            if parameter.option not in (*known, "optimizer", "schedule"):
                meant = said(meant_options(parameter.option, known)[:4])
                raise ConfigError(f"--param {parameter.option}: {treatment.label} has no such option.{meant}")


def _shared(plan: Plan, explicit: bool) -> tuple[int, float]:
    """The epochs and the share of validation images that all treatments have. Raises: ConfigError when they differ."""
    epochs = {cell.trainer.epochs for cell in plan.cells}
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
