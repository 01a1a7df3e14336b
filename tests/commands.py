"""``poolbench`` commands for tests, each in a process of its own that is forked from a server with torch loaded: a
fresh interpreter takes four seconds of a core to import what a command needs, a fork a few hundredths."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path

from poolbench.sweep.workers import _no_main

# What commands import. The server only imports: a fork of a process that has computed in parallel may hang.
PRELOAD = [
    "torch",
    "torch._dynamo",
    "torchvision",
    "hydra",
    "pandas",
    "scipy.stats",
    "matplotlib.figure",
    "poolbench.cell",
    "poolbench.assembly",
    "poolbench.configuration",
    "poolbench.report",
    "poolbench.sweep.workers",
    "poolbench.cli.sweep",
    "poolbench.cli.run",
]

Done = subprocess.CompletedProcess[str]


def run_poolbench(
    folder: Path | str, *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 300
) -> Done:
    """``poolbench ARGUMENTS`` in ``folder``, to its end; ``env`` adds to the environment."""
    return Fork(_command, folder, arguments, env).finish(timeout)


def run_code(folder: Path | str, code: str, *arguments: object, timeout: float = 300) -> Done:
    """``python -c CODE ARGUMENTS`` in ``folder``, to its end, with torch and our modules loaded already."""
    return Fork(_code, folder, (code, *arguments)).finish(timeout)


def start_poolbench(folder: Path | str, *arguments: object) -> "Fork":
    """``poolbench ARGUMENTS`` in ``folder``, begun, in a process group of its own."""
    return Fork(_command, folder, arguments)


class Fork:
    """A forked process that runs ``function(arguments)``; what it prints goes to files."""

    def __init__(
        self, function: Callable, folder: Path | str, arguments: tuple, env: Mapping[str, str] | None = None
    ) -> None:
        self.words = [str(one) for one in arguments]
        self.printed = tempfile.TemporaryDirectory()
        self.paths = [Path(self.printed.name) / name for name in ("out", "err")]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()
        address = forkserver._forkserver._forkserver_address
        given = (function, self.words, str(Path(folder).resolve()), {**os.environ, **(env or {})}, self.paths, address)
        self.process = context.Process(target=_enter, args=given)
        with _no_main():
            self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def finish(self, timeout: float = 300) -> Done:
        """Wait for the end. Raises: subprocess.TimeoutExpired after ``timeout`` seconds; the process is killed."""
        self.process.join(timeout)
        late = self.process.is_alive()
        if late:
            self.process.kill()
            self.process.join()
        out, err = (path.read_text() if path.exists() else "" for path in self.paths)
        self.printed.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self.words, timeout, out, err)
        return subprocess.CompletedProcess(self.words, self.process.exitcode, out, err)


def _enter(
    function: Callable, arguments: list[str], folder: str, environment: dict[str, str], paths: list[Path], address: str
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # Sweeps fork their cells from a server of their own, which would load torch anew: let it be this one.
    forkserver._forkserver._forkserver_address = address
    forkserver._forkserver.ensure_running = lambda: None
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in enumerate("rww"))  # noqa: SIM115
    function(arguments)


def _command(arguments: list[str]) -> None:
    from poolbench.cli.main import main

    sys.argv = ["poolbench", *arguments]
    sys.exit(main(arguments))


def _code(arguments: list[str]) -> None:
    code, *words = arguments
    sys.argv = ["-c", *words]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
