"""Bringing up to date what is published: tables and figures of ``results/``, and marked parts of README files."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from poolbench.claims.answer import answer
from poolbench.claims.claim import Judgement
from poolbench.claims.experiment import fill, history, make_experiment, write_judged
from poolbench.claims.looks import declared
from poolbench.claims.published import experiments_with_claims, published_speeds
from poolbench.claims.reading import read_claims
from poolbench.claims.verdicts import judge
from poolbench.claims.words import claim_rows
from poolbench.configuration import ConfigError
from poolbench.messages import counted
from poolbench.records.files import write_text
from poolbench.records.groups import data_set
from poolbench.records.identity import cell_hash
from poolbench.records.labels import label
from poolbench.records.read import ARCHIVE, Record, read_records
from poolbench.report import Page, make_report, write_report
from poolbench.report.page import write_page
from poolbench.report.probes import probe_table
from poolbench.report.samples import samples_table
from poolbench.report.tables import FIGURES
from poolbench.sweep.cells import Plan
from poolbench.sweep.plan import make_plan

_IN_FOLDERS = ("csv", "md")  # of each experiment: one page shows them all
PAGE_TITLE = "poolbench: which pooling, what it costs, and is the difference real?"


def refresh(root: Path) -> Iterator[str]:
    """Redraw everything from the committed records below ``root``; where nothing changed, nothing is written.

    Records are ``results/<name>/records.jsonl``, and times of their nets ``speeds.json`` beside them. One page shows
    all of them, ``results/index.html``. In ``README.md``,
    ``experiments/*/README.md`` and ``docs/*.md`` what stands between an opening comment and ``<!-- end -->`` is written
    anew. Opening comments are
    ``<!-- results: NAME -->``, ``<!-- claims: NAME -->``, ``<!-- numbers: NAME NUMBER ... -->`` (what probes read),
    ``<!-- samples: NAME -->`` (over the number of training images), ``<!-- history -->`` (headline claims of papers),
    ``<!-- answer -->`` (the same, short) and ``<!-- sentences -->`` (of experiments that reproduce no paper).

    Yields: a line for each thing that was looked at or changed, for people.
    Raises: ConfigError where a README names results that are not there, and what reports raise.
    """
    with contextlib.chdir(root):  # experiments are those of the working folder
        claimed = experiments_with_claims() if any(Path("experiments").glob("*/claim.yaml")) else {}
        judged: dict[str, list[Judgement]] = {}
        plans = {name: make_plan([f"sweep={name}"]) for name in claimed}
        claims = {
            name: read_claims(folder / "claim.yaml", plans[name].scale, plans[name].scales)
            for name, folder in claimed.items()
        }
        said = {
            name: declared(folder, plans[name].scale, (cell.config["seed"] for cell in plans[name].cells))
            for name, folder in claimed.items()
        }
        waiting: dict[str, str] = {}  # of experiments without a record
        few = {name: _how_many([], plan) for name, plan in plans.items()}
        parts: dict[str, str] = {}
        archives = sorted(Path("results").glob(f"*/{ARCHIVE}"))
        for archive in archives:
            name, folder = archive.parent.name, archive.parent
            speeds = published_speeds(folder)
            if name in claimed:
                records, _ = read_records(archive)
                title = figure_title(claimed[name], records)
                done = make_experiment(name, records, claims[name], speeds, title, said[name])
                done = write_judged(done, folder, formats=_IN_FOLDERS)
                judged[name], report, few[name] = done.judgements, done.report, _how_many(records, plans[name])
                parts[f"claims: {name}"] = f"{_so_far(name, few[name])}\n\n{_figure(name)}\n\n{done.markdown}"
            else:
                report = write_report(archive, folder, speeds=speeds, formats=_IN_FOLDERS)
            yield f"{folder}: {counted(len(report.files), 'file')}, {counted(len(report.drawn), 'figure')} drawn anew"
        if archives:
            told = [row for name, judgements in judged.items() for row in claim_rows(name, judgements)]
            yield f"{write_page(make_report(archives), 'results', Page(PAGE_TITLE, told))}: the page of all of them"
        for name in claimed:
            if name not in judged:
                judged[name] = judge(claims[name], [])
                count = counted(len(plans[name].cells), "cell")
                waiting[name] = f"No record is published yet: `poolbench reproduce {name}` trains {count}."
                parts[f"claims: {name}"] = waiting[name]
        if claimed:
            rows = {name: (name, _heading(folder), judged[name], few[name]) for name, folder in claimed.items()}
            # Experiments of a paper declare its own scale too.
            of_papers = [row for name, row in rows.items() if "paper" in plans[name].scales]
            parts["history"], parts["answer"] = history(of_papers), answer(of_papers)
            parts["sentences"] = history(row for name, row in rows.items() if "paper" not in plans[name].scales)
        pages = [*sorted(Path("experiments").glob("*/README.md")), *sorted(Path("docs").glob("*.md"))]
        for page in [Path("README.md"), *pages]:
            text = _text(page)
            new = fill(text, {**_from_there(parts, page), **_tables(text, page, waiting)})
            if new != text:
                write_text(page, new)
                yield f"{page}: brought up to date"


