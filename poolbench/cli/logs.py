"""What a cell printed (log.txt, written by sweeps) and why it failed (error.txt).

RUN is a record's folder, its run_id, or a unique beginning or end of that. What would do something in a terminal
instead of being seen there is written out; the files themselves stay as they are.
"""

import argparse
import codecs
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from poolbench.foreign import Unreadable, opened, read_bytes
from poolbench.records.files import os_reason
from poolbench.records.printable import printable

LOOK_SECONDS = 0.5
_CHUNK = 1 << 16

# Colours and moves of the cursor, which progress bars and warnings leave in logs: nothing is lost without them.
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where records are (runs)")
    parser.add_argument("--follow", "-f", action="store_true", help="wait for more until the cell no longer runs")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.find import find_record
    from poolbench.records.overview import cell_row
    from poolbench.records.state import RUNNING, cell_state

    folder = find_record(arguments.run, arguments.runs_dir)
    log, errors = folder / "log.txt", folder / "error.txt"
    any_text = False
    try:
        for text in _texts(log, (lambda: cell_state(folder) == RUNNING) if arguments.follow else lambda: False):
            any_text = True
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    reasons = _reasons(errors)
    if reasons:
        print(f"\n{printable(errors)}:" if any_text else f"{printable(errors)}:")
        sys.stdout.write(reasons)
    elif reason := cell_row(folder)["error"]:  # a process that was killed leaves no traceback
        print(f"\nerror: {printable(reason)}" if any_text else f"error: {printable(reason)}")
    elif not any_text:
        nothing = "printed nothing" if log.is_file() else "has no log: `poolbench run` prints into its terminal"
        print(f"{printable(folder)} {nothing}", file=sys.stderr)
    return 0


def _reasons(path: Path) -> str:
    """The text of ``path``, made harmless; empty, and a word about it, where there is none."""
    try:
        text = read_bytes(path, inside=path.parent).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        print(printable(os_reason(error)), file=sys.stderr)
        return ""
    except Unreadable as error:
        print(printable(f"{path} {error}"), file=sys.stderr)
        return ""
    return _harmless(text) + ("" if text.endswith("\n") or not text else "\n")


def _texts(path: Path, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The text of ``path``, whole lines at a time, made harmless, for as long as ``goes_on``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    place, rest = 0, ""
    while True:
        last = not goes_on()  # asked first: what is written until then is still read
        try:
            for end, chunk in _more(path, place):
                place = end
                lines, newline, rest = (rest + decoder.decode(chunk)).rpartition("\n")
                if newline:
                    yield _harmless(lines) + "\n"
                if len(rest) > _CHUNK:  # a line without an end
                    yield _harmless(rest)
                    rest = ""
        except OSError as error:  # it is no file, or a link to somebody else's
            print(printable(os_reason(error)), file=sys.stderr)
            return
        if last:
            if rest:
                yield _harmless(rest) + "\n"
            return
        time.sleep(LOOK_SECONDS)


def _more(path: Path, place: int) -> Iterator[tuple[int, bytes]]:
    """What stands in ``path`` from ``place`` on, a piece at a time, each with the place where it ends."""
    try:
        with opened(path, inside=path.parent) as file:
            place = place if os.fstat(file.fileno()).st_size >= place else 0  # begun anew
            file.seek(place)
            while chunk := file.read(_CHUNK):
                place += len(chunk)
                yield place, chunk
    except FileNotFoundError:
        return


def _harmless(text: str) -> str:
    text = _COLOURS.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return printable(text, keep="\n\t")
