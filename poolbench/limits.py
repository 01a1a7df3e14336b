"""What each option may be, as far as that can be told without torch: a plan checks it, and a training once more."""

import math
from collections.abc import Iterator
from typing import Any

from poolbench.checks import PATH, TRUTH, Rule, checked, choice, is_number, is_whole, or_null, whole
from poolbench.config_files import our_options
from poolbench.configuration import COMPONENTS, MADE, WORDS, ConfigError
from poolbench.dotted import flatten
from poolbench.messages import unknown_option
from poolbench.options import OPTIONS, Trainer
from poolbench.records.probes import ALLOWED as PROBES
from poolbench.registry import component
from poolbench.training.allowed import check_optimizer

# What whoever builds a component gives it; no file lists these, and a config may say them.
_GIVEN = ("channels", "num_classes", "size", "input_size", "pool", "model")
_MAY_BE_INFINITE = ("p",)  # of lp and power_mean: the maximum

LIMITS: dict[str, Rule] = {
    "seed": Rule(lambda value: is_whole(value, 0, 2**63 - 1), "a whole number from 0 to 2**63 - 1"),
    "runs_dir": PATH,
    "report_dir": PATH,
    **{f"trainer.{name}": option.rule for name, option in OPTIONS.items()},
    **{f"probe.{option}": rule for option, rule in PROBES.items()},
    "sweep.blocks": Rule(lambda value: isinstance(value, list), "a list of blocks"),
    "sweep.workers": or_null(whole(1)),
    "sweep.fail_fast": TRUTH,
    "sweep.retry": whole(0),
    "sweep.max_hours": or_null(
        Rule(lambda value: value == math.inf or (is_number(value) and value > 0), "a number of hours above 0")
    ),
    "sweep.sample": or_null(whole(1)),
    "sweep.order": choice("blocks", "declared"),
    "sweep.job": choice("cell", "block"),
}


def check(config: dict[str, Any], complete: bool = False) -> None:
    """Check a completed config's plain options; components check their own when they are built.

    Args:
        complete: also see that none is missing, as a user's own file of ``trainer`` or ``sweep`` may lack some.
    Raises: ConfigError naming the option, the value and what is allowed.
    """
    plain = flatten({key: value for key, value in config.items() if key not in (*COMPONENTS, *MADE)}, lists=False)
    for option in LIMITS if complete else ():
        if option not in plain:
            group = option.partition(".")[0]
            raise ConfigError(f"{option} is missing: a file of {group}/ must list every option, or begin with defaults")
    for option, value in plain.items():
        if option not in LIMITS:
            known = [known for known in LIMITS if not known.startswith("sweep.")]
            parts = {group: config[group] for group in COMPONENTS if isinstance(config.get(group), dict)}
            raise ConfigError(unknown_option(option, [*known, *flatten(parts, lists=False)], WORDS))
        checked(option, value, LIMITS[option], ConfigError)


def check_components(config: dict[str, Any]) -> None:
    """Check the options of a completed config's components: of ours their names, and whether numbers are numbers; of
    optimisers and schedules all. What else a pool, a head or a model asks for is checked when it is built, with torch.

    Raises: ConfigError naming the option, the value and what is allowed.
    """
    for group in COMPONENTS:
        for block in config[group] if isinstance(config[group], list) else [config[group]]:
            _check_component(group, block)


def _check_component(group: str, block: dict[str, Any]) -> None:
    target = block["_target_"]
    options = {option: value for option, value in block.items() if option != "_target_"}
    known = our_options(group, target)
    for option in options if known is not None else ():
        if option not in known and option not in _GIVEN:
            raise ConfigError(unknown_option(f"{group}.{option}", [f"{group}.{one}" for one in known]))
    if known is not None and group in ("optimizer", "schedule"):
        _check_recipe(group, target, options)
    for name, value in _leaves(group, options):
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{name} must be a number, got {value!r}")
    for option, value in options.items() if known is not None else ():
        default = known.get(option)
        if isinstance(default, int | float) and not isinstance(default, bool):
            words = "a whole number" if isinstance(default, int) else "a number"
            if isinstance(value, str | bool) or (isinstance(value, float) and isinstance(default, int)):
                raise ConfigError(f"{group}.{option} must be {words}, got {value!r}")
        if isinstance(value, float) and math.isinf(value) and option not in _MAY_BE_INFINITE:
            raise ConfigError(f"{group}.{option} must be a finite number, got {value!r}")


def _check_recipe(group: str, target: str, options: dict[str, Any]) -> None:
    """The whole check of an optimiser or a schedule of ours. Raises: ConfigError."""
    try:
        if group == "optimizer":
            check_optimizer(**options)
        else:
            component("schedule", {"_target_": target, **options})()
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values within ``value``, each with the option that it belongs to."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(name, part)
    else:
        yield name, value


def check_with_data(config: dict[str, Any], source: Any, info: Any) -> None:
    """See that a config asks for no more than its data has. What data of the user's own does not say is not checked.

    Args:
        source: of the images; info: what it says of itself.
    Raises: ConfigError naming the option, the value and what is allowed.
    """
    trainer, probe = Trainer(**config["trainer"]), config.get("probe") or {}
    samples, split = getattr(info, "train_samples", None), getattr(source, "split_sizes", None)
    if samples is not None and split is not None and trainer.batch_size > (samples := split(samples)[0]):
        raise ConfigError(f"trainer.batch_size must be at most the {samples} training images, got {trainer.batch_size}")
    if trainer.alternate_flip and not getattr(source, "augmentation", {"flip": True})["flip"]:
        raise ConfigError("trainer.alternate_flip=true needs data.augmentation.flip=true, got false")
    height, width = getattr(info, "size", (math.inf, math.inf))
    for option, side in (("translate_x", width), ("translate_y", height)):
        if far := [shift for shift in probe.get(option) or [] if abs(shift) >= side]:
            raise ConfigError(f"probe.{option} must stay below the {side} pixels of an image, got {far[0]!r}")
    tested = getattr(info, "test_samples", math.inf)
    if (probe.get("samples") or 0) > tested:
        raise ConfigError(
            f"probe.samples must be at most the {tested} test images, got {probe['samples']}; null is all"
        )
