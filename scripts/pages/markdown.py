"""Markdown: paragraphs, rows of tables, and what the marks of a docstring become."""

import re
import textwrap


def row(cells: list[str]) -> str:
    """One row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def wrapped(text: str) -> list[str]:
    """A paragraph, and the empty line after it."""
    return [*textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False), ""]


def markdown(text: str) -> str:
    """Paragraphs, displayed formulas and simple tables of a docstring."""
    lines: list[str] = []
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    for block in blocks:
        if block.lstrip().startswith(".. math::"):
            # Between $$ GitHub takes the backslash of \\, and \\; away before they are read as a formula.
            lines += ["```math", " ".join(block.replace(".. math::", " ", 1).split()), "```", ""]
        elif re.match(r"\s*===* +==", block):
            lines += [*_table(block), ""]
        elif block.strip():
            lines += [inline(block.strip()), ""]
    return "\n".join(lines).strip()


def inline(text: str) -> str:
    """References, formulas and code of a docstring within a line."""
    text = text.replace(", see :class:`~poolbench.pooling.base.Pool`", "")
    text = re.sub(r":math:`([^`]+)`", lambda m: f"$`{' '.join(m[1].split())}`$", text)
    text = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return re.sub(r"``([^`]+)``", lambda m: f"`{m[1]}`", text)


def _table(block: str) -> list[str]:
    """A simple table of reStructuredText: columns are where the ruled line says."""
    lines = [line for line in textwrap.dedent(block).splitlines() if line.strip()]
    columns = [match.span() for match in re.finditer("=+", lines[0])]
    ends = [start for start, _ in columns[1:]] + [None]
    cells = [
        [inline(line[start:end].strip()) for (start, _), end in zip(columns, ends, strict=True)]
        for line in lines
        if set(line) - {"=", " "}
    ]
    return [row(cells[0]), f"|{'---|' * len(columns)}", *map(row, cells[1:])]
