"""The command line: ``poolbench COMMAND``."""

import importlib
import os
import sys
from collections.abc import Sequence

from poolbench import __version__

# Command -> one line; the module of the same name has add_arguments(parser) and main(arguments).
COMMANDS = {
    "run": "train one cell",
    "sweep": "train all cells of a grid or a declared sweep, then report",
    "reproduce": "run a paper's comparison, or all of them, and judge its claims",
    "plan": "show the cells of a sweep, how far each is and what the rest should cost",
    "advise": "which pools keep your limits, and what to expect of them in a net not tried",
    "atlas": "pools over many nets: gains, what to expect in a net not tried, whether that is kept",
    "power": "how many seeds a comparison needs, before anything is trained",
    "race": "find the best of many arms with few cells: what is surely worse falls out",
    "tune": "search the best recipe of each pool on a validation split, alike for all",
    "status": "what is done, running, queued, failed, and the time left",
    "logs": "what a cell printed, and why it failed",
    "report": "tables and plots, from records alone",
    "plot": "one figure of records, as PNG, SVG or PDF",
    "collect": "gather records into one archive and one tidy table",
    "show": "one record: its config, curve and result",
    "diff": "what differs between two records",
    "probe": "read measures of trained cells: invariance, information kept, robustness",
    "rerun": "train a record's cell once more and compare the results",
    "prune": "remove checkpoints of finished cells, after saying which",
    "list": "pools, heads, models, data sets, optimizers, schedules, sweeps",
    "bench": "time operators, or whole nets, in one interleaved run",
    "check-pool": "run the public contract on a pool, yours or ours, and explain what it breaks",
    "gallery": "draw what pools do to an image, to its gradient, and to the numbers of a small map",
    "download": "fetch a data set",
}

# Commands whose words are the user's own, not a record's; status and rerun see for themselves.
_BUILDING = ("run", "sweep", "reproduce", "tune", "race", "plan", "bench", "check-pool", "gallery", "download", "probe")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns: the exit code: 0, 1 for work that failed, 2 for bad input, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    if argv[:1] in (["--version"], ["-V"]):
        print(f"poolbench {__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    command = argv[0]
    if command not in COMMANDS:
        from poolbench.registry import nearest

        return _fail(f"unknown command {command!r}.{nearest(command, list(COMMANDS))} Try: poolbench --help")
    if command in _BUILDING:
        from poolbench.cli.options import take_in_working_folder

        take_in_working_folder()
    debug = "--debug" in argv or os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        from poolbench.cli.parsing import make_parser, parse

        arguments = parse(make_parser(command), argv[1:], COMMANDS)
        return importlib.import_module(f"poolbench.cli.{command.replace('-', '_')}").main(arguments)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, as `head`, has had enough
        return _pipe_closed(command)
    except SystemExit as leaving:  # rich leaves so when it notices the same
        if isinstance(leaving.__context__, BrokenPipeError):
            return _pipe_closed(command)
        raise
    except Exception as error:
        from poolbench.data.base import DataError

        if debug:
            raise
        if isinstance(error, OSError):
            from poolbench.records.files import os_reason

            return _fail(os_reason(error), code=1)
        if isinstance(error, ValueError | DataError):
            return _fail(str(error))
        return _fail(f"{type(error).__name__}: {error} (a defect of ours or of your component: --debug shows where)", 1)


def _pipe_closed(command: str) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if command in ("run", "sweep", "reproduce") else 0  # work was stopped by it


def _open_closed_streams() -> None:
    """Where the shell closed a stream (``>&-``) nothing is said, and no file of ours takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - for good


def _fail(message: str, code: int = 2) -> int:
    from poolbench.records.printable import printable

    message = printable(message, keep="\n")  # it may quote somebody's record
    print(f"poolbench: error: {message}", file=sys.stderr)
    return code


def _help() -> str:
    lines = [f"  {name:<12}{line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: poolbench COMMAND [options]",
            "",
            "Which pooling should I put in my CNN, what does it cost, and is the difference real?",
            "",
            *lines,
            "",
            "  poolbench sweep sweep=demo                   the main job, small, offline",
            "  poolbench run pool=lp pool.p=3 data=cifar10  one training",
            "  poolbench COMMAND --help                     more; --version, --debug",
        ]
    )
