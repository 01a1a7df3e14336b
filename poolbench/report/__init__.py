"""The report: from records to tables, verdicts and figures in one folder. It reads records and never models."""

import io
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.records.collect import collect, collect_metrics, write_archive, write_csv
from poolbench.records.files import sweep_abandoned, write_text
from poolbench.records.groups import alike_but_samples
from poolbench.records.read import Problem, Record, read_records, told
from poolbench.records.speeds import find_speeds
from poolbench.records.tuning import reads_test, views
from poolbench.report import plots, probe_plots
from poolbench.report.drawings import MEMORY, Drawing, bring_up_to_date
from poolbench.report.images import by_class, image_notes
from poolbench.report.notes import RULE, notes, spans
from poolbench.report.over_nets import over_all_nets
from poolbench.report.probes import by_probe, probe_sections
from poolbench.report.samples import by_samples, in_order, over_samples, samples_section
from poolbench.report.speeds import with_times
from poolbench.report.summary import by, check_baseline, finished, plain, summarise, usual_baselines
from poolbench.report.tables import latex, markdown, print_summary
from poolbench.report.tuned import left_out, tuned_notes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Report", "write_report"]

# A change in these changes the figures.
_PIPED_WIDTH = 120
_PROBED = (
    ("invariance", "Accuracy and features under transforms with", probe_plots.invariance_figure),
    ("robustness", "Corruptions, shifts and calibration with", probe_plots.robustness_figure),
    ("sites", "How much of a shift's effect each site takes away with", probe_plots.sites_figure),
    ("information", "What each site keeps with", probe_plots.information_figure),
)


@dataclass(frozen=True)
class Report:
    """What was found in the records and written from them.

    Args:
        output: the folder written to.
        cells: the tidy table, a row per cell; summary: a row per group and pool.
        over: rows over all nets, where three or more compare a pool with the baseline; else empty.
        groups: each group's rows of the summary and the notes that belong under its table.
        problems: what could not be read.
        files: everything the report consists of, in the order of writing; figures that were up to date are among them.
        drawn: those of the files that are figures and were drawn anew.
        trials: cells that are in no table, since they did not read the test set, as those of a search.
    """

    output: Path
    cells: pd.DataFrame
    summary: pd.DataFrame
    over: pd.DataFrame
    groups: list[tuple[pd.DataFrame, list[str]]]
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)
    trials: int = 0

    @property
    def text(self) -> str:
        """The summary as plain text, at most 120 columns wide."""
        from rich.console import Console

        buffer = io.StringIO()
        self.show(Console(file=buffer, width=_PIPED_WIDTH, color_system=None, force_terminal=False))
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"

    def show(self, console: "Console | None" = None) -> None:
        """Print the summary, by default to the standard output: as wide as the terminal, plain when piped."""
        from rich.console import Console
        from rich.text import Text

        if console is None:
            console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH)
        print_summary(self.groups, RULE, console, self.over)
        if self.trials:
            console.print(Text(left_out(self.trials)))
        for problem in told(self.problems):
            console.print(Text(f"Not read: {problem}"), soft_wrap=True)


