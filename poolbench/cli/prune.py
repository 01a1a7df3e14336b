"""Remove the checkpoints of finished cells, which nothing but `poolbench.load` needs. Without `--yes` nothing is
removed: it says what would be, and how much space that frees.

Records stay, and with them every table and plot; a finished cell is still not trained again. But `poolbench.load` and
whatever else uses the trained model no longer works for those cells. Cells that are not finished, or that a process
owns, are left alone, as is every file that no cell wrote; links are not followed.
"""

import argparse
import sys

from poolbench.cli.options import add_paths
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser, "folders of records, or single records")
    parser.add_argument("--yes", action="store_true", help="do remove it")
    parser.add_argument("--damaged", action="store_true", help="also records that were set aside as unreadable")
    parser.add_argument("--logs", action="store_true", help="also the log.txt of finished cells")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.files import os_reason
    from poolbench.records.prune import DAMAGED, removable, remove

    found, kept = removable(arguments.paths, arguments.damaged, arguments.logs)
    for path, reason in kept:
        print(f"stays: {printable(path)}: {printable(reason)}")
    freed, gone, code = 0, 0, 0
    for what in found:
        path = what.folder if what.kind == DAMAGED else what.folder / what.names[0]
        size: int | None = what.size
        if arguments.yes:
            try:
                size = remove(what)
            except OSError as error:
                print(f"poolbench: {printable(path)} stays: {printable(os_reason(error))}", file=sys.stderr)
                code = 1
                continue
        if size is None:
            print(f"stays: {printable(path)}: somebody began to work on it just now")
            continue
        print(f"{'removed' if arguments.yes else 'would remove'}: {printable(path)} ({_bytes(size)})")
        freed += size
        gone += 1
    if not found:
        print("There is nothing to remove.")
    elif arguments.yes:
        print(f"{gone} removed, {_bytes(freed)} freed.")
    else:
        print(
            f"{len(found)} to remove, which frees {_bytes(freed)}; nothing was removed. With --yes it is, and\n"
            "poolbench.load no longer works for cells without a checkpoint; folders that were\n"
            "set aside go with all that they hold."
        )
    return code


def _bytes(size: int) -> str:
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"
