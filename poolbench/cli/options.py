"""Arguments that several commands share."""

import argparse
from pathlib import Path


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Options of a config, ``pool=max trainer.epochs=3``, and further folders of configs."""
    parser.add_argument("overrides", nargs="*", metavar="option=value", help="as pool=max trainer.epochs=3")
    parser.add_argument(
        "--config-dir", action="append", type=Path, default=[], metavar="DIR", help="a folder of configs of your own"
    )


def add_paths(parser: argparse.ArgumentParser) -> None:
    """Places with records."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        default=[Path("runs")],
        metavar="PATH",
        help="folders of records, single records, or archives records.jsonl (default: runs)",
    )