def _from_there(parts: dict[str, str], page: Path) -> dict[str, str]:
    """``parts`` with the links that they have for pages of experiments, or for README, as ``page`` must have them."""
    up = "../" * (len(page.parts) - 1)

    def led(part: str) -> str:
        part = part.replace("](../../results/", f"]({up}results/").replace("](experiments/", f"]({up}experiments/")
        return part.replace("]: experiments/", f"]: {up}experiments/")

    return {name: led(part) for name, part in parts.items()}


def _tables(text: str, page: Path, waiting: Mapping[str, str]) -> dict[str, str]:
    """The tables that ``text`` of ``page`` names, by what the opening comment says.

    Args:
        waiting: what is said in place of a table of an experiment without a record.
    """
    found: dict[str, str] = {}
    for whole, kind, name, numbers in re.findall(r"<!-- ((results|samples|numbers): (\S+)([^>]*?)) -->", text):
        if name in waiting:
            found[whole] = waiting[name]
        elif kind == "results":
            found[whole] = _table(name, page)
        elif kind == "samples":
            found[whole] = "\n".join(samples_table(_read(name, "samples.csv", page)))
        else:
            found[whole] = _numbers(name, numbers.split(), page)
    return found


def _how_many(records: Iterable[Record], plan: Plan) -> str:
    """How many of the cells that the experiment declares are published; empty when all are."""
    there = {cell_hash(record.run_id) for record in records}
    done = sum(cell_hash(cell.run_id) in there for cell in plan.cells)
    return "" if done == len(plan.cells) else f"{done} of {len(plan.cells)} cells so far"


def _so_far(name: str, few: str) -> str:
    """How much of the experiment is published, and where it lies."""
    count = f"**{few}**, so verdicts are interim" if few else "All cells"
    place = f"../../results/{name}"
    return f"{count}: [records, tables and figures]({place}), [what each arm cost]({place}/summary.md)."


def figure_title(folder: Path, records: Iterable[Record]) -> str:
    """The first heading of the README of the experiment in ``folder``, and what ``records`` are of."""
    configs = [record.config for record in records]
    nets = sorted({label(config, "model").partition("(")[0].strip() for config in configs})
    data = sorted({data_set(label(config, "data")) for config in configs})
    return f"{_heading(folder)}\n{', '.join(data)}: {', '.join(nets)}"


def _figure(name: str) -> str:
    heading = _heading(Path("experiments") / name)
    return f"![{heading}: both arms of each claim, the gain and the verdict](../../results/{name}/claims.png)"


def _heading(folder: Path) -> str:
    page = folder / "README.md"
    match = re.search(r"^# +(.+?)\s*$", _text(page), flags=re.M) if page.is_file() else None
    return match[1] if match else folder.name


def _table(name: str, page: Path) -> str:
    path = Path("results") / name / "summary.md"
    if not path.exists():
        raise ConfigError(f"{path} is named in {page} and is not there")
    lines = _text(path).partition(f"{FIGURES}\n")[0].strip().splitlines()  # its figures lie elsewhere
    # The page has headings of its own.
    kept = [f"**{line[3:]}**" if line.startswith("## ") else line for line in lines if not line.startswith("# ")]
    return "\n".join(kept).strip() + "\n"


def _read(name: str, file: str, page: Path) -> pd.DataFrame:
    """A table of the results that ``page`` names."""
    path = Path("results") / name / file
    if not path.exists():
        raise ConfigError(f"{path} is named in {page} and is not there")
    return pd.read_csv(path)


def _numbers(name: str, numbers: list[str], page: Path) -> str:
    path, probes = Path("results") / name / "probes.csv", _read(name, "probes.csv", page)
    if (groups := probes["group"].nunique()) > 1:
        raise ConfigError(f"{path} is named in {page} and has {groups} settings: a table can show one")
    try:
        return "\n".join(probe_table(probes, numbers))
    except ValueError as error:
        raise ConfigError(f"{path}, named in {page}: {error}") from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
