"""One fault at a time in a copy of the tree, with some tests, until one fails: the trials of ``break_code.py``.

Nothing of ours is imported here: each run of pytest is a fork of this process, and imports the code with its fault.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

CAUGHT, SURVIVED, NO_TEST, TOO_LONG, NO_FIT = "caught", "survived", "no test", "too long", "does not fit"
# What one run of pytest gets: files and options, and the names of the tests, in order; None: all that it finds.
Batch = tuple[list[str], list[str] | None]


@dataclass(frozen=True)
class Fault:
    """A slip that an engineer could make: ``old``, which occurs once in ``file``, becomes ``new``.

    Args:
        why: what is wrong with it.
        tests: arguments of pytest that are tried without a map, where the mirror of the file is not enough.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: str = ""

    def line(self, source: str) -> int:
        """The number of the first line that changes."""
        pairs = enumerate(zip(self.old, self.new, strict=False))
        same = next((place for place, (old, new) in pairs if old != new), min(len(self.old), len(self.new)))
        return source[: source.index(self.old) + same].count("\n") + 1


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: ``outcome`` is one of the words above, ``test`` what caught it, ``message`` how."""

    name: str
    file: str
    why: str
    outcome: str
    test: str = ""
    message: str = ""
    tests_run: int = 0
    seconds: float = 0.0
    fails_anyway: tuple[str, ...] = ()


def misfit(fault: Fault, tree: Path) -> str:
    """Why the fault cannot be made in ``tree``; empty if it can."""
    path = tree / fault.file
    if not path.is_file():
        return f"there is no {fault.file}"
    source = path.read_text(encoding="utf-8")
    if source.count(fault.old) != 1:
        return f"{fault.file} holds {fault.old!r} {source.count(fault.old)} times, not once"
    if path.suffix == ".py":
        try:
            compile(source.replace(fault.old, fault.new), fault.file, "exec")
        except SyntaxError as error:
            return f"{fault.file} does not compile with {fault.new!r}: {error}"
    return "" if fault.old != fault.new else f"{fault.old!r} stays as it is"


def try_all(
    faults: Sequence[Fault], batches: dict[str, list[Batch]], tree: Path, jobs: int, limit: float, out: Path
) -> Iterator[Outcome]:
    """The outcome of each fault, as they come, from ``jobs`` copies of ``tree``; logs go to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="break_code_") as folder:
        if (tree.parent / "shared").exists():  # real data, which some tests look for beside the checkout
            (Path(folder) / "shared").symlink_to(tree.parent / "shared")
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(jobs, context, initializer=_make_copy, initargs=(tree, Path(folder))) as pool:
            waiting = {pool.submit(_try, fault, batches[fault.name], limit, out): fault for fault in faults}
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)


_COMMENT = {".py": "#", ".yaml": "#", ".toml": "#", ".js": "//"}  # what begins one; Markdown and the like need nothing
_copy = Path()  # of the tree, in each of the processes that try faults
_stamp = 0
_healthy: dict[tuple[str, str], bool] = {}  # does a test pass where a file has but one comment more?


