"""The report: from records to tables, verdicts and figures in one folder. It reads records and never models."""

import io
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.records.collect import collect, collect_metrics, write_archive, write_csv
from poolbench.records.compared import POOL, factor_words, parse_factor, seen_as, usual_baseline_of, usual_factor
from poolbench.records.files import sweep_abandoned, write_text
from poolbench.records.groups import alike_but_samples, group_hash
from poolbench.records.read import Problem, Record, read_records, told
from poolbench.records.speeds import find_speeds
from poolbench.records.tuning import reads_test, views
from poolbench.report import plots, probe_plots
from poolbench.report.curves import curves_figure
from poolbench.report.drawings import MEMORY, Drawing, bring_up_to_date, compared_before
from poolbench.report.factor import about, counted_arms, named
from poolbench.report.images import by_class, image_notes
from poolbench.report.latex import latex
from poolbench.report.notes import RULE, notes, spans
from poolbench.report.over_nets import over_all_nets
from poolbench.report.page import Page, write_page
from poolbench.report.probes import by_probe, probe_sections
from poolbench.report.samples import by_samples, in_order, over_samples, samples_section
from poolbench.report.speeds import with_times
from poolbench.report.summary import by, check_baseline, finished, plain, summarise, usual_baselines
from poolbench.report.tables import markdown, print_summary
from poolbench.report.tuned import left_out, tuned_notes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Page", "Report", "check_writable", "make_report", "write_made", "write_report"]

# A change in these changes the figures.
_PIPED_WIDTH = 120
_PLAIN = Page()
FORMATS = ("csv", "md", "html", "latex", "pdf")
USUAL_FORMATS = ("csv", "md", "html")
_PROBED = (
    ("invariance", "Accuracy and features under transforms with", probe_plots.invariance_figure),
    ("robustness", "Corruptions, shifts and calibration with", probe_plots.robustness_figure),
    ("sites", "How much of a shift's effect each site takes away with", probe_plots.sites_figure),
    ("information", "What each site keeps with", probe_plots.information_figure),
)


