"""Successive halving: how many trials are trained for how long, and which of them go on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poolbench.configuration import ConfigError


@dataclass(frozen=True)
class Rung:
    """A stage of the search: ``trials`` of each treatment, each trained from the start for ``epochs``."""

    trials: int
    epochs: int


@dataclass(frozen=True)
class Score:
    """What a trial reached in a rung, over its seeds.

    Args:
        accuracy: mean validation accuracy; None when a seed of it failed.
        loss: mean validation loss.
        images: validation images that the accuracy was read on, of all seeds together.
        failed: why it failed.
    """

    accuracy: float | None
    loss: float = math.inf
    images: int = 0
    failed: str = ""

    @property
    def error(self) -> float:
        """Binomial standard error of the accuracy."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images) if self.accuracy is not None else math.nan


def make_rungs(trials: int, eta: int, epochs: int) -> list[Rung]:
    """Rungs of which each has one part in ``eta`` of the trials of the one before, and ``eta`` times its epochs.

    The last one has all the ``epochs`` and at most ``eta`` trials, or more where the first would have less than an
    epoch.
    """
    if trials < 2:
        raise ConfigError(f"--trials must be at least 2, got {trials}: one trial is no search")
    if eta < 2:
        raise ConfigError(f"--eta must be at least 2, got {eta}")
    if epochs < 1:
        raise ConfigError(f"trainer.epochs must be at least 1 for a search, got {epochs}")
    counts = [trials]
    while counts[-1] > eta:
        counts.append(math.ceil(counts[-1] / eta))
    lengths = [epochs]
    while len(lengths) < len(counts) and lengths[0] > 1:
        lengths.insert(0, math.ceil(lengths[0] / eta))
    return [Rung(count, length) for count, length in zip(counts, lengths, strict=False)]


def ranked(scores: Mapping[int, Score]) -> list[int]:
    """Trials by number, the best first: by accuracy, then by loss, then the earlier one; failed ones come last."""

    def worse(number: int) -> tuple[float, float, int]:
        score = scores[number]
        return (math.inf, math.inf, number) if score.accuracy is None else (-score.accuracy, score.loss, number)

    return sorted(scores, key=worse)


def survivors(scores: Mapping[int, Score], count: int) -> list[int]:
    """The ``count`` best trials, in the order of their numbers; fewer when fewer did not fail."""
    return sorted(number for number in ranked(scores)[:count] if scores[number].accuracy is not None)


def sides(listed: Sequence[int] | None, full: int, epochs: int) -> list[int] | None:
    """``trainer.sizes`` of a training of ``full`` epochs, for one of ``epochs``: where each epoch has a side of its own
    the list is thinned out evenly, so that a short training goes from the first side to the last as well."""
    if listed is None or len(listed) < full or epochs >= full:
        return None if listed is None else list(listed)
    if epochs == 1:
        return [listed[full - 1]]
    return [listed[round(epoch * (full - 1) / (epochs - 1))] for epoch in range(epochs)]
