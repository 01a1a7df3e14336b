"""Reading a command line: what argparse says, with a hint where an option of a config was meant, or the reverse."""

import argparse
import importlib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from poolbench.messages import meant_options, unknown_option
from poolbench.registry import closest, said


class UsageError(ValueError):
    """A command line is wrong."""


class Parser(argparse.ArgumentParser):
    """Of one command; what is wrong is raised as a UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')} ({self.prog} --help says more)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = f"{action.option_strings[0]}: " if action.option_strings else ""
            hint = said(closest(str(value), known, cutoff=0.6))
            raise UsageError(f"{what}unknown {value!r}.{hint} Known: {', '.join(known)}")

    @property
    def flags(self) -> dict[str, argparse.Action]:
        """``--baseline`` and the like -> what it does."""
        return {flag: action for action in self._actions for flag in action.option_strings if flag.startswith("--")}


def make_parser(command: str) -> Parser:
    """The parser of ``poolbench COMMAND``."""
    module = importlib.import_module(f"poolbench.cli.{command.replace('-', '_')}")
    parser = Parser(
        prog=f"poolbench {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    return parser


def parse(parser: Parser, words: Sequence[str], commands: Iterable[str]) -> argparse.Namespace:
    """What ``words`` say.

    Args:
        commands: all that there are; a flag may be another's.
    Raises: UsageError.
    """
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        raise UsageError(_unknown(parser, unknown[0], words, arguments, commands))
    if hasattr(arguments, "config_dir"):  # it takes options of a config
        for text in _overrides(arguments):
            _refuse_flag(parser, text, arguments, commands)
    return arguments


def _overrides(arguments: argparse.Namespace) -> list[str]:
    return [str(text) for text in getattr(arguments, "overrides", None) or getattr(arguments, "words", None) or ()]


def _unknown(
    parser: Parser, word: str, words: Sequence[str], arguments: argparse.Namespace, commands: Iterable[str]
) -> str:
    """Why ``word``, which begins with a dash or is one too many, is not taken, and what may have been meant."""
    if not word.startswith("-"):
        return f"{word!r} is one argument too many ({parser.prog} --help says more)"
    flag, equals, value = word.partition("=")
    place = list(words).index(word) + 1
    if not equals and place < len(words) and not words[place].startswith("-") and "=" not in words[place]:
        value = words[place]
    start = f"{parser.prog} has no option {flag}."
    if hasattr(arguments, "config_dir"):
        key = flag.lstrip("-").replace("-", "_")
        if meant := [option for option in _options(arguments) if option.rpartition(".")[2] == key]:
            shown = " or ".join(f"{option}={value or '...'}" for option in meant[:4])
            return f"{start} Options of a config have no dashes: {shown}"
    if near := said(closest(flag, list(parser.flags), cutoff=0.6)):
        return f"{start}{near}"
    if others := _taken_by(flag, commands):
        return f"{start} It is one of {' and '.join(f'`poolbench {other}`' for other in others)}"
    return f"{start} Its options: {', '.join(parser.flags)}"


def _refuse_flag(parser: Parser, text: str, arguments: argparse.Namespace, commands: Iterable[str]) -> None:
    """Raises: UsageError for a word that stands alone and is no option of a config, as ``baseline=lp``, which is one of
    a command, ``--baseline lp``, or ``lr=1``, which is a part of one."""
    from poolbench.configuration import MADE, WORDS

    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or key in (*WORDS, *MADE, *getattr(arguments, "own_words", ())):
        return
    flag = f"--{key.replace('_', '-')}"
    if action := parser.flags.get(flag):
        raise UsageError(f"{key!r} is no option of a config: {flag}{'' if action.nargs == 0 else f' {value}'}")
    options = _options(arguments)
    if not meant_options(key, options) and (others := _taken_by(flag, commands)):
        named = " and ".join(f"`poolbench {other}`" for other in others)
        raise UsageError(f"{key!r} is no option of a config: {named} take it, as {flag} {value}")
    # Said here, where no cell has been composed yet: nothing else stands alone.
    raise UsageError(unknown_option(key, [option for option in options if option not in WORDS], WORDS))


def _options(arguments: argparse.Namespace) -> list[str]:
    """Options of a config; of the groups as they are chosen, if these can be read."""
    from poolbench.configuration import GROUPS, WORDS, ConfigError, composer

    chosen = [text for text in _overrides(arguments) if text.partition("=")[0] in GROUPS and "," not in text]
    with composer(arguments.config_dir) as compose:
        try:
            options = compose.options(chosen)
        except ConfigError:  # which is said when the key is no longer in the way
            options = compose.options([])
    return list(dict.fromkeys((*WORDS, *options)))


def _taken_by(flag: str, commands: Iterable[str]) -> list[str]:
    return [command for command in commands if flag in make_parser(command).flags]
