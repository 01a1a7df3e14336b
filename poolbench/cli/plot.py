"""One figure of records: `poolbench plot curves runs --pools max,lp --output curves.pdf`.

KIND is one of the figures that `poolbench report` draws, or claims, an experiment's claims judged on these records
(--experiment). The ending of FILE decides what is written: .png, .svg or .pdf, the same bytes for the same records.
"""

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from poolbench.cli.options import add_paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolbench.records.read import Problem

# Those of poolbench.report.one_figure, and of experiments.
KINDS = ("accuracy", "curves", "cost", "claims", "invariance", "robustness", "sites", "information", "gap")
ENDINGS = (".png", ".svg", ".pdf")
_INCHES = {"width": (4, 40), "height": (2, 60)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    add_paths(parser)
    parser.add_argument("--group", metavar="TEXT", help="one setting of several, by parts of it or its hash")
    parser.add_argument("--pools", metavar="A,B,...", help="only these, and the baseline (default: all)")
    parser.add_argument(
        "--baseline", metavar="POOL", help="what others are compared with (native if it is there, else max)"
    )
    named = "times of nets, as `bench nets --json FILE` writes them"
    parser.add_argument("--speeds", type=Path, action="append", default=[], metavar="FILE", help=named)
    parser.add_argument("--experiment", metavar="NAME", help="whose claims are drawn, for claims")
    parser.add_argument("--output", type=Path, metavar="FILE", help="ends in .png, .svg or .pdf (default: KIND.png)")
    for side, (low, high) in _INCHES.items():
        what = f"in inches, {low} to {high} (default: what the figure needs)"
        parser.add_argument(f"--{side}", metavar="INCHES", help=what)
    parser.add_argument("--title", metavar="TEXT", help="in place of the figure's own")


def main(arguments: argparse.Namespace) -> int:
    output = arguments.output or Path(f"{arguments.kind}.png")
    if output.suffix.lower() not in ENDINGS or output.is_dir():
        raise ValueError(f"option '--output': must be a file that ends in .png, .svg or .pdf, got {str(output)!r}")
    size = (_inches("width", arguments.width), _inches("height", arguments.height))
    figure, problems = _claims(arguments, size) if arguments.kind == "claims" else _of_report(arguments, size)
    from poolbench.records.read import told
    from poolbench.report.plots import write

    for problem in told(problems):
        print(f"Not read: {problem}", file=sys.stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    write(figure, output)
    print(output)
    return 0


def _of_report(
    arguments: argparse.Namespace, size: tuple[float | None, float | None]
) -> tuple["Figure", list["Problem"]]:
    """A figure of those that a report has."""
    if arguments.experiment is not None:
        raise ValueError(f"option '--experiment': only for the kind 'claims', got the kind {arguments.kind!r}")
    from poolbench.report.one_figure import Choice, one_figure

    pools = re.split(r",(?![^(\[]*[)\]])", arguments.pools) if arguments.pools is not None else []
    names = tuple(name.strip() for name in pools)
    choice = Choice(arguments.group, names, arguments.baseline, tuple(arguments.speeds))
    return one_figure(arguments.kind, arguments.paths, choice, arguments.title, size)


def _claims(arguments: argparse.Namespace, size: tuple[float | None, float | None]) -> tuple["Figure", list["Problem"]]:
    """The claims of an experiment on these records."""
    for option in ("group", "pools", "baseline", "speeds", "width", "height"):
        if getattr(arguments, option):
            why = "its claims say what is compared" if option not in _INCHES else "its rows decide its size"
            raise ValueError(f"option '--{option}': not for the kind 'claims', {why}; got {getattr(arguments, option)}")
    if arguments.experiment is None:
        raise ValueError("option '--experiment': must name whose claims to draw, as --experiment 2012_overlapping")
    from poolbench.claims.experiment import judge_and_draw
    from poolbench.claims.looks import declared
    from poolbench.claims.published import experiments_with_claims
    from poolbench.claims.reading import read_claims
    from poolbench.cli.published import figure_title
    from poolbench.report import read_all
    from poolbench.sweep.plan import make_plan

    name = arguments.experiment
    folders = experiments_with_claims(name)
    if name not in folders:
        raise ValueError(
            f"option '--experiment': must name one experiment, got {name!r}; there are {', '.join(folders)}"
        )
    folder, plan = folders[name], make_plan([f"sweep={name}"])
    claims = read_claims(folder / "claim.yaml", plan.scale, plan.scales)
    records, problems = read_all(arguments.paths)
    said = declared(folder, plan.scale, (cell.config["seed"] for cell in plan.cells))
    title = arguments.title or figure_title(folder, records)
    _, drawing = judge_and_draw(name, records, claims, title, said)
    figure = drawing.draw(drawing.title)
    if figure is None:
        raise ValueError(f"nothing to draw as 'claims' in these records: none are of the arms of {name}")
    return figure, problems


def _inches(side: str, text: str | None) -> float | None:
    if text is None:
        return None
    low, high = _INCHES[side]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"option '--{side}': must be a number of inches from {low} to {high}, got {text!r}")
    return value
