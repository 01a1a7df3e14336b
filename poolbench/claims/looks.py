"""Looks: the numbers of seeds at which an experiment declares to be judged, before its cells are trained.

Who looks at every seed and stops when a verdict comes is wrong more often than 5 %. Looks that were declared share the
error, so that adding seeds until a verdict comes is honest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from poolbench.checks import is_whole
from poolbench.claims.claim import ClaimError
from poolbench.config_files import read_file
from poolbench.registry import nearest
from poolbench.statistics.comparisons import LEAST_PAIRS


@dataclass(frozen=True)
class Declared:
    """What an experiment declares of its seeds.

    Args:
        seeds: those that it will have; looks: numbers of them at which it is judged, once on all of them without.
    """

    seeds: frozenset[int]
    looks: tuple[int, ...] = ()


def declared(folder: Path, scale: str | None, seeds: Iterable[int]) -> Declared:
    """What the experiment in ``folder`` declares at ``scale``, where its cells have ``seeds``. Raises: ClaimError."""
    seeds = frozenset(seeds)
    return Declared(seeds, read_looks(folder, scale, len(seeds)))


def read_looks(folder: Path, scale: str | None, seeds: int) -> tuple[int, ...]:
    """``looks`` of the experiment in ``folder`` at ``scale``; empty where it is judged once, on all its seeds.

    Args:
        seeds: how many it declares at that scale.
    Raises: ClaimError, naming file, key, value and what is allowed.
    """
    content = read_file(folder / "experiment.yaml")
    given = content.get("looks") if isinstance(content, dict) else None
    where = f"{folder.name}/experiment.yaml: looks"
    if isinstance(given, dict):
        scales = list(content["sweep"]) if isinstance(content.get("sweep"), dict) else []
        if other := [str(key) for key in given if key not in scales]:
            known = f"The sweep has {', '.join(scales) or 'none'}"
            raise ClaimError(f"{where} has the scale {other[0]!r}.{nearest(other[0], scales)} {known}")
        given = given.get(scale)
    if given is None:
        return ()
    growing = isinstance(given, list) and all(is_whole(one, LEAST_PAIRS, 10**6) for one in given)
    if not growing or not given or sorted(set(given)) != given or given[-1] > seeds:
        raise ClaimError(
            f"{where} must be growing numbers of seeds from {LEAST_PAIRS} to the {seeds} that are declared, as "
            f"[3, 6, 10], got {given!r}"
        )
    return tuple(given)
