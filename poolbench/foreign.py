"""Files that may be somebody else's: nothing but files is opened, and what is read and parsed has bounds."""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

MEMBER = 1_000_000  # bytes of a file of a record; ours have a hundredth of it
_YAML = 250_000  # bytes of YAML, which is read a hundred times slower than JSON; ours have 10,000
_DEEPEST, _MOST_VALUES, _MOST_KEYS = 50, 100_000, 1000  # of parsed data; ours have 5, 200 and 60
_MOST_BITS = 128  # of a whole number: Python itself refuses to write out the longest
_LONGEST_REASON = 300


class Unreadable(ValueError):
    """What a file holds is not taken; the text is the reason, in one line, as it stands after the file's name."""


@contextmanager
def opened(path: str | os.PathLike[str], inside: Path | None = None) -> Iterator[BinaryIO]:
    """The regular file at ``path``, to read bytes from. Never waits, as for whoever writes into a pipe.

    Args:
        path: the file, or a link to it.
        inside: a folder that a link must not lead out of, as that of a record.
    Raises: OSError, also for what is no regular file of a disk, and for a link out of ``inside``.
    """
    if inside is not None and not _lies_in(path, inside):
        raise OSError(errno.ELOOP, "a link that leads out of its folder", str(path))
    _check_kind(os.stat(path), path)  # before it is opened, which devices may take for more than a look
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        _check_kind(os.fstat(file.fileno()), path)
        yield file


def read_bytes(path: str | os.PathLike[str], most: int = MEMBER, inside: Path | None = None) -> bytes:
    """All of a file of at most ``most`` bytes. Raises: as :func:`opened`; Unreadable for a longer one."""
    with opened(path, inside) as file:
        data = file.read(most + 1)
        if len(data) > most:
            size = max(os.fstat(file.fileno()).st_size, len(data))
            raise Unreadable(f"is {size:,} bytes long, and {most:,} are the most that is read")
    return data


def read_text(path: str | os.PathLike[str], most: int = MEMBER, inside: Path | None = None) -> str:
    """The same of a text. Raises: Unreadable too for what is no UTF-8."""
    try:
        return read_bytes(path, most, inside).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"is no text: {error}") from error


def parsed_json(data: bytes | str) -> Any:
    """What JSON says, plain and of a sensible size. Raises: Unreadable."""
    try:
        value = json.loads(data)
    except Exception as error:  # a parser's every exception is about what it was given
        raise Unreadable(f"cannot be parsed: {_in_a_line(error)}") from error
    return _plain(value)


def parsed_yaml(data: bytes | str) -> Any:
    """What YAML says, plain and of a sensible size. ``12:30`` and dates are text. Raises: Unreadable."""
    import yaml

    if len(data) > _YAML:
        raise Unreadable(f"is {len(data):,} bytes long, and {_YAML:,} are the most that is read as YAML")
    try:
        value = yaml.load(data, Loader=_loader())
    except Exception as error:  # of tags too, which are taken at their word: !!bool foo
        raise Unreadable(f"cannot be parsed: {_in_a_line(error)}") from error
    return _plain(value)


def wrong_value(value: Any) -> str | None:
    """Why ``value`` is no plain data of a sensible size; None if it is.

    A few lines of YAML can stand for billions of values, or for one that holds itself.
    """
    left = _MOST_VALUES
    stack = [(value, 0)]
    while stack:
        part, depth = stack.pop()
        left -= 1
        if left < 0:
            return f"holds more than {_MOST_VALUES:,} values"
        if depth > _DEEPEST:
            return f"is nested deeper than {_DEEPEST} levels"
        if isinstance(part, dict):
            if len(part) > _MOST_KEYS:
                return f"has a mapping of {len(part):,} keys, and {_MOST_KEYS:,} are the most"
            for key in part:
                if not isinstance(key, str | int):
                    return f"has a key that is {type(key).__name__}, not text"
            stack += [(item, depth + 1) for item in part.values()]
        elif isinstance(part, list):
            stack += [(item, depth + 1) for item in part]
        elif isinstance(part, int) and part.bit_length() > _MOST_BITS:
            return "holds a whole number of more than 38 digits"
        elif part is not None and not isinstance(part, str | int | float):
            return f"holds a {type(part).__name__}, which is no plain value"
    return None


def _plain(value: Any) -> Any:
    if reason := wrong_value(value):
        raise Unreadable(reason)
    return value


def _lies_in(path: str | os.PathLike[str], folder: Path) -> bool:
    """Whether ``path``, wherever its links lead, is inside ``folder``."""
    # To follow all links of the way takes longer than to read a small file; one that is no link lies where it says.
    if os.path.dirname(path) == os.fspath(folder) and stat.S_ISREG(os.lstat(path).st_mode):
        return True
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _check_kind(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_dev in _made_up():
        raise OSError(errno.EINVAL, "no regular file", str(path))


@cache
def _made_up() -> frozenset[int]:
    """The devices of what looks like files, and is what the system makes up when it is read."""
    devices = set()
    for place in ("/proc", "/sys"):
        with suppress(OSError):
            devices.add(os.stat(place).st_dev)
    return frozenset(devices - {os.stat("/").st_dev})


def _in_a_line(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}..."


@cache
def _loader() -> Any:
    """A loader of YAML without numbers to the base 60, which take forever to work out, and without dates."""
    import re

    import yaml

    # libyaml's is ten times quicker, where it was built in.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        left = _MOST_VALUES

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"more than {_MOST_VALUES:,} values")
            return super().construct_object(node, deep)

    numbers = {
        "tag:yaml.org,2002:int": Loader.construct_yaml_int,
        "tag:yaml.org,2002:float": Loader.construct_yaml_float,
    }
    Loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(f"(?!.*:){pattern.pattern}", pattern.flags) if tag in numbers else pattern)
            for tag, pattern in known
            if tag != "tag:yaml.org,2002:timestamp"
        ]
        for first, known in Loader.yaml_implicit_resolvers.items()
    }
    for tag, construct in numbers.items():

        def made(loader: Any, node: Any, construct: Any = construct) -> Any:
            if ":" in loader.construct_scalar(node):
                raise ValueError("a number to the base 60")
            return construct(loader, node)

        Loader.add_constructor(tag, made)
    return Loader
