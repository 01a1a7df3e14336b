"""Which test executes which line: the suite run once under coverage.py. ``break_code.py --map`` calls it.

A copy of this file is put on ``PYTHONPATH`` of the run, beside a ``sitecustomize.py`` that calls :func:`measure`, so
that every Python process measures itself: pytest and its workers, and what tests start or fork. The first note the
test that runs, by the hooks below; the others belong to the test that is named in their environment when they end.
"""

import ast
import atexit
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

# In the environment of every process of the run: where it leaves what it executed, and whose lines count.
NOTES, TREE = "POOLBENCH_FAULT_NOTES", "POOLBENCH_FAULT_TREE"
MEASURED = ("poolbench", "hydra_plugins", "scripts")

_coverage = None
_seconds: dict[str, float] = defaultdict(float)  # of each test that ran in this process


class Map:
    """What :func:`draw` found.

    Args:
        found: ``tests``, ``[name, seconds]`` of each, and ``files``, for each file the digest of its text and its
            ``lines``: for each number of a line (text) the numbers of the tests.
    """

    def __init__(self, found: dict):
        self.seconds = {name: seconds for name, seconds in found["tests"]}
        self._names = [name for name, _ in found["tests"]]
        self._files = found["files"]

    @classmethod
    def read(cls, path: Path) -> "Map":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return cls(json.load(file))

    def tests(self, file: str, source: str, line: int) -> list[str]:
        """The tests that execute ``line`` of ``file``, or depend on it; of any line if its text is another now."""
        known = self._files.get(file)
        if known is None:
            return []
        asked = lines_to_ask(source, line) if known["digest"] == _digest(source) else None
        lines = known["lines"].items()
        return [
            self._names[number]
            for number in sorted({n for at, tests in lines if asked is None or int(at) in asked for n in tests})
        ]


def lines_to_ask(source: str, line: int) -> set[int]:
    """Which lines are executed where ``line`` has a say: those of its statement if it is in a function. What runs only
    once, at import, has a say in what is near it: the head of a function in its body, a line of a class or module in
    all functions there (in all lines, if there are none)."""
    place: ast.AST = ast.parse(source)
    around, statement = [place], place
    while True:
        inner = [node for node in ast.iter_child_nodes(statement) if _spans(node, line)]
        if not inner:
            break
        statement = inner[0]
        if isinstance(statement, ast.stmt | ast.excepthandler):
            around.append(statement)
    statement = around[-1]
    body = getattr(statement, "body", None)
    header = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
    if not header and any(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in around[:-1]):
        last = body[0].lineno - 1 if body else statement.end_lineno
        return set(range(statement.lineno, max(last, statement.lineno) + 1))
    owner = statement if header else next(one for one in reversed(around) if isinstance(one, ast.Module | ast.ClassDef))
    functions = [one for one in ast.walk(owner) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    spans = [(one.body[0].lineno, one.end_lineno) for one in functions] or [(1, source.count("\n") + 1)]
    return {number for first, last in spans for number in range(first, last + 1)}


def draw(tree: Path, arguments: Iterable[str], to: Path) -> int:
    """Run pytest with ``arguments`` in ``tree`` and write the map to ``to``. Returns: pytest's exit code."""
    with TemporaryDirectory(prefix="fault_map_") as folder:
        hook, notes = Path(folder) / "hook", Path(folder) / "notes"
        hook.mkdir()
        notes.mkdir()
        shutil.copy(__file__, hook / "fault_map.py")
        (hook / "sitecustomize.py").write_text("import fault_map\n\nfault_map.measure()\n", encoding="utf-8")
        path = [str(hook), str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), NOTES: str(notes), TREE: str(tree)}
        command = [sys.executable, "-m", "pytest", "-p", "fault_map", "-p", "no:cacheprovider", *arguments]
        code = subprocess.run(command, cwd=tree, env=environment).returncode
        found = _gathered(notes, tree)
    to.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(to, "wt", encoding="utf-8") as file:
        json.dump(found, file)
    print(f"{to}: {len(found['tests'])} tests, {sum(len(one['lines']) for one in found['files'].values())} lines")
    return code


def measure() -> None:
    """Have this process, and what it forks, measure itself until it ends."""
    if NOTES not in os.environ:
        return
    _start()
    os.register_at_fork(after_in_child=_start_again)
    atexit.register(_leave)
    leave_at_once = os._exit

    def exit(status: int) -> None:
        _leave()
        leave_at_once(status)

    os._exit = exit


def pytest_runtest_logstart(nodeid: str) -> None:
    if _coverage is not None:
        _coverage.switch_context(nodeid)


def pytest_runtest_logreport(report) -> None:
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    _leave()  # pytest's workers may end without a word


def _start() -> None:
    global _coverage
    import coverage

    _coverage = coverage.Coverage(
        data_file=str(Path(os.environ[NOTES]) / f"{uuid.uuid4().hex}.lines"),
        include=[str(Path(os.environ[TREE]) / name / "*") for name in MEASURED],
        config_file=False,
        messages=False,
    )
    _coverage.set_option("run:core", "ctrace")  # the only one that knows contexts in every Python
    _coverage.set_option("run:disable_warnings", ["no-data-collected", "module-not-measured", "trace-changed"])
    _coverage.start()


def _start_again() -> None:
    global _coverage
    if _coverage is not None:
        _coverage.stop()
        _seconds.clear()
        _start()


def _leave() -> None:
    global _coverage
    if _coverage is None:
        return
    ending, _coverage = _coverage, None
    ending.stop()
    name = Path(os.environ.get(NOTES, "")) / uuid.uuid4().hex
    if _seconds:
        ending.save()
        name.with_suffix(".seconds").write_text(json.dumps(_seconds), encoding="utf-8")
    elif test := os.environ.get("PYTEST_CURRENT_TEST"):
        data = ending.get_data()
        lines = {file: data.lines(file) for file in data.measured_files()}
        note = {"test": test.rsplit(" (", 1)[0], "lines": lines}
        name.with_suffix(".child").write_text(json.dumps(note), encoding="utf-8")


def _gathered(notes: Path, tree: Path) -> dict:
    from coverage import CoverageData

    seconds: dict[str, float] = defaultdict(float)
    for path in notes.glob("*.seconds"):
        for test, spent in json.loads(path.read_text(encoding="utf-8")).items():
            seconds[test] += spent
    numbers = {test: number for number, test in enumerate(sorted(seconds))}
    lines: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path in notes.glob("*.lines"):
        data = CoverageData(str(path))
        data.read()
        for file in data.measured_files():
            for line, tests in data.contexts_by_lineno(file).items():
                lines[file][line].update(numbers[test] for test in tests if test in numbers)
    for path in notes.glob("*.child"):
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["test"] in numbers:
            for file, executed in note["lines"].items():
                for line in executed:
                    lines[file][line].add(numbers[note["test"]])
    files = {
        Path(file).relative_to(tree).as_posix(): {
            "digest": _digest(Path(file).read_text(encoding="utf-8")),
            "lines": {line: sorted(tests) for line, tests in sorted(of.items()) if tests},
        }
        for file, of in sorted(lines.items())
    }
    return {"tests": [[test, round(seconds[test], 4)] for test in numbers], "files": files}


def _spans(node: ast.AST, line: int) -> bool:
    first = getattr(node, "lineno", None)
    if first is None:
        return False
    decorators = [one.lineno for one in getattr(node, "decorator_list", ())]
    return min([first, *decorators]) <= line <= node.end_lineno


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
