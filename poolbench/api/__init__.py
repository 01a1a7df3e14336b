"""poolbench in a notebook or a script: the commands as functions, with the words of the command line.

    from poolbench import api

    api.plan(pool=["max", "average"], seeds=3, data="shapes")
    swept = api.sweep(pool=["max", "average"], seeds=3, data="shapes")
    swept.figures["accuracy"]

Options are those of the command line, in any mixture of three ways: texts (``"pool=max,average"``), keywords
(``pool=["max", "average"]``), and dicts for names with a dot (``{"trainer.epochs": 3}``). A list is several values, a
cell for each; a tuple is one value that is a list, as ``{"trainer.sizes": (16, 32)}``. Nothing is printed, and nothing
ends the program: what is wrong is a ValueError with the words of the command line, and cells that are not done are
``NotDone``.

Cells are trained by processes of their own, so a pool or net of your own must lie in a file that can be imported.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from poolbench.api.notebook import screen_for
from poolbench.api.results import NotDone, Planned, Raced, Reported, Reproduced, Swept
from poolbench.api.words import Word, as_paths, as_texts, as_words
from poolbench.cli.options import take_in_working_folder

__all__ = ["NotDone", "plan", "race", "records", "report", "reproduce", "sweep"]

Place = str | PathLike[str]
Places = Place | Iterable[Place]
Say = Callable[[str], None]


def plan(*words: Word, config_dir: Places = (), trust: str | Iterable[str] = (), **options: Any) -> Planned:
    """The cells of a sweep, how far each is and what the rest should cost, without training: ``poolbench plan``.

    Args:
        words, options: of a config, as :mod:`poolbench.api` says; ``sweep="demo"`` is a sweep of a file.
        config_dir: folders of configs of your own.
        trust: packages whose code an experiment may name.
    Returns: ``frame``, a row for each cell (seconds, and training FLOPs, of those that are not done; None where nothing
        like it was trained); ``left``, what all of it should cost; ``text``.
    Raises: ValueError for anything wrong with an option; DataError when the data is missing.
    """
    from poolbench.cli.plan import look_ahead

    take_in_working_folder()
    return Planned.of(look_ahead(as_words(words, options), as_paths(config_dir), as_texts(trust)))


def sweep(
    *words: Word,
    baseline: str | None = None,
    config_dir: Places = (),
    trust: str | Iterable[str] = (),
    progress: Say | None = None,
    **options: Any,
) -> Swept:
    """Train all cells of a sweep, several at once: ``poolbench sweep``. Interrupted, the same call goes on.

    Args:
        words, options, config_dir, trust: as for :func:`plan`.
        baseline: the pool that others are compared with; ``native`` if all groups have it, else ``max``.
        progress: called with a line at a time, as ``print``; without it a notebook shows a table that changes in place.
    Returns: ``tables``, ``figures``, ``text`` and ``latex`` as of :func:`report`; ``records``, a row for each cell;
        ``folder`` and ``folders`` that the records are in.
    Raises: ValueError, DataError before any training; NotDone when cells failed or are left, after all others had their
        turn; OSError when records cannot be written.
    """
    from poolbench.cli.cells import train, what_is_left
    from poolbench.cli.sweep import asked, finished
    from poolbench.report import make_report

    take_in_working_folder()
    folders = as_paths(config_dir)
    planned, launcher = asked(as_words(words, options), folders, as_texts(trust), baseline)
    failed = train(planned, launcher, screen=screen_for(progress))
    done = finished(planned)
    result = Swept(make_report(done, baseline), done) if done else None
    unfinished, lines = what_is_left(planned, failed, folders)
    if unfinished or result is None:
        raise NotDone(lines, result)
    return result


def report(
    *paths: Place,
    baseline: str | None = None,
    speeds: Places = (),
    compare: str | None = None,
    output: Place | None = None,
) -> Reported:
    """Tables and figures from records alone: ``poolbench report``. Nothing is written unless ``output`` says where.

    Args:
        paths: folders of records, single ones, archives; the folder ``runs`` without any.
        baseline: as for :func:`sweep`.
        speeds: times of nets, files that ``poolbench bench nets --json FILE`` writes.
        compare: ``"head"``, ``"trainer.epochs"``, ``"pool,head"`` ...; pools without, or what alone varies.
        output: a folder for the tables, the plots and the page.
    Returns: ``tables``, name -> DataFrame; ``figures``, name -> figure of matplotlib; ``text``; ``latex``; ``files``.
    Raises: ValueError when there is no record, none of the ``baseline``, or no such file among ``speeds``; OSError when
        ``output`` cannot be written to, before any work.
    """
    from poolbench.report import Page, check_writable, make_report, write_made

    if output is not None:
        check_writable(Path(output))
    source = as_paths(paths or "runs")
    made = make_report(source, baseline, as_paths(speeds), compare)
    page = Page(f"Report of {', '.join(path.as_posix() for path in source)}")
    return Reported(made if output is None else write_made(made, output, page=page))


def reproduce(
    name: str,
    *words: Word,
    plan: bool = False,
    underpowered: bool = False,
    config_dir: Places = (),
    trust: str | Iterable[str] = (),
    progress: Say | None = None,
    **options: Any,
) -> Reproduced | Planned:
    """Run a comparison of the history, or ``"all"`` of them, and judge the papers' claims: ``poolbench reproduce``.

    What is published under results/ is not trained again.

    Args:
        name: a folder of experiments/ that has a claim.yaml, or ``"all"``.
        plan: tell cells and cost, and train nothing.
        underpowered: train although a headline claim has less than 50 % to be decided.
        words, options, config_dir, trust, progress: as for :func:`sweep`.
    Returns: ``verdicts``, a row for each claim; ``reports``, name -> tables and figures; ``text``. Nothing is written
        but the records. With ``plan``: ``text``.
    Raises: ValueError before any training, also for claims that cannot be judged; NotDone when cells are not done.
    """
    from poolbench.cli.cells import what_is_left
    from poolbench.cli.reproduce import designs, judged, planned, train_missing

    take_in_working_folder()
    asked, folders = as_words(words, options), as_paths(config_dir)
    launcher, chosen = designs(name, asked, folders, as_texts(trust), underpowered=plan or underpowered)
    if plan:
        return Planned("\n".join([*(line for design in chosen for line in planned(design)), ""]))
    found, lines = {}, []
    for design in chosen:
        came = train_missing(design, launcher, screen_for(progress))
        _warn([*design.problems, *came.problems])
        if came.records:
            found[design.plan.name] = judged(design, came.records)
        lines += what_is_left(came.mine, came.failed, folders)[1]
    result = Reproduced(found)
    if lines:
        raise NotDone(lines, result)
    return result


def race(
    *words: Word,
    plan: bool = False,
    config_dir: Places = (),
    trust: str | Iterable[str] = (),
    progress: Say | None = None,
    **options: Any,
) -> Raced | Planned:
    """Find the best of many arms with few cells: ``poolbench race``. Interrupted, the same call goes on.

    Args:
        plan: tell arms, looks, cells and cost, and train nothing.
        words, options, config_dir, trust, progress: as for :func:`sweep`; ``pool="all"``, ``hours=4`` and
            ``{"race.looks": (3, 5, 8)}`` besides.
    Returns: ``standings``, a row for each arm; ``left``, the arms that are; ``facts``; ``figures``. With ``plan``:
        ``text``.
    Raises: ValueError before any training; NotDone when the race is not over, or every arm failed.
    """
    from poolbench.cli.race import ahead_lines, nobody_left, plan_lines, run, standings, unfinished_words
    from poolbench.racing.declared import make_race
    from poolbench.racing.run import Unfinished
    from poolbench.report.drawings import Drawing
    from poolbench.report.race import race_figure
    from poolbench.sweep.launch import launcher_options

    take_in_working_folder()
    launcher, rest = launcher_options(as_words(words, options))
    declared = make_race(rest, as_paths(config_dir), as_texts(trust))
    if plan:
        return Planned("\n".join([*plan_lines(declared), *ahead_lines(declared), ""]))
    screen = screen_for(progress)
    for line in plan_lines(declared):
        screen.line(line)
    try:
        outcome = run(declared, launcher, screen)
    except Unfinished as reason:
        raise NotDone([unfinished_words(declared, reason)]) from reason
    if not outcome.left:
        raise NotDone(nobody_left(outcome))
    end = standings(declared, outcome)
    return Raced(end.rows, end.facts, Drawing("race", end.title, b"", partial(race_figure, end.rows, end.looks)))


def records(*paths: Place) -> pd.DataFrame:
    """One tidy table, a row for each cell: ``poolbench collect`` without its files.

    Args:
        paths: folders of records, single ones, archives ``records.jsonl``; the folder ``runs`` without any.
    Returns: as :func:`poolbench.records.collect.collect`. What cannot be read is left out with a warning.
    """
    from poolbench.records.collect import collect
    from poolbench.records.read import read_records

    found, problems = read_records(as_paths(paths or "runs"))
    _warn(problems)
    return collect(found)


def _warn(problems: Sequence[Any]) -> None:
    from poolbench.records.read import told

    for problem in told(problems):
        warnings.warn(f"left out: {problem}", stacklevel=3)
