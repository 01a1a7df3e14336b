"""The summary for people: a table on the terminal, and Markdown. The numbers themselves come from `summary`."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from poolbench.messages import counted
from poolbench.records.fields import Field, costs
from poolbench.registry import nearest
from poolbench.statistics.comparisons import CANNOT_TELL, HIGHER, LOWER
from poolbench.statistics.nets import LEAST_TO_PREDICT

if TYPE_CHECKING:
    from rich.console import Console

DASH, NOT_COUNTED = "–", "not counted"


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


def p_value(p: float) -> str:
    """Three or four digits, rounded up, so that rounding never makes a difference significant."""
    if _absent(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{_rounded_up(p, 4 if p < 0.1 else 3)}"


_BY_LOSS = {HIGHER: "worse", LOWER: "better", CANNOT_TELL: CANNOT_TELL}
ACCURACY = (
    Column("pool", lambda row: f"{row['pool']}{' (baseline)' if row['baseline'] else ''}", numeric=False),
    Column("seeds", lambda row: str(row["seeds"])),
    Column("test acc. %", lambda row: plus_minus(row, "test_accuracy")),
    Column("diff. points", lambda row: plus_minus(row, "difference", sign=True)),
    Column("verdict", lambda row: DASH if _absent(row["verdict"]) else row["verdict"], numeric=False),
    Column("best?", lambda row: _among(row["among_best"]), numeric=False),
    Column("gap", lambda row: _number(100 * row["train_test_gap"], "+.2f")),
)
TESTS = (
    Column("blocks", lambda row: _number(row["blocks"], ".0f")),
    Column("p (Holm)", lambda row: p_value(row["p_holm"])),
    Column("test loss", lambda row: _number(row["test_loss"], ".3f")),
    Column("diff. loss", lambda row: _loss_difference(row)),
    Column("by loss", lambda row: _BY_LOSS.get(row["loss_verdict"], DASH), numeric=False),
)
COST = tuple(Column(field.title, lambda row, field=field: _cost(row, field)) for field in costs() if field.title)
TIMES = {  # column of the summary -> of a table in which some row has it
    f"{kind}_time_ratio": Column(f"{kind} time x", lambda row, kind=kind: _multiple(row, f"{kind}_time_ratio"))
    for kind in ("train", "forward")
}
COLUMNS = {  # that may be asked for, by name
    **dict(zip(("pool", "seeds", "accuracy", "difference", "verdict", "best", "gap"), ACCURACY, strict=True)),
    **dict(zip(("blocks", "p", "loss", "loss_difference", "by_loss"), TESTS, strict=True)),
    **dict(zip(("parameters", "flops"), COST, strict=True)),
    **dict(zip(("train_time", "forward_time"), TIMES.values(), strict=True)),
}
OVER_NETS = (
    ACCURACY[0],
    Column("nets", lambda row: str(row["nets"])),
    Column("diff. points", lambda row: DASH if row["baseline"] else plus_minus(row, "difference", sign=True)),
    ACCURACY[4],
    ACCURACY[5],
    Column("sd between nets", lambda row: DASH if _absent(row["between"]) else f"{100 * row['between']:.2f}"),
    Column("in another net", lambda row: _span(row["net_low"], row["net_high"])),
    Column("p (Holm)", lambda row: p_value(row["p_holm"])),
)
OVER_RULE = (
    "A net is a model on a data set; of one that stands in several tables the mean of these is taken. ± is the 95 % "
    "interval of the mean over nets, as if nets were drawn at random from those that people use (Paule and Mandel's "
    "spread, Hartung and Knapp's interval). In another net: where the true difference of a net not tried should lie "
    f"(95 %), from {LEAST_TO_PREDICT} nets on. Verdicts and best? go by how pools differ from net to net."
)
FIGURES = "## Figures"
_NO_BREAK = "\u00a0"
_WIDE, _WIDER = 112, 180  # Below, the costs stand in a table of their own; from the second on, the tests have room.
_TIME = 12  # that a column of times takes on top


def title(rows: pd.DataFrame) -> str:
    """What a group's cells have in common, from its ``rows`` of the summary."""
    return str(rows["setting"].iloc[0])


