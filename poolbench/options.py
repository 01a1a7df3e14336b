"""The options of a training, each declared once: what it may be, and all else that hangs on it. Needs no torch."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from poolbench.checks import TRUTH, Rule, choice, is_whole, number, or_null, share, whole


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name and its default.

    Args:
        rule: what it may be.
        counts: when it is a part of a cell's identity: ``never``, where it changes no result beyond the last bits;
            ``unless_default``, where it came after the first records, and its default means what was done before, so
            that older cells keep their names. Of a new option one of these two.
        recipe: whether it says how a net is trained; else what is read of it, or on what it runs.
        budget: whether it says how long a training is, or of which images: a search sets that itself.
        cheap: whether a step takes as long whatever it is; the number of steps is reckoned with.
        column: whether tables have a column of it.
    """

    rule: Rule
    counts: Literal["always", "never", "unless_default"] = "always"
    recipe: bool = True
    budget: bool = False
    cheap: bool = False
    column: bool = False


def _is(default: Any, rule: Rule, **known: Any) -> Any:
    return field(default=default, metadata={"option": Option(rule, **known)})


def _sides(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(is_whole(side, 1) for side in value)


def _device(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:[0-9]+)?", value) is not None


DEVICE = Rule(_device, "auto, cpu, cuda, mps or xpu, the last three with or without a number, as cuda:1")


@dataclass(frozen=True)
class Trainer:
    """The ``trainer`` of a config; ``conf/trainer/default.yaml`` says what each option is for."""

    epochs: int = _is(10, whole(0, more=" (0 evaluates the untrained net)"), budget=True, cheap=True, column=True)
    batch_size: int = _is(128, whole(1), column=True)
    label_smoothing: float = _is(0.0, share(), cheap=True)
    weight_averaging: float = _is(0.0, share(), counts="unless_default")
    alternate_flip: bool = _is(False, TRUTH, counts="unless_default")
    sizes: Sequence[int] | None = _is(
        None, or_null(Rule(_sides, "a list of sides in pixels, as [32, 26]")), counts="unless_default", budget=True
    )
    skip_easy: float = _is(0.0, number(0, 0.8), counts="unless_default")
    frozen_statistics: bool = _is(False, TRUTH, counts="unless_default")
    flip_averaging: bool = _is(False, TRUTH, counts="unless_default")
    precision: str = _is("fp32", choice("fp32", "bf16", "fp16"), column=True)
    channels_last: bool = _is(True, TRUTH)
    compile: bool = _is(False, TRUTH)
    evaluation_batch_size: int = _is(500, whole(1), recipe=False)
    test: bool = _is(True, TRUTH, counts="unless_default", recipe=False, cheap=True)
    train_evaluation: int = _is(10_000, whole(1), recipe=False)
    device: str = _is("auto", DEVICE, counts="never", recipe=False)
    threads: int | None = _is(None, or_null(whole(1)), counts="never", recipe=False)
    keep_memory: bool = _is(True, TRUTH, counts="never", recipe=False)


DEFAULTS: dict[str, Any] = {one.name: one.default for one in fields(Trainer)}
OPTIONS: dict[str, Option] = {one.name: one.metadata["option"] for one in fields(Trainer)}


def names(**known: Any) -> Iterator[str]:
    """The options of which all of ``known`` holds, as ``names(counts="never")``."""
    return (name for name, option in OPTIONS.items() if all(getattr(option, k) == v for k, v in known.items()))