@dataclass(frozen=True)
class Report:
    """What was found in the records, and what was written of it.

    Args:
        cells: the tidy table, a row per cell; summary: a row per group and pool.
        over: rows over all nets, where three or more compare a pool with the baseline; else empty.
        groups: each group's rows of the summary and the notes that belong under its table.
        more: further tables, ``nets``, ``classes``, ``probes`` and ``samples``; empty where there is nothing to tell.
        drawings: the figures, not drawn yet.
        records: all that were read.
        curves: a row for each epoch of each cell.
        factor: what is compared, and stands in the columns ``pool`` of the tables: see
            :mod:`poolbench.records.compared`; pools: group -> its pool, where that is no arm.
        trials: cells that are in no table, since they did not read the test set, as those of a search.
        problems: records that could not be read; no_speeds: files of times of nets that could not.
        columns: of the tables for people, names of :data:`poolbench.report.tables.COLUMNS`; empty for the usual ones.
        output: the folder written to; None where nothing was written.
        replaced: what the report compared that was there before, where it was something else.
        files: everything the report consists of, in the order of writing; figures that were up to date are among them.
        drawn: those of the files that are figures and were drawn anew.
    """

    cells: pd.DataFrame
    summary: pd.DataFrame
    over: pd.DataFrame
    groups: list[tuple[pd.DataFrame, list[str]]]
    more: dict[str, pd.DataFrame]
    drawings: list[Drawing]
    records: list[Record]
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    factor: tuple[str, ...] = POOL
    pools: dict[str, str] = field(default_factory=dict)
    trials: int = 0
    problems: list[Problem] = field(default_factory=list)
    no_speeds: list[Problem] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    output: Path | None = None
    replaced: str = ""
    files: list[Path] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The summary as plain text, at most 120 columns wide."""
        from rich.console import Console

        buffer = io.StringIO()
        # In a notebook rich would show it there instead of writing it.
        plain = {"color_system": None, "force_terminal": False, "force_jupyter": False}
        self.show(Console(file=buffer, width=_PIPED_WIDTH, **plain))
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"

    def show(self, console: "Console | None" = None) -> None:
        """Print the summary, by default to the standard output: as wide as the terminal, plain when piped."""
        from rich.console import Console
        from rich.text import Text

        if console is None:
            console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH)
        rule, words = about(RULE, self.factor), factor_words(self.factor)
        print_summary(self.groups, rule, console, self.over, words, self.columns)
        if self.trials:
            console.print(Text(left_out(self.trials)))
        if self.replaced:
            held = (
                f"{self.output} held a report that compares {self.replaced}; this one, of {factor_words(self.factor)},"
            )
            console.print(Text(f"{held} is in its place. --output keeps both."))
        for problem in told([*self.problems, *self.no_speeds]):
            console.print(Text(f"Not read: {problem}"), soft_wrap=True)


def write_report(
    source: str | Path | Iterable[str | Path | Record],
    output: str | Path,
    baseline: str | None = None,
    archive: bool = False,
    formats: Collection[str] = USUAL_FORMATS,
    drawings: Sequence[Drawing] = (),
    speeds: Sequence[str | Path] = (),
    page: Page = _PLAIN,
) -> Report:
    """Write tables, figures and a page about ``source`` into the folder ``output``.

    Writes ``cells.csv``, ``summary.csv`` and ``summary.md``; ``nets.csv`` where three nets or more compare a pool with
    the baseline; ``classes.csv`` where records hold which test images were right; ``probes.csv`` of probes;
    ``samples.csv`` where groups differ in nothing but how many training images and epochs they have. Figures, as PNG
    and SVG: for each group of comparable cells ``accuracy``, ``curves`` and ``cost``, and of probes ``invariance``,
    ``robustness``, ``sites`` and ``information``, with a suffix when there are several groups; ``gap`` beside
    ``samples.csv``, in place of figures for each of these groups. A pool alone in one of several groups has nothing to
    be compared with and gets none. A figure is drawn only when its data or the code that draws it changed since the
    last report here (``report.json`` remembers), and the figures of groups that are gone are removed. ``index.html``
    shows all of it in one file.

    Cells with tuned values (``optimizer=tuned``) have groups of their own, in which each pool stands at its own best
    recipe, beside those at the same recipe. A cell that belongs to both has a row in both.

    Args:
        source: records, or any mixture of folders, run directories and archives.
        baseline: the label of the pool that the others are compared with; None: ``native`` where each group has it,
            else ``max``, and ``native`` in a group without that.
        archive: also write the records themselves, as ``records.jsonl``.
        formats: of :data:`FORMATS`: tables as CSV, ``summary.md``, ``index.html``, ``summary.tex``, and each figure
            also as PDF.
        drawings: further figures.
        speeds: files that `poolbench bench nets --json` wrote, for the ratios of time; a ``speeds.json`` in the folder
            that holds records or their archive is read without being named.
        page: what the page has beside.
    Raises: OSError, before any work, when ``output`` cannot be written to; ValueError when there is no record at all,
        none of the ``baseline`` that is given, or no such file among ``speeds``.
    """
    output = Path(output)
    check_writable(output)
    report = make_report(source, baseline, speeds)
    return write_made(report, output, archive, formats, drawings, page)


def make_report(
    source: str | Path | Iterable[str | Path | Record],
    baseline: str | None = None,
    speeds: Sequence[str | Path] = (),
    compare: str | None = None,
) -> Report:
    """What :func:`write_report` would write about ``source``, without writing or drawing anything.

    Args:
        source, baseline, speeds: as there.
        compare: ``head``, ``trainer.epochs``, two with a comma ...; None: pools, or, where there is one pool only, the
            one thing that varies.
    Raises: ValueError as there, and for what ``compare`` cannot be.
    """
    records, problems = read_all([source] if isinstance(source, str | Path) else list(source))
    timed, no_speeds = find_speeds(speeds, (record.path.parent for record in records))

    read = [record for record in records if reads_test(record)]
    factor = parse_factor(compare, records) if compare is not None else usual_factor(read)
    reported = seen_as(views(read), factor)
    trials = len(records) - len(read)
    cells = collect(reported)
    if baseline is not None:
        check_baseline(cells["pool"], baseline, word=factor_words(factor))
        control = baseline
    elif factor == POOL:
        control = usual_baselines(set(own) for _, own in cells.groupby("group")["pool"])
    else:
        control = usual_baseline_of(cells["pool"], factor)
    members = by(plain(cells), "group")
    summary, times = with_times(summarise(cells, control), members, records, timed)
    tuned = tuned_notes(reported)
    said = by(plain(summary), "group")
    outcomes = {record.run_id: record.outcomes for record in reported if record.outcomes}
    groups = []
    for group, rows in summary.groupby("group", sort=False):
        about = [*notes(members[group], said[group], control), *times.get(str(group), [])]
        groups.append((rows, [*tuned.get(str(group), []), *about, *image_notes(members[group], outcomes, control)]))
    over = over_all_nets(summary if not {"model", "data"}.intersection(factor) else summary.iloc[:0])
    over_sizes = over_samples(cells, alike_but_samples(record.config for record in reported))
    more = {"nets": over, "classes": by_class(cells, reported, control), "probes": by_probe(cells, control)}
    more["samples"] = by_samples(over_sizes)
    shown = set(cells.loc[cells["run_id"].isin(over_sizes["run_id"]), "group"])  # by one figure for all of them
    others = [rows for rows, _ in groups if rows["group"].iloc[0] not in shown]
    curves = collect_metrics(reported)
    pools = {group_hash(record.config): str(record.config["names"].get("with", "")) for record in reported}
    drawings = [*group_drawings(cells, curves, others, factor), *samples_drawings(over_sizes)]
    return Report(
        cells, summary, over, groups, more, drawings, records, curves, factor, pools, trials, problems, no_speeds
    )


def write_made(
    report: Report,
    output: str | Path,
    archive: bool = False,
    formats: Collection[str] = USUAL_FORMATS,
    drawings: Sequence[Drawing] = (),
    page: Page = _PLAIN,
) -> Report:
    """Write ``report`` into the folder ``output``, as :func:`write_report` does. Returns: the report with its files.

    Raises: OSError, before any work, when ``output`` cannot be written to.
    """
    output = Path(output)
    check_writable(output)
    more, over, trials = report.more, report.over, report.trials
    factor, pools, files = report.factor, report.pools, list[Path]()
    if "csv" in formats:
        tables = {"cells": report.cells, "summary": report.summary}
        files += _where_any(output, {f"{name}.csv": named(table, factor, pools) for name, table in tables.items()})
    sections = samples_section(more["samples"]) + probe_sections(more["probes"])
    sections += f"\n{left_out(trials)}\n" if trials else ""
    before = compared_before(output)
    replaced = before if before != factor_words(factor) else ""
    all_drawings = [*drawings, *report.drawings]
    figures, drawn = bring_up_to_date(output, all_drawings, plots.endings("pdf" in formats), factor_words(factor))
    if "md" in formats:
        files.append(output / "summary.md")
        words, shown = factor_words(factor), {f"{one.name}.png": one.title for one in all_drawings}
        shown = {path.name: shown[path.name] for path in figures if path.name in shown}
        rule = f"{about(RULE, factor)}\n{sections}".rstrip("\n")
        write_text(files[-1], markdown(report.groups, rule, len(report.problems), over, words, report.columns, shown))
    if "csv" in formats:
        files += _where_any(output, {f"{name}.csv": named(table, factor, pools) for name, table in more.items()})
    if "latex" in formats:
        files.append(output / "summary.tex")
        write_text(files[-1], latex(report.groups, factor_words(factor), report.columns))
    if archive:
        files.append(output / "records.jsonl")
        write_archive(report.records, files[-1])
    files += [*figures, output / MEMORY]
    files += [write_page(report, output, page)] if "html" in formats and report.groups else []
    return replace(report, output=output, files=files, drawn=drawn, replaced=replaced)


def read_all(source: Sequence[str | Path | Record]) -> tuple[list[Record], list[Problem]]:
    """All records of ``source``, and what could not be read. Raises: ValueError when there is none."""
    records = [item for item in source if isinstance(item, Record)]
    found, problems = read_records([item for item in source if not isinstance(item, Record)])
    if not records and not found:
        reasons = "".join(f"\n  {problem}" for problem in told(problems))
        raise ValueError(f"there is no record to report in {', '.join(map(str, source)) or 'an empty list'}{reasons}")
    return [*records, *found], problems


def _where_any(output: Path, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write those of ``tables`` that have rows, and remove what another report here left of the others."""
    for name, table in tables.items():
        if len(table):
            write_csv(table, output / name)
        else:
            (output / name).unlink(missing_ok=True)
    return [output / name for name, table in tables.items() if len(table)]


