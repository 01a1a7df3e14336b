"""The summary for people: a table on the terminal, Markdown and LaTeX. The numbers themselves come from `summary`."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

from poolbench.records.fields import costs

if TYPE_CHECKING:
    from rich.console import Console

DASH = "–"


@dataclass(frozen=True)
class Column:
    """A column for people: ``text`` turns a row of the summary into what is printed."""

    title: str
    text: Callable[[Mapping[str, Any]], str]
    numeric: bool = True


def plus_minus(row: Mapping[str, Any], name: str, sign: bool = False) -> str:
    """``81.23 ± 0.34`` in percent or points; the margin is rounded up, and a dash where there is none."""
    mean, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if _absent(mean):
        return DASH
    margin = DASH if _absent(low) else f"{_rounded_up(50 * (high - low), 2):.2f}"
    return f"{100 * mean:{'+' if sign else ''}.2f} ± {margin}"


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def p_value(p: float) -> str:
    """Three or four digits, rounded up, so that rounding never makes a difference significant."""
    if _absent(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{_rounded_up(p, 4 if p < 0.1 else 3)}"


ACCURACY = (
    Column("pool", lambda row: f"{row['pool']}{' (baseline)' if row['baseline'] else ''}", numeric=False),
    Column("seeds", lambda row: str(row["seeds"])),
    Column("test acc. %", lambda row: plus_minus(row, "test_accuracy")),
    Column("diff. points", lambda row: plus_minus(row, "difference", sign=True)),
    Column("verdict", lambda row: DASH if _absent(row["verdict"]) else row["verdict"], numeric=False),
    Column("gap", lambda row: _number(100 * row["train_test_gap"], "+.2f")),
)
TESTS = (
    Column("pairs", lambda row: _number(row["pairs"], ".0f")),
    Column("p (Holm)", lambda row: p_value(row["p_holm"])),
    Column("exact p (Holm)", lambda row: p_value(row["p_exact_holm"])),
)
COST = tuple(
    Column(field.title, lambda row, field=field: _number(row[field.name], field.form, field.per))
    for field in costs()
    if field.title
)
_LATEX = {letter: f"\\{letter}" for letter in "%&_#{}$"}
_LATEX |= {"\\": r"\textbackslash ", "^": r"\textasciicircum ", "~": r"\textasciitilde ", "±": r"$\pm$", DASH: "--"}
_WIDE, _WIDER = 112, 140  # Below, the costs stand in a table of their own; from the second on, the tests have room.


def title(rows: pd.DataFrame) -> str:
    """What a group's cells have in common, from its ``rows`` of the summary."""
    return str(rows["setting"].iloc[0])


def print_summary(groups: Iterable[tuple[pd.DataFrame, list[str]]], rule: str, console: "Console") -> None:
    """Print each group's rows and notes to ``console``, as one table or two, whichever its width allows."""
    from rich.table import Table
    from rich.text import Text

    for rows, notes in groups:
        console.print(Text(title(rows), style="bold"))
        if console.width >= _WIDE:
            parts = [(*ACCURACY, *(TESTS if console.width >= _WIDER else ()), *COST)]
        else:
            parts = [ACCURACY, (ACCURACY[0], *COST)]
        for columns in parts:
            console.print(_table(rows, columns))
        listed = Table.grid(padding=(0, 1))
        for note in notes:
            listed.add_row("*", Text(note))
        console.print(listed)
        console.print()
    console.print(Text(rule))


def _table(rows: pd.DataFrame, columns: Iterable[Column]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    colours = {"higher": "green", "lower": "red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        fold = {"overflow": "fold"} if not column.numeric else {"justify": "right", "no_wrap": True}
        table.add_column(column.title, **fold)
    for row in rows.to_dict("records"):
        style = "bold" if row["baseline"] else ""
        table.add_row(*(Text(text, style=colours.get(text, style)) for text in (c.text(row) for c in columns)))
    return table


def markdown(groups: Iterable[tuple[pd.DataFrame, list[str]]], rule: str, problems: int = 0) -> str:
    """All groups as Markdown: a heading, a table and notes each; ``problems``: how many records were not readable."""
    lines = ["# Summary", ""]
    columns = (*ACCURACY, *TESTS, *COST)
    for rows, notes in groups:
        lines += [f"## {plain_markdown(title(rows))}", ""]
        lines.append(f"| {' | '.join(column.title for column in columns)} |")
        lines.append(f"|{'|'.join('---:' if column.numeric else '---' for column in columns)}|")
        for row in rows.to_dict("records"):
            texts = (plain_markdown(column.text(row)).replace("|", "\\|") for column in columns)
            lines.append(f"| {' | '.join(texts)} |")
        lines += ["", *(f"- {plain_markdown(note)}" for note in notes), ""]
    if problems:
        lines += [
            f"**{counted(problems, 'record')} could not be read and {'is' if problems == 1 else 'are'} left out.**",
            "",
        ]
    return "\n".join([*lines, rule, ""])


def plain_markdown(text: str) -> str:
    """``text`` without what Markdown would turn into HTML, a link or a picture: names may be somebody else's."""
    text = text.replace("\\", "\\\\")
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return re.sub(r"\](?=[(\[:])", r"\\]", text)


def latex(groups: Iterable[tuple[pd.DataFrame, list[str]]]) -> str:
    """One ``tabular`` per group (package booktabs), without the notes."""
    columns = (*ACCURACY, *COST)
    lines = []
    for rows, _ in groups:
        lines += [f"% {title(rows)}", rf"\begin{{tabular}}{{{''.join('r' if c.numeric else 'l' for c in columns)}}}"]
        lines += [r"\toprule", " & ".join(_escaped(column.title) for column in columns) + r" \\", r"\midrule"]
        for row in rows.to_dict("records"):
            lines.append(" & ".join(_escaped(column.text(row)) for column in columns) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _number(value: float, form: str, per: float = 1) -> str:
    return DASH if _absent(value) else f"{value / per:{form}}"


def _rounded_up(value: float, digits: int) -> Decimal:
    """``value`` to ``digits`` decimals, never smaller; what a float adds in its last bits does not count."""
    return Decimal(repr(round(value, digits + 6))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING)


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
