"""The summary as LaTeX: one ``tabular`` a group, in the style of the package booktabs, to be taken in by ``input``."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from poolbench.report.tables import DASH, chosen_columns, column_title, title

_LETTERS = {letter: f"\\{letter}" for letter in "%&_#{}$"}
_LETTERS |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", DASH: "--"}
_LETTERS |= {
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "…": r"\dots{}",
    "→": r"$\to$",
    "|": r"\textbar{}",
}
# In the oldest font encoding < and > print other signs; [ and * after the end of a row are options of it.
_LETTERS |= {"<": "$<$", ">": "$>$", "[": "{[}", "]": "{]}", "*": "{*}", '"': "''", "`": "{`}", "'": "{'}"}
_HEAD = (
    r"% \usepackage{booktabs} in the preamble, then \input this file where the tables are to stand.",
    "% ± and differences: points of test accuracy, 95 %.",
    "",
)


def latex(groups: Iterable[tuple[pd.DataFrame, list[str]]], factor: str = "pool", columns: Sequence[str] = ()) -> str:
    """One ``tabular`` per group (package booktabs), without the notes.

    Args:
        factor: what is compared, the title of the column of arms.
        columns: names of :data:`poolbench.report.tables.COLUMNS`; those of a summary without.
    """
    lines = list(_HEAD)
    for rows, _ in groups:
        shown = chosen_columns(rows, columns)
        kinds = "".join("r" if column.numeric else "l" for column in shown)
        lines += [f"% {' '.join(title(rows).split())}", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
        lines += [" & ".join(escaped(column_title(column, factor)) for column in shown) + r" \\", r"\midrule"]
        for row in rows.to_dict("records"):
            texts = (_cell(column.text(row), column.numeric) for column in shown)
            lines.append(" & ".join(texts) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """``text`` so that LaTeX prints it; a letter that its usual fonts lack is told by its number."""
    return "".join(_LETTERS.get(letter) or (letter if _printed(letter) else f"U+{ord(letter):04X}") for letter in text)


def _cell(text: str, numeric: bool) -> str:
    """A field: a minus is one, and the parts of ``±`` stay together."""
    if not numeric:
        return escaped(text)
    return re.sub(r"(?<![\w.])-(?=[\d.])", "$-$", escaped(text)).replace(r" $\pm$ ", r" $\pm$ ".replace(" ", "~"))


def _printed(letter: str) -> bool:
    """Whether LaTeX has it without a further package: ASCII, and the letters of western Europe."""
    return " " <= letter <= "~" or "À" <= letter <= "ÿ"