def group_drawings(
    cells: pd.DataFrame, curves: pd.DataFrame, groups: list[pd.DataFrame], factor: Sequence[str] = POOL
) -> list[Drawing]:
    """The figures of all groups, each with the data that it shows."""
    found = []
    for rows, suffix in zip(groups, _suffixes(groups), strict=True):
        if len(rows) < 2 and len(groups) > 1:
            continue
        rows = rows[rows["seeds"] > 0]
        if rows.empty or (len(rows) < 2 and len(groups) > 1):
            continue
        own = finished(cells[cells["group"] == rows["group"].iloc[0]])
        own_curves = curves[(curves["group"] == own["group"].iloc[0]) & curves["run_id"].isin(own["run_id"])]
        many = counted_arms(len(rows), factor)
        about = (
            f"{rows['setting'].iloc[0]}, {'seeds' if own['seed'].nunique() > 1 else 'seed'} {spans(set(own['seed']))}"
        )
        for name, heading, draw, data in (
            ("accuracy", f"Test accuracy of {many}", plots.accuracy_figure, (rows[plots.ACCURACY], own[plots.SEEDS])),
            (
                "curves",
                f"Learning curves of {many}",
                curves_figure,
                (own_curves[plots.EPOCHS], rows[plots.ORDER]),
            ),
            ("cost", f"What accuracy costs with {many}", plots.cost_figure, (rows[plots.COST],)),
        ):
            found.append(Drawing(f"{name}{suffix}", f"{heading}\n{about}", _bytes(*data), partial(draw, *data)))
        probed = own[probe_plots.probe_columns(own)]
        if len(probed.columns):
            pools = list(rows["pool"])
            for name, heading, draw in _PROBED:
                data = partial(draw, probed, pools)
                shown = _bytes(probed) + "\n".join(pools).encode()
                found.append(Drawing(f"{name}{suffix}", f"{heading} {many}\n{about}", shown, data))
    return found