def over_title(rows: pd.DataFrame) -> str:
    """What stands over the table of ``rows``, of :func:`poolbench.report.over_nets.over_all_nets`."""
    return f"Over {int(rows['nets'].max())} nets{', tuned' if rows['tuned'].iloc[0] else ''}"


def print_summary(
    groups: Iterable[tuple[pd.DataFrame, list[str]]],
    rule: str,
    console: "Console",
    over: pd.DataFrame | None = None,
    factor: str = "pool",
    columns: Sequence[str] = (),
) -> None:
    """Print each group's rows and notes to ``console``, as one table or two, whichever its width allows.

    Args:
        over: rows over all nets, a table each for ``tuned``.
        factor: what is compared, the title of the column of arms.
        columns: names of :data:`COLUMNS`, in their order; without, as many as there is room for.
    """
    from rich.table import Table
    from rich.text import Text

    for rows, notes in groups:
        console.print(Text(title(rows), style="bold"))
        costs, room = _costs(rows), console.width - _TIME * len(_times(rows))
        if columns:
            parts = [chosen_columns(rows, columns)]
        elif room >= _WIDE:
            parts = [(*ACCURACY, *(TESTS if room >= _WIDER else ()), *costs)]
        else:
            parts = [ACCURACY, (ACCURACY[0], *costs)]
        for shown in parts:
            console.print(_table(rows, shown, factor))
        listed = Table.grid(padding=(0, 1))
        for note in notes:
            listed.add_row("*", Text(note))
        console.print(listed)
        console.print()
    for rows in _by_view(over):
        console.print(Text(over_title(rows), style="bold"))
        console.print(_table(rows, OVER_NETS, factor))
    if _by_view(over):
        console.print(Text(OVER_RULE))
        console.print()
    console.print(Text(rule))


