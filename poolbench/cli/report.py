"""Tables, plots and a page from records alone: folders of records, single ones, archives, in any mixture.

  poolbench report runs
  poolbench report runs --compare head
  poolbench report runs --format csv,latex,pdf --columns pool,seeds,accuracy,difference,verdict
  poolbench report runs --compare pool,trainer.epochs --baseline "max + epochs=5"
  poolbench report --published 2012_overlapping      what came with poolbench; with PATH, your own beside it

Pools are compared, or what --compare names; where there is one pool only and one other thing varies, that.

Times of pools stand in the tables where `poolbench bench nets ... --json speeds.json` timed their nets: a speeds.json
beside the records, or in the folder that holds them, is found, and others are named by --speeds.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from poolbench.cli.options import USUAL_PATHS, add_paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="NAME",
        help="the published records of an experiment, or all; in place of runs, or beside each PATH",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="(report/all; what compares no pools: report/by-WHAT)"
    )
    parser.add_argument(
        "--compare",
        metavar="WHAT",
        help="head, model, data, optimizer, schedule, an option as trainer.epochs, or two with a comma "
        "(pool; where there is one pool only, the one thing that varies)",
    )
    parser.add_argument(
        "--baseline",
        metavar="POOL",
        help="what others are compared with (native if all groups have it, else max, else native)",
    )
    named = "times of nets, as `bench nets --json FILE` writes them"
    parser.add_argument("--speeds", type=Path, action="append", default=[], metavar="FILE", help=named)
    parser.add_argument(
        "--format",
        type=_formats,
        metavar="LIST",
        help="what is written beside the figures: csv, md, html, latex, and pdf for figures as PDF too (csv,md,html)",
    )
    parser.add_argument(
        "--columns",
        type=_columns,
        default=(),
        metavar="LIST",
        help="of the tables in the terminal, in Markdown and in LaTeX, in this order, as pool,seeds,accuracy,verdict",
    )


def main(arguments: argparse.Namespace) -> int:
    from poolbench.claims.published import published_archives
    from poolbench.records.compared import POOL
    from poolbench.report import USUAL_FORMATS, Page, check_writable, make_report, write_made

    if arguments.output is not None:
        check_writable(arguments.output)
    own = [] if arguments.published and arguments.paths is USUAL_PATHS else arguments.paths
    paths = [*(path for name in arguments.published for path in published_archives(name)), *own]
    names = [*(f"published {name}" for name in arguments.published), *(path.as_posix() for path in own)]
    report = make_report(paths, arguments.baseline, arguments.speeds, arguments.compare)
    name = "all" if report.factor == POOL else f"by-{'-'.join(report.factor)}"
    output = arguments.output or Path("report") / name
    page = Page(f"Report of {', '.join(names)}")
    formats = arguments.format or USUAL_FORMATS
    report = replace(report, columns=arguments.columns)
    write_made(report, output, formats=formats, page=page).show()
    print(f"Tables and plots: {output}/" + (f", all in one page: {output / 'index.html'}" if "html" in formats else ""))
    return 0


def _columns(text: str) -> tuple[str, ...]:
    """The columns of ``pool,seeds``. Raises: ArgumentTypeError naming those that there are."""
    from poolbench.report.tables import parse_columns

    try:
        return parse_columns(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _formats(text: str) -> tuple[str, ...]:
    """The formats of ``csv,latex``. Raises: ArgumentTypeError naming those that there are."""
    from poolbench.registry import nearest
    from poolbench.report import FORMATS

    wanted = tuple(part.strip() for part in text.split(","))
    for one in wanted:
        if one not in FORMATS:
            hint = nearest(one, list(FORMATS))
            raise argparse.ArgumentTypeError(f"there is no format {one!r}.{hint} There are: {', '.join(FORMATS)}")
    return wanted