def samples_drawings(over: pd.DataFrame) -> list[Drawing]:
    """The figure of groups that differ in nothing but how many training images and epochs they have."""
    if over.empty:
        return []
    pools, seeds = in_order(over), set(over["seed"])
    title = (
        f"Overfitting by the number of training images\n{len(pools)} pools, seed{'s' * (len(seeds) > 1)} {spans(seeds)}"
    )
    return [Drawing("gap", title, _bytes(over), partial(probe_plots.gap_figure, over, pools))]


def _bytes(*data: pd.DataFrame) -> bytes:
    return b"".join(part.to_csv(index=False, lineterminator="\n").encode() for part in data)


def _suffixes(groups: list[pd.DataFrame]) -> list[str]:
    """An ending for each group's files: the parts of its setting that not all groups share, if there are any."""
    if len(groups) < 2:
        return [""] * len(groups)
    parts = [re.split(r", (?![^(\[]*[)\]])", rows["setting"].iloc[0]) for rows in groups]
    common = set(parts[0]).intersection(*parts)
    slugs = ["-".join(part for part in own if part not in common) for own in parts]
    slugs = [re.sub(r"[^A-Za-z0-9_.=+]+", "-", slug).strip("-.")[:80] for slug in slugs]
    hashes = [rows["group"].iloc[0] for rows in groups]
    return [
        f"-{slug or 'group'}-{group}" if slugs.count(slug) > 1 else f"-{slug}" if slug else ""
        for slug, group in zip(slugs, hashes, strict=True)
    ]


def check_writable(output: Path) -> None:
    """Raises: OSError (its subclass that fits) when no file can be written into ``output``."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # without a name: whoever is killed leaves nothing
            sweep_abandoned(output)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write the report to {output}: {reason}; choose another folder") from error
