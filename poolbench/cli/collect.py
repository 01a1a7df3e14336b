"""Gather records into an archive, records.jsonl, one line a cell, and a tidy table, cells.csv."""

import argparse
import sys
from pathlib import Path

from poolbench.cli.options import add_paths
from poolbench.messages import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where both files go")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.collect import collect, write_archive, write_csv
    from poolbench.records.read import read_records, told

    records, problems = read_records(arguments.paths)
    for problem in told(problems):
        print(f"poolbench: left out: {problem}", file=sys.stderr)
    write_archive(records, arguments.output / "records.jsonl")
    write_csv(collect(records), arguments.output / "cells.csv")
    print(f"{counted(len(records), 'cell')}: {arguments.output / 'records.jsonl'}, {arguments.output / 'cells.csv'}")
    return 1 if problems else 0
