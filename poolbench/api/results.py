"""What the functions of the api return: tables as DataFrames, figures of matplotlib, and how a notebook shows them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from poolbench.api.notebook import show_figures
from poolbench.claims.arms import arm_words
from poolbench.claims.claim import Judgement, is_share
from poolbench.claims.experiment import Experiment, claims_table
from poolbench.claims.words import RULE as CLAIMS_RULE
from poolbench.claims.words import interval_text, paper_words
from poolbench.cli.plan import Ahead
from poolbench.messages import counted
from poolbench.records.compared import factor_words
from poolbench.records.read import told
from poolbench.report import Report
from poolbench.report.canvas import drawing
from poolbench.report.drawings import Drawing
from poolbench.report.factor import about, named
from poolbench.report.html import escaped, listed, summary_html, table
from poolbench.report.latex import latex
from poolbench.report.notes import RULE
from poolbench.report.tuned import left_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALWAYS = ("summary", "cells")  # of the tables, whether there is anything in them
_MOST_ROWS = 60  # of a plan that a notebook shows; its frame has all


class NotDone(RuntimeError):
    """Cells that were asked for are not done; the text says which, why, and how to try again.

    Args:
        result: what the call would have returned, of the cells that are done; None where there is nothing.
    """

    def __init__(self, lines: Sequence[str], result: Any = None):
        super().__init__("\n".join(line.removeprefix("poolbench: ") for line in lines))
        self.result = result


@dataclass(frozen=True, repr=False)
class Planned:
    """What a sweep, a race or an experiment has before it.

    Args:
        text: all of it as the command line prints it.
        frame: a row for each cell of a sweep; left: what those that are not done should cost together.
        notes: what is said below the cells.
    """

    text: str
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    left: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, ahead: Ahead) -> "Planned":
        """Of a sweep."""
        content = ahead.content()
        rows = [{**row, "overrides": shlex.join(row["overrides"])} for row in content["cells"]]
        frame = pd.DataFrame(rows).astype({"seconds": "float64", "train_flops": "float64"})
        below = [ahead.count, *ahead.notes]
        common, own = ahead.parted()
        notes = [*([f"all cells: {shlex.join(common)}"] if common else []), *below]
        frame["own"] = [shlex.join(own[run_id]) for run_id in frame["run_id"]]
        return cls("\n".join([*ahead.cell_lines(), *below, ""]), frame, content["left"], notes)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f"<pre>{escaped(self.text)}</pre>"
        shown = self.frame.head(_MOST_ROWS)
        rows = zip(shown["state"], shown["run_id"], shown["own"], strict=True)
        more = len(self.frame) - len(shown)
        return table(("state", "cell", "own options"), rows) + listed(
            [*([f"{counted(more, 'more cell')}, in .frame"] if more else []), *self.notes]
        )


class Reported:
    """Tables and figures made from records.

    Args:
        report: what was found in them.
    """

    def __init__(self, report: Report, drawings: Sequence[Drawing] = ()):
        self.report = report
        self._drawings = [*drawings, *report.drawings]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """``summary``, a row for each group and pool; ``cells``, a row for each cell; and those of ``nets``,
        ``classes``, ``probes`` and ``samples`` that there is something to tell in."""
        tables = {"summary": self.report.summary, "cells": self.report.cells, **self.report.more}
        factor, pools = self.report.factor, self.report.pools
        return {name: named(rows, factor, pools) for name, rows in tables.items() if len(rows) or name in _ALWAYS}

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """Name -> figure, ``accuracy``, ``curves``, ``cost`` and further ones; drawn when they are first asked for."""
        return drawn(self._drawings)

    @property
    def text(self) -> str:
        """The summary as the command line prints it."""
        return self.report.text

    @property
    def latex(self) -> str:
        """A ``tabular`` for each group, for the package booktabs."""
        return latex(self.report.groups, factor_words(self.report.factor))

    @property
    def files(self) -> list[Path]:
        """What was written; nothing without ``output``."""
        return self.report.files

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        more = [left_out(self.report.trials)] if self.report.trials else []
        more += [f"Not read: {problem}" for problem in told([*self.report.problems, *self.report.no_speeds])]
        rule, factor = about(RULE, self.report.factor), factor_words(self.report.factor)
        return summary_html(self.report.groups, rule, self.report.over, more, factor)


class Swept(Reported):
    """A sweep that was trained: tables and figures as of a report, and the records.

    Args:
        folders: of the cells, a record each.
    """

    def __init__(self, report: Report, folders: Sequence[Path]):
        super().__init__(report)
        self.folders = list(folders)

    @property
    def folder(self) -> Path:
        """That the records are in."""
        return self.folders[0].parent

    @property
    def records(self) -> pd.DataFrame:
        """A row for each cell."""
        return self.report.cells


class Reproduced:
    """Experiments and what came of their claims.

    Args:
        experiments: name -> what came of it.
    """

    def __init__(self, experiments: Mapping[str, Experiment]):
        self.experiments = dict(experiments)

    @property
    def verdicts(self) -> pd.DataFrame:
        """A row for each judgement with every number that it was made of, as in ``claims.csv``."""
        found = [claims_table(one.judgements).assign(experiment=name) for name, one in self.experiments.items()]
        whole = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["experiment"])
        return whole[["experiment", *(name for name in whole.columns if name != "experiment")]]

    @cached_property
    def reports(self) -> dict[str, Reported]:
        """Name of an experiment -> its tables and figures; ``claims`` is the figure of its claims."""
        return {name: Reported(one.report, [one.drawing]) for name, one in self.experiments.items()}

    @property
    def text(self) -> str:
        """The claims as the command line prints them."""
        return "\n".join(one.text for one in self.experiments.values())

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        titles = ("experiment", "claim", "cells", "the paper", "control", "treatment", "seeds", "gain", "verdict")
        rows = [(name, *_judged(judgement)) for name, one in self.experiments.items() for judgement in one.judgements]
        return f"{table(titles, rows, [6])}<p><small>{escaped(CLAIMS_RULE)}</small></p>"


class Raced:
    """How a race ended.

    Args:
        rows: of the arms, as :func:`poolbench.racing.told.rows` gives them; facts: to be said beside the table.
        drawing: the figure, not drawn yet.
    """

    def __init__(self, rows: list[dict[str, Any]], facts: Sequence[str], drawing: Drawing):
        self._rows, self.facts, self._drawing = rows, list(facts), drawing

    @property
    def standings(self) -> pd.DataFrame:
        """A row for each arm: those that are left, the best first, then the others, the last to fall first."""
        return pd.DataFrame(self._rows)

    @property
    def left(self) -> list[str]:
        """The arms that are left, the best first."""
        return [row["arm"] for row in self._rows if row["left"]]

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """``race``: a line for each arm, from the start to the look at which it fell."""
        return drawn([self._drawing])

    @property
    def text(self) -> str:
        """A line for each arm, and the facts."""
        from poolbench.report.race import texts

        lines = [", ".join(filter(None, texts(row)[:3])) for row in self._rows]
        return "\n".join([*lines, *(f"* {fact}" for fact in self.facts), ""])

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from poolbench.report.race import TITLES, texts

        return table(TITLES, map(texts, self._rows), range(3, len(TITLES))) + listed(self.facts)


def drawn(drawings: Sequence[Drawing]) -> "dict[str, Figure]":
    """Name -> figure, of those in which there is something to draw."""
    show_figures()
    found = {}
    for one in drawings:
        if (figure := one.draw(one.title)) is not None:
            with drawing():  # ticks and labels are made at the first drawing: with our settings, not with the user's
                figure.draw_without_rendering()
            found[one.name] = figure
    return found


def _judged(judgement: Judgement) -> tuple[str, ...]:
    claim = judgement.claim
    share = is_share(claim.metric_control) and is_share(claim.metric_treatment)
    apart = (claim.smallest_difference, -claim.smallest_difference)
    verdict = f"{judgement.verdict}: {judgement.why}" if judgement.why else judgement.verdict
    gain = interval_text(judgement.gain, share, sign=True, apart=apart)
    arms = arm_words(claim)
    return (claim.says, judgement.stratum, paper_words(claim.paper), *arms, str(judgement.gain.n), gain, verdict)