def chosen_columns(rows: pd.DataFrame, columns: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of these names, in this order; without names those that a page has room for."""
    return tuple(COLUMNS[name] for name in columns) if columns else (*ACCURACY, *_costs(rows))


def parse_columns(text: str) -> tuple[str, ...]:
    """The names in ``pool,seeds,accuracy``. Raises: ValueError naming those that there are."""
    names = tuple(part.strip() for part in text.split(","))
    for place, name in enumerate(names):
        if name not in COLUMNS:
            there = f"There are: {', '.join(COLUMNS)}"
            raise ValueError(f"there is no column {name!r}.{nearest(name, list(COLUMNS))} {there}")
        if name in names[:place]:
            raise ValueError(f"the column {name!r} is named twice")
    return names


def _times(rows: pd.DataFrame) -> list[Column]:
    """Columns of times of which ``rows`` have any."""
    return [column for name, column in TIMES.items() if rows[name].notna().any()]


def _costs(rows: pd.DataFrame) -> tuple[Column, ...]:
    return (*COST, *_times(rows))


def _table(rows: pd.DataFrame, columns: Iterable[Column], factor: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    colours = {"higher": "green", "better": "green", "lower": "red", "worse": "red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        fold = {"overflow": "fold"} if not column.numeric else {"justify": "right", "no_wrap": True}
        table.add_column(column_title(column, factor), **fold)
    for row in rows.to_dict("records"):
        style = "bold" if row["baseline"] else ""
        table.add_row(*(Text(text, style=colours.get(text, style)) for text in (c.text(row) for c in columns)))
    return table


def markdown(
    groups: Iterable[tuple[pd.DataFrame, list[str]]],
    rule: str,
    problems: int = 0,
    over: pd.DataFrame | None = None,
    factor: str = "pool",
    columns: Sequence[str] = (),
    figures: Mapping[str, str] | None = None,
) -> str:
    """All groups as Markdown: a heading, a table and notes each.

    Args:
        problems: how many records were not readable; over: rows over all nets, which come first.
        factor: what is compared, the title of the column of arms.
        columns: names of :data:`COLUMNS`, in their order; all without.
        figures: file beside the text -> what it shows; they come last.
    """
    lines = ["# Summary", ""]
    for rows in _by_view(over):
        lines += [f"## {over_title(rows)}", "", *_markdown_table(rows, OVER_NETS, factor), ""]
    lines += [OVER_RULE, ""] if _by_view(over) else []
    for rows, notes in groups:
        shown = chosen_columns(rows, columns) if columns else (*ACCURACY, *TESTS, *_costs(rows))
        lines += [f"## {plain_markdown(title(rows))}", "", *_markdown_table(rows, shown, factor)]
        lines += ["", *(f"- {plain_markdown(note)}" for note in notes), ""]
    if problems:
        lines += [
            f"**{counted(problems, 'record')} could not be read and {'is' if problems == 1 else 'are'} left out.**",
            "",
        ]
    shown = [line for file, text in (figures or {}).items() for line in (f"![{_alt(text)}]({quote(file)})", "")]
    return "\n".join([*lines, rule, "", *([FIGURES, "", *shown] if shown else [])])


def _alt(text: str) -> str:
    """What a picture shows, in a line; a bracket would end it."""
    return plain_markdown(text.replace("\n", ": ").translate({ord("["): "(", ord("]"): ")"}))


def _by_view(over: pd.DataFrame | None) -> list[pd.DataFrame]:
    """The tables over all nets: of cells at a shared recipe, and of tuned ones."""
    return [] if over is None else [rows for _, rows in over.groupby("tuned", sort=True)]


def _markdown_table(rows: pd.DataFrame, columns: Sequence[Column], factor: str) -> list[str]:
    lines = [f"| {' | '.join(column_title(column, factor) for column in columns)} |"]
    lines.append(f"|{'|'.join('---:' if column.numeric else '---' for column in columns)}|")
    for row in rows.to_dict("records"):
        texts = (_unbroken(plain_markdown(column.text(row)).replace("|", "\\|")) for column in columns)
        lines.append(f"| {' | '.join(texts)} |")
    return lines


def _unbroken(text: str) -> str:
    """``text`` in which a number and its margin stay in one line."""
    return text.replace(" ± ", f"{_NO_BREAK}±{_NO_BREAK}")


def plain_markdown(text: str) -> str:
    """``text`` without what Markdown would turn into HTML, a link or a picture: names may be somebody else's."""
    text = text.replace("\\", "\\\\")
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return re.sub(r"\](?=[(\[:])", r"\\]", text)


def column_title(column: Column, factor: str) -> str:
    """What stands over ``column`` in a table that compares ``factor``."""
    return factor if column is ACCURACY[0] else column.title


def _among(value: Any) -> str:
    """Whether a pool is not told apart from the best."""
    return DASH if _absent(value) else "maybe" if value else "no"


def _loss_difference(row: Mapping[str, Any]) -> str:
    """``-0.0123 ± 0.0040``; the margin is rounded up, and a dash where there is none."""
    mean, low, high = (row[f"loss_difference{end}"] for end in ("", "_low", "_high"))
    if _absent(mean):
        return DASH
    return f"{mean:+.4f} ± {DASH if _absent(low) else _rounded_up((high - low) / 2, 4)}"


def _multiple(row: Mapping[str, Any], name: str) -> str:
    """``1.23 [1.20, 1.26]``: the median and the quartiles; 1 for the baseline, and a dash where there is none."""
    if _absent(row[name]):
        return DASH
    if row["baseline"]:
        return "1"
    median, low, high = (_three_digits(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{median} [{low}, {high}]"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _span(low: float, high: float) -> str:
    return DASH if _absent(low) else f"{100 * low:+.2f} to {100 * high:+.2f}"


def _cost(row: Mapping[str, Any], field: Field) -> str:
    """Of finished cells whose pool says no operations of its own the net's are not counted: no number is too small."""
    if field.kind == "operations" and row["seeds"] and _absent(row[field.name]):
        return NOT_COUNTED
    return _number(row[field.name], field.form, field.per)


def _number(value: float, form: str, per: float = 1) -> str:
    return DASH if _absent(value) else f"{value / per:{form}}"


def _rounded_up(value: float, digits: int) -> Decimal:
    """``value`` to ``digits`` decimals, never smaller; what a float adds in its last bits does not count."""
    return Decimal(repr(round(value, digits + 6))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING)


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
