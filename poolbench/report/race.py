"""The report of a race: who is left, who fell when, behind whom and by how much, and what each costs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from poolbench.records.collect import write_csv
from poolbench.records.files import write_text
from poolbench.report.canvas import GREY, drawing, fitted, mark, measuring, new_figure, wrapped
from poolbench.report.colours import styles
from poolbench.report.drawings import Drawing, bring_up_to_date
from poolbench.report.tables import DASH, NOT_COUNTED, plain_markdown, plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
TITLES = ("arm", "ended", "behind", "validation", "test", "MFLOPs", "parameters", "cells")
_WIDTH, _LINE = 11.0, 0.42  # inches of the figure, and of one arm in it
_PLACES = (0.0, 0.5, 0.7, 0.85)  # of the columns of numbers, in widths of their panel


def write_race(folder: Path, title: str, facts: Sequence[str], rows: list[Row], looks: Sequence[str]) -> list[Path]:
    """Write ``race.csv``, ``race.md`` and the figure, as PNG and SVG.

    Args:
        title: of the figure; its first line is that of the page.
        facts: what is to be said beside the table, a sentence each.
        rows: as :func:`poolbench.racing.told.rows` gives them.
        looks: the words of each look that there was, as "3 blocks"; a row's ``look`` is the place of its last one.
    Returns: what the report consists of.
    """
    table = pd.DataFrame(rows)
    write_csv(table, folder / "race.csv")
    lines = [f"| {' | '.join(TITLES)} |", "|---|---|---|" + "--:|" * (len(TITLES) - 3)]
    lines += [f"| {' | '.join(plain_markdown(text) for text in texts(row))} |" for row in rows]
    facts_told = [f"- {plain_markdown(fact)}" for fact in facts]
    heading = title.partition("\n")[0]
    text = "\n".join([f"# {plain_markdown(heading)}", "", *lines, "", *facts_told, "", "![The race](race.svg)", ""])
    write_text(folder / "race.md", text)
    shown = repr((rows, tuple(looks))).encode()
    figures, _ = bring_up_to_date(folder, [Drawing("race", title, shown, partial(race_figure, rows, looks))])
    return [folder / "race.csv", folder / "race.md", *figures]


def texts(row: Row) -> tuple[str, ...]:
    """The fields of ``row`` for people, as ``TITLES`` names them."""
    return (
        row["arm"],
        ended(row),
        behind(row),
        plus_minus(row, "validation_accuracy"),
        plus_minus(row, "test_accuracy"),
        _flops(row) if row["forward_flops"] is None else f"{row['forward_flops'] / 1e6:.3g}",
        DASH if row["parameters"] is None else f"{row['parameters']:,}",
        str(row["cells"]),
    )


def _flops(row: Row) -> str:
    """Of an arm whose net has no count: nothing, or that its pool says none."""
    return DASH if row["parameters"] is None else NOT_COUNTED


def ended(row: Row) -> str:
    """When an arm fell, in words."""
    if row["left"]:
        return "left"
    if row["failed"]:
        return "failed" if row["blocks"] else "never began"
    return f"fell after {row['blocks']} blocks" + (f" of {row['epochs']} epochs" if row["cheap"] else "")


def behind(row: Row) -> str:
    """Behind whom an arm fell and by how much, or why it failed."""
    if row["left"]:
        return ""
    return row["failed"] if row["failed"] else f"{row['behind']} by {plus_minus(row, 'by')} points"


def race_figure(rows: list[Row], looks: Sequence[str], title: str) -> "Figure | None":
    """A line for each arm, from the start to the look at which it fell; None before the first look.

    Args:
        looks: the words of each look.
    """
    if not looks:
        return None
    with drawing():
        figure = new_figure(_WIDTH, 1.5 + _LINE * len(rows))
        axes, numbers = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 2))
        look = styles(row["arm"] for row in rows)
        width_of = measuring()
        for place, row in enumerate(rows):
            style, y, end = look[row["arm"]], -place, row["look"]
            axes.plot([0, end], [y, y], "-", color=style.colour, lw=2.2 if row["left"] else 1.4, zorder=4)
            if row["left"]:
                mark(axes, end, y, style)
            else:
                axes.plot(end, y, "x", color=style.ink, ms=7, mew=1.8, zorder=5)
            words = f"left: {plus_minus(row, 'test_accuracy')} % on the test set" if row["left"] else behind(row)
            words = f"behind {words}" if row["behind"] else words
            first, cut, _ = fitted(words, _PLACES[1] * 0.55 * _WIDTH, width_of).partition("\n")
            _, _, _, validation, _, flops, parameters, _ = texts(row)
            shown = (first + (" ..." if cut else ""), validation, flops, parameters)
            for x, text in zip(_PLACES, shown, strict=True):
                numbers.text(x, y, text, va="center", fontsize=9)
        for x, text in zip(
            _PLACES, ("left, or behind whom it fell", "validation (%)", "MFLOPs", "parameters"), strict=True
        ):
            numbers.text(x, 0.68, text, fontsize=9, color=GREY, va="center")
        numbers.set_axis_off()
        _label(axes, rows, looks)
        figure.suptitle(wrapped(title, _WIDTH), x=0.01, ha="left")
        return figure


def _label(axes: "Axes", rows: list[Row], looks: Sequence[str]) -> None:
    axes.set_yticks([-place for place in range(len(rows))], [row["arm"] for row in rows])
    axes.set_ylim(-len(rows) + 0.45, 0.95)
    axes.set_xlim(0, len(looks) + 0.15)
    axes.set_xticks(range(len(looks) + 1), ["start", *looks], rotation=0 if len(looks) < 4 else 30)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("looks; a cross is where an arm fell")
