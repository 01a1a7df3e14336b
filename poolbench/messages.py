"""Parts of messages to users: how many of something, what a value is, and what may have been meant by a word."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from poolbench.registry import closest, likely, said


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``, ``1,000 cells``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def described(value: Any) -> str:
    """What a parsed file holds, in a few words: ``a list of 2``, ``nothing``, ``the text 'max'``."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"options ({', '.join(map(str, value))[:60]})" if value else "no options"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return f"{'a truth value' if isinstance(value, bool) else 'a number'}, {str(value)[:40]}"


def meant_options(key: str, options: Sequence[str], words: Iterable[str] = ()) -> list[str]:
    """What may have been meant by the unknown option ``key``: of ``options``, those of the same last word, whatever
    they belong to, else the nearest.

    Args:
        options: dotted names that there are, as ``optimizer.lr``.
        words: further ones that stand alone, as ``pool`` or ``seeds``.
    """
    group, _, last = key.lstrip("+").rpartition(".")
    names: dict[str, list[str]] = {}  # last word -> options that end in it
    for option in dict.fromkeys((*words, *options)):
        if option != key:
            names.setdefault(option.rpartition(".")[2], []).append(option)
    if last in names:
        return names[last]
    if group in options:  # it has a value, and no parts
        return [group]
    own = [option.rpartition(".")[2] for option in options if group and option.startswith(f"{group}.")]
    near = closest(last, own)
    if near:  # an option of the same group is meant before that of another
        return [f"{group}.{name}" for name in near]
    # There are so many options that something is always a little like what was typed.
    return [option for name in closest(last, list(names), 1, cutoff=0.75) for option in names[name]]


def unknown_option(key: str, options: Sequence[str], words: Iterable[str] = (), own: bool = False) -> str:
    """The message for an option that there is not.

    Args:
        options, words: those that there are, see :func:`meant_options`.
        own: whether it may be an option of a component that is not of poolbench, which ``+`` adds.
    """
    words = list(words)
    hint = said([f"{one}=" if one in words else one for one in meant_options(key, options, words)[:4]])
    group = key.rpartition(".")[0]
    same = [option for option in options if option.rpartition(".")[0] == group and not option.endswith("._target_")]
    allowed = f" Options there: {', '.join(same)}." if group and same else ""
    if not group and not hint and words:
        allowed = f" There are {', '.join(words)}, and the options of each group, as trainer.epochs."
    more = f" (An option of your own component: +{key}=...)" if own else ""
    return f"unknown option {key!r}.{hint}{allowed}{more}"


def unknown_choice(group: str, value: str, known: Sequence[str], meant: str = "") -> str:
    """The message for ``group=value`` where there is no such choice.

    Args:
        known: what there is.
        meant: what was meant, where that is sure, as ``model=torchvision model.name=resnet18``.
    """
    hint = f" Did you mean {meant}?" if meant else ""
    hint = hint or ("" if "." in value else likely(value, list(known))) or _own_component(group, value, known)
    return f"unknown {group} {value!r}.{hint} Known: {', '.join(known)}"


def _own_component(group: str, value: str, known: Sequence[str]) -> str:
    """How a class of the user's own is named, where ``value`` looks like one: dotted, or capitalised; else nothing."""
    if not re.fullmatch(r"\w+(\.\w+)+|[A-Z]\w*", value):
        return ""
    place = value if "." in value else f"mypkg.{value}"
    file = f"a file DIR/{group}/NAME.yaml with _target_: {place}, and {group}=NAME --config-dir DIR"
    if "custom" not in known:
        return f" A class of your own is {file}."
    return f" A class of your own is {group}=custom {group}._target_={place}, or, beside others, {file}."
