"""All measures, in one table: what asks for each, and what reads it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch

from poolbench import accelerator
from poolbench.measure.subject import Subject, first
from poolbench.records.probes import TRANSFORMS, completed


@dataclass(frozen=True)
class Measure:
    """One of the measures.

    Args:
        asked: whether completed options ask for it.
        place: module and function; it is called with a subject and what ``given`` takes of the options.
    """

    asked: Callable[[Mapping[str, Any]], bool]
    place: str
    given: Callable[[Mapping[str, Any]], tuple[Any, ...]]


def _any(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda options: any(options[name] for name in names)


MEASURES: dict[str, Measure] = {
    "transforms": Measure(_any(*TRANSFORMS, "draws"), "invariance:read_transforms", lambda options: (options,)),
    "consistency": Measure(_any("consistency"), "shifts:read_consistency", lambda options: (options["consistency"],)),
    "sites": Measure(_any("site_shifts"), "shifts:read_site_shifts", lambda options: (options["site_shifts"],)),
    "information": Measure(_any("information"), "information:read_information", lambda _: ()),
    "corruptions": Measure(
        _any("corruptions"),
        "corruptions:read_corruptions",
        lambda options: (options["corruptions"], options["severities"]),
    ),
    "calibration": Measure(_any("calibration"), "features:read_calibration", lambda _: ()),
}


def read_measures(subject: Subject, probe: Mapping[str, Any]) -> dict[str, float]:
    """All numbers that ``probe`` asks for, read of ``subject`` in evaluation mode.

    No measure moves another's numbers; torch's generators and the model are left as they were.

    Args:
        probe: options of ``conf/probe/``; those left out ask nothing.
    Raises: ValueError naming the option, its value and what is allowed.
    """
    options = completed(probe)
    model, limited = subject.model, replace(subject, batches=lambda: first(subject.batches(), options["samples"]))
    found: dict[str, float] = {}
    training = model.training
    model.eval()
    try:
        for name, measure in MEASURES.items():
            if not measure.asked(options):
                continue
            module, _, function = measure.place.partition(":")
            with accelerator.undrawn(subject.device):
                torch.manual_seed(subject.generator(name).initial_seed())  # of pools that draw in evaluation too
                read = getattr(import_module(f"poolbench.measure.{module}"), function)
                found |= read(limited, *measure.given(options))
    finally:
        model.train(training)
    return {name: value for name, value in found.items() if math.isfinite(value)}
