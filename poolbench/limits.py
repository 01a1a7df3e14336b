"""What each option that is not a component's own may be."""

import re
from collections.abc import Callable
from typing import Any

from poolbench.configuration import COMPONENTS, MADE, ConfigError, flatten
from poolbench.records.probes import ALLOWED as PROBES
from poolbench.registry import nearest


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _device(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value) is not None


_BOOL: tuple[Callable[[Any], bool], str] = (lambda v: isinstance(v, bool), "true or false")
_PATH: tuple[Callable[[Any], bool], str] = (lambda v: isinstance(v, str) and v != "", "a path")


def _sides(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) > 0 and all(_whole(side, 1) for side in value))


# Option -> (is the value allowed?, what is allowed).
LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda v: _whole(v, 0) and v < 2**63, "a whole number from 0 to 2**63 - 1"),
    "runs_dir": _PATH,
    "report_dir": _PATH,
    "trainer.epochs": (lambda v: _whole(v, 0), "a whole number of at least 0 (0 evaluates the untrained net)"),
    "trainer.batch_size": (lambda v: _whole(v, 1), "a whole number of at least 1"),
    "trainer.label_smoothing": (lambda v: _number(v) and 0 <= v < 1, "a number in [0, 1)"),
    "trainer.weight_averaging": (lambda v: _number(v) and 0 <= v < 1, "a number in [0, 1)"),
    "trainer.alternate_flip": _BOOL,
    "trainer.sizes": (_sides, "null or a list of sides in pixels, as [32, 26]"),
    "trainer.skip_easy": (lambda v: _number(v) and 0 <= v <= 0.8, "a number from 0 to 0.8"),
    "trainer.flip_averaging": _BOOL,
    "trainer.test": _BOOL,
    "trainer.precision": (lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "trainer.channels_last": _BOOL,
    "trainer.compile": _BOOL,
    "trainer.evaluation_batch_size": (lambda v: _whole(v, 1), "a whole number of at least 1"),
    "trainer.train_evaluation": (lambda v: _whole(v, 1), "a whole number of at least 1"),
    "trainer.device": (_device, "auto, cpu, cuda or cuda:<number>"),
    "trainer.threads": (lambda v: v is None or _whole(v, 1), "null or a whole number of at least 1"),
    "trainer.keep_memory": _BOOL,
    **{f"probe.{option}": limit for option, limit in PROBES.items()},
    "sweep.blocks": (lambda v: isinstance(v, list), "a list of blocks"),
    "sweep.workers": (lambda v: v is None or _whole(v, 1), "null or a whole number of at least 1"),
    "sweep.fail_fast": _BOOL,
    "sweep.retry": (lambda v: _whole(v, 0), "a whole number of at least 0"),
    "sweep.max_hours": (lambda v: v is None or (_number(v) and v > 0), "null or a number of hours above 0"),
    "sweep.sample": (lambda v: v is None or _whole(v, 1), "null or a whole number of at least 1"),
}


def check(config: dict[str, Any], whole: bool = False) -> None:
    """Check a completed config's plain options; components check their own when they are built.

    Args:
        whole: also see that none is missing, as a user's own file of ``trainer`` or ``sweep`` may lack some.
    Raises: ConfigError naming the option, the value and what is allowed.
    """
    plain = flatten({key: value for key, value in config.items() if key not in (*COMPONENTS, *MADE)})
    for option in LIMITS if whole else ():
        if option not in plain:
            group = option.partition(".")[0]
            raise ConfigError(f"{option} is missing: a file of {group}/ must list every option, or begin with defaults")
    for option, value in plain.items():
        if option not in LIMITS:
            known = [known for known in LIMITS if not known.startswith("sweep.")]
            raise ConfigError(f"unknown option {option!r}.{nearest(option, known)}")
        allowed, words = LIMITS[option]
        if not allowed(value):
            raise ConfigError(f"{option} must be {words}, got {value!r}")