def write_report(
    source: str | Path | Iterable[str | Path | Record],
    output: str | Path,
    baseline: str | None = None,
    archive: bool = False,
    with_latex: bool = False,
    drawings: Sequence[Drawing] = (),
    speeds: Sequence[str | Path] = (),
) -> Report:
    """Write tables and figures about ``source`` into the folder ``output``.

    Writes ``cells.csv``, ``summary.csv`` and ``summary.md``; ``nets.csv`` where three nets or more compare a pool with
    the baseline; ``classes.csv`` where records hold which test images were right; ``probes.csv`` of probes;
    ``samples.csv`` where groups differ in nothing but how many training images and epochs they have. Figures, as PNG
    and SVG: for each group of comparable cells ``accuracy``, ``curves`` and ``cost``, and of probes ``invariance``,
    ``robustness``, ``sites`` and ``information``, with a suffix when there are several groups; ``gap`` beside
    ``samples.csv``, in place of figures for each of these groups. A pool alone in one of several groups has nothing to
    be compared with and gets none. A figure is drawn only when its data or the code that draws it changed since the
    last report here (``report.json`` remembers), and the figures of groups that are gone are removed.

    Cells with tuned values (``optimizer=tuned``) have groups of their own, in which each pool stands at its own best
    recipe, beside those at the same recipe. A cell that belongs to both has a row in both.

    Args:
        source: records, or any mixture of folders, run directories and archives.
        baseline: the label of the pool that the others are compared with; None: ``native`` where each group has it,
            else ``max``, and ``native`` in a group without that.
        archive: also write the records themselves, as ``records.jsonl``.
        with_latex: also write ``summary.tex``.
        drawings: further figures.
        speeds: files that `poolbench bench nets --json` wrote, for the ratios of time; a ``speeds.json`` in the folder
            that holds records or their archive is read without being named.
    Raises: OSError, before any work, when ``output`` cannot be written to; ValueError when there is no record at all,
        none of the ``baseline`` that is given, or no such file among ``speeds``.
    """
    output = Path(output)
    _check_writable(output)
    records, problems = _records([source] if isinstance(source, str | Path) else list(source))
    timed, no_speeds = find_speeds(speeds, (record.path.parent for record in records))

    reported = views(record for record in records if reads_test(record))
    trials = sum(not reads_test(record) for record in records)
    cells = collect(reported)
    if baseline is not None:
        check_baseline(cells["pool"], baseline)
    control = baseline or usual_baselines(set(own) for _, own in cells.groupby("group")["pool"])
    members = by(plain(cells), "group")
    summary, times = with_times(summarise(cells, control), members, records, timed)
    tuned = tuned_notes(reported)
    said = by(plain(summary), "group")
    outcomes = {record.run_id: record.outcomes for record in reported if record.outcomes}
    groups = []
    for group, rows in summary.groupby("group", sort=False):
        about = [*notes(members[group], said[group], control), *times.get(str(group), [])]
        groups.append((rows, [*tuned.get(str(group), []), *about, *image_notes(members[group], outcomes, control)]))
    over = over_all_nets(summary)
    files = [output / name for name in ("cells.csv", "summary.csv", "summary.md")]
    write_csv(cells, files[0])
    write_csv(summary, files[1])
    probes = by_probe(cells, control)
    over_sizes = over_samples(cells, alike_but_samples(record.config for record in reported))
    sizes = by_samples(over_sizes)
    more = samples_section(sizes) + probe_sections(probes) + (f"\n{left_out(trials)}\n" if trials else "")
    write_text(files[2], markdown(groups, RULE, len(problems), over) + more)
    classes = by_class(cells, reported, control)
    files += _where_any(output, {"nets.csv": over, "classes.csv": classes, "probes.csv": probes, "samples.csv": sizes})
    if with_latex:
        files.append(output / "summary.tex")
        write_text(files[-1], latex(groups))
    if archive:
        files.append(output / "records.jsonl")
        write_archive(records, files[-1])
    shown = set(cells.loc[cells["run_id"].isin(over_sizes["run_id"]), "group"])  # by one figure for all of them
    others = [rows for rows, _ in groups if rows["group"].iloc[0] not in shown]
    own = _drawings(cells, collect_metrics(reported), others)
    own += _of_samples(over_sizes)
    figures, drawn = bring_up_to_date(output, [*drawings, *own])
    files += [*figures, output / MEMORY]
    return Report(output, cells, summary, over, groups, [*problems, *no_speeds], files, drawn, trials)


def _records(source: Sequence[str | Path | Record]) -> tuple[list[Record], list[Problem]]:
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


def _drawings(cells: pd.DataFrame, curves: pd.DataFrame, groups: list[pd.DataFrame]) -> list[Drawing]:
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
        many = "1 pool" if len(rows) == 1 else f"{len(rows)} pools"
        about = (
            f"{rows['setting'].iloc[0]}, {'seeds' if own['seed'].nunique() > 1 else 'seed'} {spans(set(own['seed']))}"
        )
        for name, heading, draw, data in (
            ("accuracy", f"Test accuracy of {many}", plots.accuracy_figure, (rows[plots.ACCURACY], own[plots.SEEDS])),
            (
                "curves",
                f"Learning curves of {many}",
                plots.curves_figure,
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


def _of_samples(over: pd.DataFrame) -> list[Drawing]:
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


def _check_writable(output: Path) -> None:
    """Raises: OSError (its subclass that fits) when no file can be written into ``output``."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # without a name: whoever is killed leaves nothing
            sweep_abandoned(output)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write the report to {output}: {reason}; choose another folder") from error
