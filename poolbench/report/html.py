"""Tables as HTML for a notebook: the columns and words of `tables`, every text of a record escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from poolbench.records.printable import printable
from poolbench.report.tables import ACCURACY, COST, OVER_NETS, OVER_RULE, TIMES, Column, column_title, over_title, title


def escaped(text: Any) -> str:
    """``text`` as it is seen, whatever a record called its pool."""
    return html.escape(printable(text, keep="\n"))


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table with ``titles`` over ``rows``.

    Args:
        numeric: places of the columns that stand on the right.
    """
    right = set(numeric)
    sides = [f' style="text-align: {"right" if place in right else "left"}"' for place in range(len(titles))]
    head = "".join(f"<th{side}>{escaped(name)}</th>" for side, name in zip(sides, titles, strict=True))
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in rows:
        fields = "".join(f"<td{side}>{escaped(text)}</td>" for side, text in zip(sides, row, strict=True))
        lines.append(f"<tr>{fields}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def listed(notes: Iterable[str]) -> str:
    """``notes`` as a list; nothing for none."""
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def summary_html(
    groups: Iterable[tuple[pd.DataFrame, list[str]]],
    rule: str,
    over: pd.DataFrame,
    more: Iterable[str] = (),
    factor: str = "pool",
) -> str:
    """The summary of a report: for each group a heading, a table and notes, those over all nets first.

    Args:
        groups, over: as in :class:`poolbench.report.Report`; rule: what the columns mean.
        more: what else is to be said, a sentence each.
        factor: what is compared, the title of the first column.
    """
    parts = []
    for _, rows in over.groupby("tuned", sort=True) if len(over) else ():
        parts += [f"<h4>{escaped(over_title(rows))}</h4>", _rows(rows, OVER_NETS, factor)]
    parts += [f"<p><small>{escaped(OVER_RULE)}</small></p>"] if parts else []
    for rows, notes in groups:
        timed = [column for name, column in TIMES.items() if rows[name].notna().any()]
        parts += [f"<h4>{escaped(title(rows))}</h4>", _rows(rows, (*ACCURACY, *COST, *timed), factor), listed(notes)]
    return "\n".join([*parts, listed(more), f"<p><small>{escaped(rule)}</small></p>"])


def _rows(rows: pd.DataFrame, columns: Sequence[Column], factor: str) -> str:
    records: list[Mapping[str, Any]] = rows.to_dict("records")
    numeric = [place for place, column in enumerate(columns) if column.numeric]
    return table(
        [column_title(c, factor) for c in columns], ([c.text(row) for c in columns] for row in records), numeric
    )
