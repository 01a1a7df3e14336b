"""Rule 2 and races tried on made-up experiments: how often a word is wrong, how often one is found, what is lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poolbench.statistics.best import not_told_apart
from poolbench.statistics.blocks import Difference, fit
from poolbench.statistics.nets import over_nets
from poolbench.statistics.race import LOOKS, run
from poolbench.statistics.words import CANNOT_TELL, CONTRADICTS, ERROR, SUPPORTS, TOO_SMALL, errors_of, words

CONTROL = "control"


@dataclass(frozen=True)
class Design:
    """An experiment that compares arms with one control.

    Args:
        blocks: of seeds; arms: the control included; missing: share of the cells that a block lacks.
        alike: degrees of freedom of the inverse chi-squares that the arms' variances are drawn from; None: all equal.
        control: standard deviation of the control in units of the others'.
        block_sd: of what a block adds to all of its arms, in units of the noise's.
    """

    blocks: int
    arms: int
    missing: float = 0.0
    alike: float | None = None
    control: float = 1.0
    block_sd: float = 0.5


def decided(
    design: Design, kind: str, gain: float, smallest: float, repeats: int, seed: int, looks: tuple[int, ...] = ()
) -> dict[str, float]:
    """Shares of made-up experiments in which the first claim, or any, got each word; gains in units of the noise.

    Args:
        gain: true gain of every arm over the control.
        looks: numbers of blocks after which it is judged, the error divided over them; once, at the end, without.
    Returns: word -> share of experiments in which some claim got it; ``first`` -> share in which the first got one.
    """
    draw = np.random.default_rng([seed, design.blocks, design.arms])
    counts = dict.fromkeys((SUPPORTS, TOO_SMALL, CONTRADICTS, "first"), 0)
    times = looks or (design.blocks,)
    for _ in range(repeats):
        values = _drawn(design, gain, draw)
        said: set[str] = set()
        first = CANNOT_TELL
        for blocks in times:
            found = _judged(values[:, :blocks], kind, smallest, ERROR / len(times))
            said |= set(found)
            first = first if first != CANNOT_TELL else found[0]
        for word in (SUPPORTS, TOO_SMALL, CONTRADICTS):
            counts[word] += word in said
        counts["first"] += first != CANNOT_TELL
    return {word: count / repeats for word, count in counts.items()}


def drawn_gains(design: Design, gain: float, repeats: int, seed: int) -> Iterator[list[list[float]]]:
    """The gains by block of every arm over the control, of the experiments that :func:`decided` judges with ``seed``
    (complete blocks only)."""
    draw = np.random.default_rng([seed, design.blocks, design.arms])
    for _ in range(repeats):
        values = _drawn(design, gain, draw)
        yield (values[1:] - values[0]).tolist()


def best_left_out(design: Design, repeats: int, seed: int) -> float:
    """Share of made-up experiments without any difference in which the control, as good as the best, is left out of
    those that are not told apart from the best."""
    draw = np.random.default_rng([seed, design.blocks, design.arms])
    left_out = 0
    for _ in range(repeats):
        try:
            fitted = fit(_arms(_drawn(design, 0.0, draw)))
        except ValueError:
            continue
        left_out += CONTROL in fitted.effects and CONTROL not in not_told_apart(fitted)
    return left_out / repeats


def covered(nets: int, between: float, repeats: int, seed: int) -> tuple[float, float]:
    """How often two 95 % intervals over ``nets`` hold what they should: the mean over all nets, and the true difference
    in a net that was left out.

    Args:
        between: standard deviation from net to net; within a net the difference has standard errors of 0.7 to 1.4,
            known with 10 degrees of freedom.
    """
    draw = np.random.default_rng([seed, nets])
    mean = another = 0
    for _ in range(repeats):
        true = draw.normal(0.0, between, nets + 1)
        errors = draw.uniform(0.7, 1.4, nets)
        found = true[:nets] + draw.normal(size=nets) * errors
        told = errors * np.sqrt(draw.chisquare(10, nets) / 10)
        over = over_nets(
            [Difference(*one, pooled=True) for one in zip(found, [6] * nets, told, [10.0] * nets, strict=True)]
        )
        low, high = over.difference.interval()
        mean += low <= 0 <= high
        another += over.low <= true[nets] <= over.high
    return mean / repeats, another / repeats


@dataclass(frozen=True)
class Field:
    """The arms of made-up races.

    Args:
        arms: how many; spread: standard deviation of their true means, which each race draws anew.
        noise: standard deviation of one value, and of what a block adds to all of its arms.
        alike: as for :class:`Design`.
    """

    arms: int
    spread: float
    noise: float = 0.3
    alike: float | None = None


def raced(field: Field, difference: float, repeats: int, seed: int, looks: Sequence[int] = LOOKS) -> dict[str, float]:
    """What became of made-up races.

    Args:
        difference: of interest, in the unit of the values.
    Returns: ``none_close`` -> share of races that left no arm within ``difference`` of the truly best; ``best_lost`` ->
        share that left the best itself out; ``left`` -> arms at the end, in the mean; ``cells`` -> share of a full
        grid's cells that was trained.
    """
    draw = np.random.default_rng([seed, field.arms])
    found = dict.fromkeys(("none_close", "best_lost", "left", "cells"), 0.0)
    for _ in range(repeats):
        true = draw.normal(0.0, field.spread, field.arms)
        design = Design(looks[-1], field.arms, alike=field.alike, block_sd=1.0)
        values = true[:, None] + field.noise * _drawn(design, 0.0, draw)
        told = run({str(arm): dict(enumerate(own)) for arm, own in enumerate(values.tolist())}, difference, looks)
        behind = [true.max() - true[int(arm)] for arm in told[-1].left]
        found["none_close"] += min(behind) > difference
        found["best_lost"] += min(behind) > 0
        found["left"] += len(behind)
        begun = [field.arms, *(len(one.left) for one in told)]
        blocks = np.diff([0, *(one.blocks for one in told)])
        found["cells"] += float(np.dot(begun[:-1], blocks)) / (field.arms * looks[-1])
    return {name: value / repeats for name, value in found.items()}


def _drawn(design: Design, gain: float, draw: np.random.Generator) -> np.ndarray:
    """``(arms, blocks)``, NaN for a cell that is not there; the control's row comes first."""
    sds = np.ones(design.arms)
    if design.alike is not None:
        # Of mean 1, so that a design is as noisy as its neighbour.
        sds = np.sqrt((design.alike - 2) / draw.chisquare(design.alike, design.arms))
    sds[0] *= design.control
    values = draw.normal(size=(design.arms, design.blocks)) * sds[:, None]
    values += draw.normal(size=design.blocks) * design.block_sd
    values[1:] += gain
    if design.missing:
        values[draw.random(values.shape) < design.missing] = np.nan
    return values


def _arms(values: np.ndarray) -> dict[Any, dict[int, float]]:
    return {
        CONTROL if number == 0 else number: {block: value for block, value in enumerate(own) if not np.isnan(value)}
        for number, own in enumerate(values.tolist())
    }


def _judged(values: np.ndarray, kind: str, smallest: float, error: float) -> list[str]:
    try:
        fitted = fit(_arms(values))
    except ValueError:
        return [CANNOT_TELL]
    names = [arm for arm in fitted.effects if arm != CONTROL]
    if CONTROL not in fitted.effects:
        return [CANNOT_TELL]
    family = [errors_of(kind, fitted.difference(arm, CONTROL), smallest) for arm in names]
    return [word for word, _ in words(family, error)]
