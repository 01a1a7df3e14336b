"""The optional sampler: Optuna's tree-structured Parzen estimator, told what the records say."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from poolbench.configuration import ConfigError
from poolbench.tuning.rungs import Score
from poolbench.tuning.space import Parameter, Point, random_points

_ASKED_AGAIN = 20  # times that a point which was tried already is asked for anew


def check_installed() -> None:
    """Raises: ConfigError, naming what to install."""
    if find_spec("optuna") is None:
        raise ConfigError("--sampler optuna needs Optuna, which is not installed: pip install 'poolbench[hpo]'")


def propose(parameters: Sequence[Parameter], told: Sequence[tuple[Point, Score]], count: int, seed: int) -> list[Point]:
    """The next ``count`` points for one treatment, none of them tried before.

    A fresh study is told all finished trials, so the same records give the same points and no other state is kept.

    Args:
        told: what was tried, in order, and what came of it; nothing for the first points, which are evenly spread.
    """
    if not told:
        return random_points(parameters, count, seed)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {parameter.option: _distribution(optuna, parameter) for parameter in parameters}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed + len(told), n_startup_trials=1)
    )
    for point, score in told:
        values = {p.option: _typed(p, text) for p, text in zip(parameters, point, strict=True)}
        failed = score.accuracy is None
        study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions=ranges,
                value=None if failed else score.accuracy,
                state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
            )
        )
    tried = {point for point, _ in told}
    found: list[Point] = []
    spare = iter(random_points(parameters, len(told) + 2 * count, seed))
    while len(found) < count:
        for _ in range(_ASKED_AGAIN):
            values = study.ask(ranges).params
            point = tuple(_text(p, values[p.option]) for p in parameters)
            if point not in tried:
                break
        else:
            point = next((other for other in spare if other not in tried), None)
            if point is None:
                break  # all that there are were tried
        tried.add(point)
        found.append(point)
    return found


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return optuna.distributions.CategoricalDistribution(parameter.choices)
    log = parameter.kind in ("log", "logint")
    if parameter.kind in ("int", "logint"):
        return optuna.distributions.IntDistribution(int(parameter.low), int(parameter.high), log=log)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=log)


def _typed(parameter: Parameter, text: str) -> Any:
    if parameter.kind == "choice":
        return text
    return int(text) if parameter.kind in ("int", "logint") else float(text)


def _text(parameter: Parameter, value: Any) -> str:
    if parameter.kind in ("log", "uniform"):
        return parameter.rounded(value)
    return str(value)
