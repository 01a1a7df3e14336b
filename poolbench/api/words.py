"""Options given in Python, as the words that the command line takes."""

import inspect
import numbers
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poolbench.config_files import ConfigError
from poolbench.overrides import quoted

Word = str | Mapping[str, Any]
_HERE = re.compile(r"(?<![\w.])__main__\.(?=\w)|\b_target_=(?=\w+$)")  # by name of this process, or by none
_FILE = (
    "cells are trained by processes of their own, which cannot import what a notebook or a script defines: write it to "
    "a file, as with %%writefile mine.py at the top of its cell, and name it"
)


def as_words(words: Iterable[Word], options: Mapping[str, Any]) -> list[str]:
    """``pool=max,average``, ``trainer.epochs=3`` and the like, in the order in which they are given.

    Args:
        words: each a text as on the command line, or a mapping of option to value, for names with a dot.
        options: option -> value. A list is several values, a cell for each; a tuple is one value that is a list. A text
            stands as it would on the command line; a path stands for itself.
    Raises: ConfigError for a value that cannot be written so, and for code that only this process has.
    """
    found: list[str] = []
    for word in words:
        if isinstance(word, str):
            found.append(word)
        elif isinstance(word, Mapping):
            found += [f"{key}={_values(str(key), value)}" for key, value in word.items()]
        else:
            raise ConfigError(f"an option is a text, 'pool=max', or a dict, {{'pool.p': 3}}, got {_seen(word)}")
    found += [f"{key}={_values(key, value)}" for key, value in options.items()]
    for text in found:
        if _HERE.search(text):
            named = _HERE.sub(lambda match: "_target_=mine." if "_target_" in match[0] else "mine.", text)
            raise ConfigError(f"{text}: {_FILE} {named}")
    return found


def as_paths(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """One path or several, as a list."""
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(one) for one in given]


def as_texts(given: str | Iterable[str]) -> list[str]:
    """One text or several, as a list."""
    return [given] if isinstance(given, str) else list(given)


def _values(key: str, value: Any) -> str:
    """What stands after the ``=``: of a list each of its values."""
    if not isinstance(value, list | range):
        return _written(key, value)
    if not len(value):
        raise ConfigError(f"option {key!r}: must be one value or a list of several, got an empty list")
    return ",".join(_written(key, one) for one in value)


def _written(key: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, os.PathLike):
        return quoted(os.fspath(value))
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_written(key, one)}" for name, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):  # a tuple, or a list within a list
        return "[" + ",".join(_written(key, one) for one in value) + "]"
    allowed = "must be a text, a number, true, false or None, a path, a dict, a tuple, or a list of these"
    raise ConfigError(f"option {key!r}: {allowed}, got {_seen(value)}{_instead(key, value)}")


def _instead(key: str, value: Any) -> str:
    """How a class or a function is named."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    here = value.__module__ == "__main__"
    place = f"{'mine' if here else value.__module__}.{value.__qualname__}"
    return f"; {_FILE if here else 'name it'}: {key}='custom' and {{'{key}._target_': '{place}'}}"


def _seen(value: Any) -> str:
    kind = "the class" if inspect.isclass(value) else "the function" if inspect.isroutine(value) else ""
    return f"{kind} {value.__qualname__}" if kind else f"{type(value).__name__} {str(value)[:60]!r}"
