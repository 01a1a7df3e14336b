"""One figure of those that a report has, of records, with a choice of what it shows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from poolbench.records.collect import collect, collect_metrics
from poolbench.records.groups import alike_but_samples
from poolbench.records.read import Problem, Record
from poolbench.records.speeds import find_speeds
from poolbench.records.tuning import reads_test, views
from poolbench.registry import nearest
from poolbench.report import group_drawings, read_all, samples_drawings
from poolbench.report.drawings import Drawing
from poolbench.report.samples import over_samples
from poolbench.report.speeds import with_times
from poolbench.report.summary import by, check_baseline, plain, summarise, usual_baselines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolbench.report.canvas import Size

# What is drawn -> what it needs, said where records do not have it.
KINDS = {
    "accuracy": "a finished cell",
    "curves": "a finished cell with the numbers of an epoch",
    "cost": "a finished cell whose FLOPs are counted",
    "invariance": "cells whose probes moved, turned or resized the test images (probe=invariance, `poolbench probe`)",
    "robustness": "cells with a probe of corruptions, shifts or calibration (probe=all, `poolbench probe`)",
    "sites": "cells with the probe site_shifts (probe=all, `poolbench probe`)",
    "information": "cells with the probe information (probe=all, `poolbench probe`)",
    "gap": "settings that differ in the number of training images alone (data.train_samples)",
}


@dataclass(frozen=True)
class Choice:
    """What a figure shows of the records.

    Args:
        group: parts of a setting, as ``resnet, 10 epochs``, or its hash; None where there is one.
        pools: labels of those that are shown; the baseline is always shown. Empty: all.
        baseline: label of the pool that the others are compared with; None as in a report.
        speeds: files with times of nets.
    """

    group: str | None = None
    pools: tuple[str, ...] = ()
    baseline: str | None = None
    speeds: tuple[Path, ...] = ()


def one_figure(
    kind: str,
    source: Sequence[str | Path | Record],
    choice: Choice | None = None,
    title: str | None = None,
    size: "Size | None" = None,
) -> tuple["Figure", list[Problem]]:
    """The figure ``kind``, one of ``KINDS``, of the records in ``source``, as a report has it.

    Args:
        source: records, folders, run directories and archives in any mixture.
        title: in place of the figure's own.
        size: width and height in inches, None for what the figure needs.
    Returns: the figure, and what could not be read.
    Raises: ValueError when there is no record, when ``choice`` names what is not there or fits several settings, and
        when these records have nothing to draw.
    """
    choice = choice or Choice()
    records, problems = read_all(list(source))
    reported = views(record for record in records if reads_test(record))
    if not reported:
        raise ValueError(f"nothing to draw as {kind!r}: no record has read the test set")
    cells = collect(reported)
    drawings = _gap(cells, reported, choice) if kind == "gap" else _of_group(cells, records, reported, choice)
    found = next((drawing for drawing in drawings if drawing.name == kind), None)
    figure = found.draw(title or found.title, size=size) if found else None
    if figure is None:
        raise ValueError(f"nothing to draw as {kind!r} in these records: it takes {KINDS[kind]}")
    return figure, problems


def _of_group(
    cells: pd.DataFrame, records: Sequence[Record], reported: Sequence[Record], choice: Choice
) -> list[Drawing]:
    """All figures of the group that ``choice`` names."""
    group = _group(cells, choice.group)
    cells = cells[cells["group"] == group]
    if choice.baseline is not None:
        check_baseline(cells["pool"], choice.baseline)
    baseline = choice.baseline or usual_baselines([set(cells["pool"])])
    timed, _ = find_speeds(choice.speeds, (record.path.parent for record in records))
    rows, _ = with_times(summarise(cells, baseline), by(plain(cells), "group"), records, timed)
    rows = rows[_wanted(rows, choice.pools)]
    cells = cells[cells["pool"].isin(rows["pool"])]
    return group_drawings(cells, collect_metrics(reported), [rows])


def _gap(cells: pd.DataFrame, reported: Sequence[Record], choice: Choice) -> list[Drawing]:
    """The figure of settings that differ in the number of training images."""
    if choice.group is not None:
        raise ValueError("option '--group': 'gap' is drawn over several settings at once, so that none can be chosen")
    if choice.baseline is not None:
        raise ValueError("option '--baseline': 'gap' compares with none; it takes --pools")
    cells = cells[_wanted(cells, choice.pools)]
    over = over_samples(cells, alike_but_samples(record.config for record in reported))
    return samples_drawings(over)


def _group(cells: pd.DataFrame, text: str | None) -> str:
    """The hash of the group that ``text`` names: by itself, by whole parts of its setting, else by pieces of it."""
    settings = dict(zip(cells["group"], cells["setting"], strict=True))
    listed = "".join(f"\n  {group}  {setting}" for group, setting in sorted(settings.items(), key=lambda one: one[1]))
    if text is None:
        if len(settings) > 1:
            raise ValueError(
                f"option '--group': these records have {len(settings)} settings; name one by parts of it, or by its "
                f"hash:{listed}"
            )
        return next(iter(settings))
    wanted = [part for part in _parts(text) if part]
    whole = [group for group, setting in settings.items() if set(wanted) <= {group, *_parts(setting)}]
    pieces = [group for group, setting in settings.items() if all(part in f"{setting} {group}" for part in wanted)]
    fits = (whole or pieces) if wanted else []
    if len(fits) != 1:
        fit = f"fits {len(fits)} of the settings" if fits else "fits none of the settings"
        raise ValueError(f"option '--group': must name one setting, got {text!r}, which {fit}:{listed}")
    return fits[0]


def _parts(setting: str) -> list[str]:
    """What stands between commas, those in brackets apart."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", setting)]


def _wanted(rows: pd.DataFrame, pools: Sequence[str]) -> pd.Series:
    """Which of ``rows`` are of ``pools`` or of the baseline. Raises: ValueError for a pool that is not there."""
    known = sorted(set(rows["pool"]))
    for pool in pools:
        if pool not in known:
            raise ValueError(
                f"option '--pools': there is no pool {pool!r} here.{nearest(pool, known)} There are: {', '.join(known)}"
            )
    chosen = rows["pool"].isin(pools) if pools else rows["pool"].notna()
    return chosen | rows["baseline"] if "baseline" in rows else chosen
