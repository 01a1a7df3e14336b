"""What ``mkdocs`` is told of this repository: where links out of ``docs/`` lead, and how formulas are drawn.

Pages are written for a reader of the repository, where ``../results/...`` is beside ``docs/``. Whatever they link to
goes into the site as well, at the same place, pages as pages and other files as they are; a link to a folder leads to
the page in it. Formulas become MathML, which browsers draw without a script from elsewhere.
"""

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
_PAGES = ("README.md", "summary.md", "index.html")  # of a folder, the first that is there
_LINK = re.compile(
    r"\[(?P<words>[^\[\]]*)\]\((?P<link>[^()\s]+)\)|^(?P<label>\[[^\[\]\n]+\]: )(?P<below>\S+)$", flags=re.M
)
_FENCED = re.compile(r"(^ *```.*?^ *```$)", flags=re.M | re.S)
_MARK = re.compile(r"^<!--.*?-->$", flags=re.M | re.S)  # a table right below one would not be read as a table
_FORMULA = re.compile(r"^( *)```math\n(.*?)^ *```$|\$`([^`\n]+)`\$", flags=re.M | re.S)

_added: list[str] = []  # to the site, by their places in the repository


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages link to beside ``docs/``, and what those pages link to in turn."""
    waiting = [f"{DOCS}{file.src_uri}" for file in files.documentation_pages()]
    there = set(waiting)
    _added.clear()
    while waiting:
        page = waiting.pop()
        for link in _links((ROOT / page).read_text(encoding="utf-8")):
            place = target(page, link)
            if place is None or place.startswith(DOCS) or place in there or not (ROOT / place).is_file():
                continue
            there.add(place)
            _added.append(place)
            files.append(File.generated(config, placed(place), abs_src_path=str(ROOT / place)))
            if place.endswith(".md"):
                waiting.append(place)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links of the repository to their places in the site, and set formulas aside."""
    own = page.file.src_uri
    source = {placed(place): place for place in _added}.get(own, f"{DOCS}{own}")

    def led(match: re.Match[str]) -> str:
        link = match["link"] or match["below"]
        place = target(source, link)
        if place is None:
            return match[0]
        if (ROOT / place).is_dir():  # without a page: nothing that a reader of the site could open
            return match["words"] or ""
        to = posixpath.relpath(placed(place), posixpath.dirname(own) or ".") + "".join(link.partition("#")[1:])
        return f"{match['label']}{to}" if match["label"] else f"[{match['words']}]({to})"

    page.formulas = []

    def set_aside(match: re.Match[str]) -> str:
        block = match[2] is not None
        page.formulas.append(convert(match[2] if block else match[3], display="block" if block else "inline"))
        return f"{match[1] or ''}{_held(len(page.formulas) - 1)}"

    return outside_of_code(_FORMULA.sub(set_aside, markdown), lambda text: _MARK.sub("", _LINK.sub(led, text)))


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Put the formulas in their places."""
    for number, formula in enumerate(page.formulas):
        html = html.replace(_held(number), formula)
    return html


def target(page: str, link: str) -> str | None:
    """The file that ``link`` of the file ``page`` leads to, both from the root of the repository.

    Returns: None for a link within the page or to another site; a folder where that has no page of its own.
    """
    path = link.partition("#")[0]
    if not path or re.match(r"\w+:", path):
        return None
    place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    if not (ROOT / place).is_dir():
        return place
    pages = [f"{place}/{name}" for name in _PAGES if os.path.isfile(ROOT / place / name)]
    return pages[0] if pages else place


def placed(place: str) -> str:
    """Where the file ``place`` of the repository lies in the site, as a source.

    The first page is the index, so README, which would be one too, has another name there.
    """
    return "readme.md" if place == "README.md" else place.removeprefix(DOCS)


def outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """``text`` with ``change`` made to all of it but its fenced code."""
    return "".join(part if number % 2 else change(part) for number, part in enumerate(_FENCED.split(text)))


def _links(text: str) -> Iterator[str]:
    for number, part in enumerate(_FENCED.split(text)):
        if number % 2 == 0:
            yield from (match["link"] or match["below"] for match in _LINK.finditer(part))


def _held(number: int) -> str:
    return f"formula{number}held"