def _make_copy(tree: Path, folder: Path) -> None:
    """A copy of ``tree`` as it is, with its history, since records name their commit."""
    global _copy
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _copy = folder / f"copy{os.getpid()}"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(tree), str(_copy)], check=True)
    listing = ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = set(filter(None, subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")))
    for path in [path for path in _copy.rglob("*") if path.is_file()]:
        name = path.relative_to(_copy).as_posix()
        if not name.startswith(".git/") and not (name in names and (tree / name).is_file()):
            path.unlink()
    for name in names:
        if (tree / name).is_file():
            (_copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, _copy / name)


def _try(fault: Fault, batches: list[Batch], limit: float, out: Path) -> Outcome:
    began = time.perf_counter()

    def outcome(word: str, test: str = "", message: str = "") -> Outcome:
        spent = time.perf_counter() - began
        return Outcome(fault.name, fault.file, fault.why, word, test, message, run, spent, tuple(useless))

    run, useless = 0, []
    if problem := misfit(fault, _copy):
        return outcome(NO_FIT, message=problem)
    path = _copy / fault.file
    source = path.read_text(encoding="utf-8")
    log = out / f"{fault.name}.log"
    left = list(batches)
    try:
        while left:
            paths, names = left[0]
            _write(path, source.replace(fault.old, fault.new))
            seen = _run(paths, names, useless, limit - (time.perf_counter() - began), log)
            run += seen.get("run", 0)
            if seen["code"] is None:
                return outcome(TOO_LONG, seen.get("test", ""), f"after {limit:.0f} s")
            if seen["code"] in (0, 5):  # all passed, or there were none
                left.pop(0)
                continue
            test = seen.get("test", "")
            _write(path, source + f"\n{_COMMENT.get(path.suffix, '')} a comment\n")
            if _is_healthy(fault.file, test, paths):
                return outcome(CAUGHT, test, seen.get("message", f"pytest ended with code {seen['code']}"))
            if not test or test in useless:
                return outcome(SURVIVED, test, "pytest fails without the fault too; see the log")
            useless.append(test)
        if run:
            return outcome(SURVIVED)
        return outcome(NO_TEST)
    finally:
        _write(path, source)


def _write(path: Path, text: str) -> None:
    """Write a source file with a time of its own: Python knows compiled files by size and second."""
    global _stamp
    _stamp += 2
    path.write_text(text, encoding="utf-8")
    moment = 1_000_000_000 + _stamp
    os.utime(path, (moment, moment))


def _is_healthy(file: str, test: str, paths: list[str]) -> bool:
    if (file, test) not in _healthy:
        one = "::" in test
        paths, names = ([test.partition("::")[0]], [test]) if one else (paths, [])
        seen = _run(paths, names, [], 600, _copy.with_suffix(".log"))
        _healthy[file, test] = seen["code"] == 0 if one else seen["code"] in (0, 5)
    return _healthy[file, test]


def _run(paths: list[str], names: list[str] | None, without: list[str], limit: float, log: Path) -> dict:
    """Run pytest in a fork until a test fails. Returns: its ``code`` (None: out of time), which ``test`` failed (or
    was running), its ``message``, and how many tests ``run``."""
    notes = _copy.with_suffix(".json")
    notes.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = _pytest(paths, names, without, log, notes)
        finally:
            os._exit(code)
    ends, code, parent = time.monotonic() + max(0, limit), None, os.getppid()
    try:
        while time.monotonic() < ends and os.getppid() == parent:  # else whoever asked has been killed
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.02)
    finally:
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):  # its own group: what tests started and left behind
            os.killpg(child, signal.SIGKILL)
    seen = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    if code is not None and code < 0:
        seen["message"] = f"the process ended by signal {-code}"
    return {**seen, "code": code}


def _pytest(paths: list[str], names: list[str] | None, without: list[str], log: Path, notes: Path) -> int:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background ignores it
    os.chdir(_copy)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.path[:] = [str(_copy), *(place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent)]
    path = [str(_copy), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(PYTHONPATH=os.pathsep.join(path), CI="1")  # hypothesis draws the same examples in every run
    os.environ.pop("PYTEST_CURRENT_TEST", None)

    import pytest

    watch = _Watch(names, without, notes)
    options = ["-x", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(_copy)]
    return int(pytest.main([*options, *paths], plugins=[watch]))


class _Watch:
    """For pytest: runs the tests that are named, in their order, and notes which one runs and how it fails."""

    def __init__(self, names: list[str] | None, without: list[str], notes: Path):
        self.places = None if names is None else {name: place for place, name in enumerate(names)}
        self.without, self.notes, self.seen = without, notes, {"run": 0}

    def pytest_collection_modifyitems(self, config, items) -> None:
        kept = [item for item in items if item.nodeid not in self.without]
        if self.places is not None:
            kept = sorted((i for i in kept if i.nodeid in self.places), key=lambda item: self.places[item.nodeid])
        kept_ones = set(map(id, kept))
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept_ones])
        items[:] = kept

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.seen["run"] += 1
        self._note(nodeid, "the process ended")

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self._fail(report)

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self._fail(report)

    def _fail(self, report) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        words = (crash.message if crash else str(report.longrepr)).strip().splitlines()
        self._note(report.nodeid, (words[0] if crash else words[-1])[:200] if words else "")

    def _note(self, test: str, message: str) -> None:
        self.seen.update(test=test, message=message)
        self.notes.write_text(json.dumps(self.seen), encoding="utf-8")
