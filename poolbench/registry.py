"""A table of names for one kind of component, which imports a component only when it is built."""

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def nearest(name: str, names: list[str]) -> str:
    """`` Did you mean 'max'?`` for a name close to some of ``names``, else an empty string."""
    return said(closest(name, names))


def closest(name: str, names: list[str], most: int = 3, cutoff: float = 0.5) -> list[str]:
    """Those of ``names`` that ``name`` may be meant to be, the nearest first: the same but for case, dashes and
    underscores, else those alike by more than ``cutoff``. Never ``name`` itself, which was typed already."""
    others = {_plain(other): other for other in reversed(names) if other != name}
    if _plain(str(name)) in others:
        return [others[_plain(str(name))]]
    return [others[match] for match in difflib.get_close_matches(_plain(str(name)), list(others), most, cutoff)]


def likely(name: str, names: list[str]) -> str:
    """As :func:`nearest`, but of what looks like a class only where nothing but the case differs."""
    return said(closest(name, names, cutoff=1.0 if re.fullmatch(r"[A-Z]\w*[a-z]\w*", name) else 0.5))


def said(names: list[str]) -> str:
    """`` Did you mean 'max' or 'mixed'?``; empty without names."""
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


@dataclass(frozen=True)
class Registry:
    """Names of one kind of component and where each is defined.

    Args:
        kind: what a user calls the component: ``pool``, ``head``, ``model``, ``data``.
        group: entry point group by which installed packages add theirs.
        table: name -> ``"package.module:Attribute"``.
    """

    kind: str
    group: str
    table: Mapping[str, str] = field(repr=False)

    def locations(self) -> dict[str, str]:
        """Name -> ``"package.module:Attribute"``, ours first; an installed package cannot replace a name of ours."""
        return {**_offered(self.group, tuple(sys.path)), **self.table}

    def names(self) -> list[str]:
        """All names, ours in the table's order, then those of installed packages."""
        return list(dict.fromkeys([*self.table, *self.locations()]))

    def find(self, name: Any) -> Any:
        """The class (or function) that ``name`` stands for: a listed name, a dotted path, or the class itself.

        Raises: ValueError when there is no such thing.
        """
        if callable(name):
            return name
        if isinstance(name, str):
            # Ours first: asking what is installed takes milliseconds.
            location = self.table.get(name) or self.locations().get(name)
            if location:
                return _import(location)
            if "." in name:
                return locate(name, f"{self.kind} {name!r}")
        raise ValueError(f"unknown {self.kind} {name!r}.{self._meant(str(name))} Known: {', '.join(self.names())}")

    def create(self, name: Any, /, **options: Any) -> Any:
        """Build ``name`` with ``options``. Raises: ValueError naming the option that is wrong."""
        if name == "custom":
            if "_target_" not in options:
                raise ValueError(f"{self.kind} 'custom' needs _target_: the dotted path of your class, as mypkg.MyPool")
            name = options.pop("_target_")
        label = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
        return call(self.find(name), f"{self.kind} {label!r}", options)

    def attribute(self, module: str, name: str) -> Any:
        """For a package's ``__getattr__``: the class called ``name`` among the table's, imported now."""
        for location in self.table.values():
            if location.rpartition(":")[2] == name:
                return _import(location)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    def name_of(self, class_name: str) -> str:
        """Our name of the class that is called so, ``max`` for ``MaxPool2d``; empty if there is none."""
        return next((name for name, place in self.table.items() if place.endswith(f":{class_name}")), "")

    def _meant(self, name: str) -> str:
        if of_class := self.name_of(name):
            return said([of_class])
        own = f" A class of your own is named with its module, as mypkg.{name}."
        return likely(name, self.names()) or (own if re.fullmatch(r"[A-Z]\w*", name) else "")

    def describe(self, name: str) -> tuple[str, str]:
        """First sentence of the docstring of ``name`` and its ``Source:``, read from the file, nothing imported."""
        module, _, attribute = self.locations()[name].partition(":")
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            return "", ""
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        nodes = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == attribute]
        text = (ast.get_docstring(nodes[0]) if nodes else None) or ast.get_docstring(tree) or ""
        source = re.search(r"^ *Source:(.*(?:\n +\S.*)*)", text, flags=re.M)  # and the lines indented under it
        return " ".join(text.partition("\n\n")[0].split()), " ".join(source[1].split()) if source else ""


@cache
def _offered(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Name -> location of what installed packages offer; asking them all takes milliseconds."""
    return {point.name: point.value for point in entry_points(group=group)}


def locate(path: str, what: str) -> Any:
    """Import the object at the dotted ``path``. Raises: ValueError naming ``what`` and the part that is missing."""
    module_name, _, attribute = path.rpartition(".")
    if not module_name or path.startswith("."):
        raise ValueError(f"{what}: {path!r} is not a dotted path such as mypkg.MyClass")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module_name}.".startswith(f"{error.name}."):
            raise  # The module is there; something that it imports itself is not: its own traceback says so best.
        raise ValueError(
            f"{what}: there is no module {error.name!r} on the Python path (the current folder and PYTHONPATH count)"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in dir(module) if not name.startswith("_")]
        raise ValueError(f"{what}: module {module_name!r} has no {attribute!r}.{nearest(attribute, public)}") from error


def component(group: str, block: Mapping[str, Any], name: str = "") -> Callable[..., Any]:
    """What builds the component that ``block`` of a config describes; more arguments may be given when it is called.

    Args:
        group: ``pool``, ``head``, ``data`` and the like.
        block: its ``_target_`` and its options.
        name: what the user calls it; the last part of the ``_target_`` without.
    Raises: ValueError when there is no such thing as its ``_target_``; when it is called, as :func:`call`.
    """
    target = block["_target_"]
    options = {key: value for key, value in block.items() if key != "_target_"}
    function = locate(target, f"{group}._target_={target}")
    what = f"{group} {(name or target.rpartition('.')[2])!r}"
    # Bare where nothing goes first: behind a partial a module without a constructor of its own would not be known.
    return lambda *first, **more: call(partial(function, *first) if first else function, what, {**options, **more})


def call(function: Any, what: str, options: Mapping[str, Any]) -> Any:
    """``function(**options)``; ``channels`` is dropped where the function does not take it, so that
    ``torch.nn.MaxPool2d`` or any other ready class can be named as well.

    Raises: ValueError naming ``what`` and the option that is unknown or missing.
    """
    if not callable(function):
        raise ValueError(f"{what} must be a class or a function, got {function!r}")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # Some builtins have no signature to look at.
        return function(**options)
    options = dict(options)
    torch_nn = sys.modules.get("torch.nn")
    # By identity, not by name: torch.compile puts another one in the place of nn.Module's.
    if torch_nn is not None and getattr(function, "__init__", None) is torch_nn.Module.__init__:
        parameters = {}  # a module without a constructor of its own: nn.Module's takes anything and refuses it later
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        if "channels" not in parameters:
            options.pop("channels", None)
        known = [name for name in parameters if name not in ("self", "channels")]
        for name in options:
            if name not in parameters:
                allowed = f"Its options: {', '.join(known)}" if known else "It has no options"
                raise ValueError(f"{what} has no option {name!r}.{nearest(name, known)} {allowed}")
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in options
    ]
    if missing:
        raise ValueError(f"{what} needs a value for {', '.join(missing)}")
    return function(**options)


def _import(location: str) -> Any:
    module, _, attribute = location.partition(":")
    return getattr(import_module(module), attribute)
