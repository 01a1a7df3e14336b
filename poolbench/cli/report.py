"""Tables and plots from records alone: folders of records, single ones, archives, in any mixture.

Times of pools stand in the tables where `poolbench bench nets ... --json speeds.json` timed their nets: a speeds.json
beside the records, or in the folder that holds them, is found, and others are named by --speeds.
"""

import argparse
from pathlib import Path

from poolbench.cli.options import add_paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument("--output", type=Path, default=Path("report/all"), metavar="DIR", help="(report/all)")
    parser.add_argument(
        "--baseline",
        metavar="POOL",
        help="what others are compared with (native if all groups have it, else max, else native)",
    )
    named = "times of nets, as `bench nets --json FILE` writes them"
    parser.add_argument("--speeds", type=Path, action="append", default=[], metavar="FILE", help=named)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.report import write_report

    write_report(arguments.paths, arguments.output, baseline=arguments.baseline, speeds=arguments.speeds).show()
    print(f"Tables and plots: {arguments.output}/")
    return 0
