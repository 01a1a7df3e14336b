"""Tables and plots from records alone: folders of records, single ones, archives, in any mixture."""

import argparse
from pathlib import Path

from poolbench.cli.options import add_paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument("--output", type=Path, default=Path("report/all"), metavar="DIR", help="(report/all)")
    parser.add_argument("--baseline", metavar="POOL", help="what differences are taken to (max)")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.report import write_report

    write_report(arguments.paths, arguments.output, baseline=arguments.baseline).show()
    print(f"Tables and plots: {arguments.output}/")
    return 0
