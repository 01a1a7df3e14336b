"""Arguments that several commands share."""

import argparse
import os
import sys
from pathlib import Path

USUAL_PATHS = [Path("runs")]  # it is this very list where the user names none


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Options of a config, ``pool=max trainer.epochs=3``, and further folders of configs."""
    parser.add_argument("overrides", nargs="*", metavar="option=value", help="as pool=max trainer.epochs=3")
    add_config_dir(parser)
    add_trust(parser, "an experiment")


def add_trust(parser: argparse.ArgumentParser, who: str) -> None:
    """Packages whose code ``who`` may name, as somebody else may have written it."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help=f"code that {who} may name as well"
    )


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Further folders of configs."""
    parser.add_argument(
        "--config-dir", action="append", type=Path, default=[], metavar="DIR", help="a folder of configs of your own"
    )


def add_paths(
    parser: argparse.ArgumentParser, what: str = "folders of records, single records, or archives records.jsonl"
) -> None:
    """Places with records."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        default=USUAL_PATHS,
        metavar="PATH",
        help=f"{what} (default: runs)",
    )


def take_in_working_folder() -> None:
    """Let components of the user's own be found that lie beside the work, where a script does not look.

    Last, and only where something is built: a yaml.py in a folder of somebody's records must not be run by looking at
    them.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
