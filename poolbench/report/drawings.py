"""Figures of a folder, drawn anew only when what they show or the code that draws them changed."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.foreign import opened, parsed_json, read_bytes
from poolbench.records.files import write_json
from poolbench.report import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY = "report.json"
_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("report", "claims", "statistics")


@dataclass(frozen=True)
class Drawing:
    """A figure that a report has.

    Args:
        name: of its files, without the ending.
        title: above it.
        shown: all data that it shows.
        draw: called with the title, and with ``size`` where another one is wanted than the figure needs; gives None
            when there is nothing to draw.
    """

    name: str
    title: str
    shown: bytes
    draw: "Callable[..., Figure | None]"


def bring_up_to_date(
    output: Path, drawings: Sequence[Drawing], suffixes: Sequence[str] = plots.SUFFIXES, compared: str = "pool"
) -> tuple[list[Path], list[Path]]:
    """Draw those of ``drawings`` that changed since the last report in ``output``, and remove those that are gone.

    Args:
        suffixes: of the files of each; further ones of the last report stay as long as their figure is the same.
        compared: what the report compares, to be remembered.
    Returns: the files of all figures, and those of them that were drawn now.
    """
    known = _remembered(output / MEMORY)
    now: dict[str, Any] = {}
    files, drawn = [], []
    for drawing in drawings:
        code = b"".join(file.read_bytes().replace(b"\r\n", b"\n") for file in drawn_by(drawing.draw))
        drawn_from = hashlib.sha256(code + drawing.title.encode() + drawing.shown).hexdigest()[:16]
        entry = known.get(drawing.name, {})
        there = {Path(file).suffix for file in entry.get("files", ())}
        lacking = there and not there.issuperset(suffixes)  # without a file there was nothing to draw
        if entry.get("drawn_from") != drawn_from or lacking or not _untouched(output, entry):
            figure = drawing.draw(drawing.title)
            paths = plots.save(figure, output / drawing.name, suffixes) if figure is not None else []
            _remove(output, entry, kept={path.name for path in paths})
            entry = {"drawn_from": drawn_from, "files": {path.name: _hash(path) for path in paths}}
            drawn += paths
        now[drawing.name] = entry
        files += [output / file for file in entry["files"]]
    for name, entry in known.items():
        if name not in now and _untouched(output, entry):
            _remove(output, entry)
    about = {} if compared == "pool" else {"compared": compared}
    write_json(output / MEMORY, {"schema_version": 1, **about, "figures": now})
    return files, drawn


def compared_before(output: Path) -> str:
    """What the last report in ``output`` compared; empty where there is none that can be read."""
    try:
        content = parsed_json(read_bytes(output / MEMORY))
        return str(content.get("compared", "pool"))
    except (OSError, ValueError, AttributeError):
        return ""


def drawn_by(draw: Callable[..., Any]) -> list[Path]:
    """The files whose change may change what ``draw`` draws: its own, that which saves figures, and all that they
    import of the rooms that draw. What reads records is none: what it gives is shown, and counts itself."""
    function = draw.func if isinstance(draw, partial) else draw
    found: dict[str, Path] = {}
    new = {function.__module__, plots.__name__}
    while new:
        found |= {module: place for module in new if (place := _file(module)) is not None}
        new = set().union(*(_imported(found[module]) for module in new if module in found)) - found.keys()
    return [found[module] for module in sorted(found)]


@cache
def _imported(file: Path) -> frozenset[str]:
    """The modules that ``file`` imports when it runs: what types alone need is left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    of_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(part) for node in of_types for part in node.body}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in skipped]
    return frozenset(
        {name for node in nodes for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
    )


def _file(module: str) -> Path | None:
    """Where ``module`` stands, of the rooms that draw; a package is what it exports, and that stands elsewhere."""
    room, *inside = module.split(".")[1:] if module.startswith("poolbench.") else [""]
    file = _PACKAGE.joinpath(room, *inside).with_suffix(".py")
    return file if room in _ROOMS and inside and file.is_file() else None


def _remembered(path: Path) -> dict[str, Any]:
    """The figures of the last report here; nothing when there is none or its memory cannot be read."""
    try:
        figures = parsed_json(read_bytes(path))["figures"]
        # Its files are removed when their figure is gone: only what lies in the folder itself can be one of them.
        return {
            name: entry
            for name, entry in figures.items()
            if isinstance(entry["files"], dict) and all(Path(file).name == file for file in entry["files"])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remove(output: Path, entry: dict[str, Any], kept: Iterable[str] = ()) -> None:
    """Remove the figure's files but ``kept``. One that somebody changed since is theirs."""
    for file, digest in entry.get("files", {}).items():
        if file not in kept and _hash(output / file) == digest:
            (output / file).unlink()


def _untouched(output: Path, entry: dict[str, Any]) -> bool:
    """Whether the figure's files are as they were written."""
    return all(_hash(output / name) == digest for name, digest in entry["files"].items())


def _hash(path: Path) -> str:
    try:
        with opened(path, inside=path.parent) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""
