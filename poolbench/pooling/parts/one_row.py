"""Pools of maps ``(N, C, L)``: those of ``(N, C, 1, L)``, with windows of one row."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from poolbench.checks import Rule, checked, one_of, whole
from poolbench.pooling.base import Pool, pair

# Options that are sides, and what each is along the one row: what pads nothing there, and all else of one pixel.
_ROW = {"kernel_size": 1, "stride": 1, "padding": 0, "filter_size": 1, "grid_size": 1, "smoothing": 1, "size": 1}


def of_dims(found: Any, create: Callable[..., nn.Module], options: Mapping[str, Any], what: str) -> nn.Module:
    """The pool that ``options``, of which one is ``dims``, describe.

    Args:
        found: its class or function; one that takes ``dims`` by itself gets it.
        create: makes it of its own options.
        what: what the user calls it.
    Raises: ValueError where ``dims`` is not 1 or 2, or 1 for a class that cannot serve maps ``(N, C, L)``.
    """
    if takes_dims(found):
        return create(**options)
    own = {option: value for option, value in options.items() if option != "dims"}
    dims = checked(f"{what}: dims", options["dims"], one_of(1, 2))
    if dims == 2:
        return create(**own)
    if not (isinstance(found, type) and issubclass(found, Pool)):
        raise ValueError(f"{what}: dims must be 2, got 1: a class of your own must take dims itself to be given it")
    if not found.rectangles:
        raise ValueError(f"{what}: dims must be 2, got 1, because {found.why_square}")
    defaults = {option: one.default for option, one in inspect.signature(found).parameters.items() if option in _ROW}
    lengths = {option: own.get(option, default) for option, default in defaults.items()}
    for option, length in lengths.items():
        if length is not None:
            checked(f"pool {found.__name__}: {option}", length, _along(option, lengths.get("kernel_size")))
            own[option] = (_ROW[option], length)
    pool = create(**own)
    if (pair(pool.kernel_size)[0], pair(pool.stride)[0], pair(pool.padding)[0]) != (1, 1, 0):
        raise ValueError(f"{what}: dims must be 2, got 1, because its class makes windows of more than one row")
    _narrow(pool)
    pool.dims = 1
    return pool


def takes_dims(found: Any) -> bool:
    """Whether a class or function has an option ``dims`` of its own, or takes any."""
    try:
        parameters = inspect.signature(found).parameters
    except ValueError:  # some builtins have none to look at
        return False
    return "dims" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _along(option: str, window: Any) -> Rule:
    if option == "padding" and whole(1).allowed(window):
        return whole(0, window // 2, f" (half of kernel_size {window})")
    rule = whole(0 if option == "padding" else 1)
    return Rule(rule.allowed, f"{rule.words}, with dims=1")


def _narrow(pool: nn.Module) -> None:
    """Take from the filters the rows that would only ever see the border above and below the one row."""
    high = [(name, one) for name, one in pool.named_modules() if isinstance(one, nn.Conv2d) and one.kernel_size[0] > 1]
    for name, old in high:
        new = nn.Conv2d(
            old.in_channels,
            old.out_channels,
            (1, old.kernel_size[1]),
            old.stride,
            (0, old.padding[1]),
            groups=old.groups,
            bias=old.bias is not None,
        )
        pool.set_submodule(name, new)
    if high and callable(getattr(pool, "reset_parameters", None)):
        pool.reset_parameters()
