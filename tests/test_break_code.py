"""The faults that the tests are tried with can all be made, and the script tells those that are caught from others."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import break_code
import fault_map
from fault_trials import CAUGHT, NO_FIT, NO_TEST, SURVIVED, TOO_LONG, Fault, misfit, try_all

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''"""Two functions."""

LIMIT = 3


def clipped(
    x,
    most=LIMIT,
):
    if x > most:
        return most
    return max(
        x,
        0,
    )


class Box:
    side = 2

    def area(self):
        return self.side**2
'''
TESTS = """
import os, subprocess, sys, time
import pytest
from parcel import code

def test_large():
    assert code.clipped(5) == 3

@pytest.mark.parametrize("x", [-1, 0, 1])
def test_small(x):
    assert code.clipped(x) == max(x, 0)

def test_of_a_child():
    code = "from parcel.code import Box; print(Box().area())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert said.stdout == b"4\\n"

def test_of_a_fork():
    child = os.fork()
    if child == 0:
        code.Box().area()
        os._exit(0)
    os.waitpid(child, 0)

def test_that_fails_in_any_changed_tree():
    assert "comment" not in open(code.__file__).read() and "// 2" not in open(code.__file__).read()

def test_slow():
    time.sleep(code.clipped(0.01) * 100 if code.LIMIT == 3 else 60)
"""


@pytest.fixture
def parcel(tmp_path):
    """A checkout of a package with tests."""
    files = {
        "poolbench/__init__.py": "",
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\naddopts = '--import-mode=importlib'\n",
        "parcel/__init__.py": "",
        "parcel/code.py": SOURCE,
        "tests/test_code.py": TESTS,
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path / "tree", check=True)
    return tmp_path / "tree"


def test_every_fault_of_the_table_can_be_made():
    faults = break_code.read_faults(break_code.TABLE)
    assert [problem for fault in faults if (problem := misfit(fault, ROOT))] == []
    assert [fault.name for fault in faults if not fault.why or fault.name != fault.name.lower()] == []
    assert [fault.name for fault in faults if not break_code.batches_of(fault, ROOT, None)] == []


def test_the_table_has_faults_in_every_room():
    files = [Path(fault.file) for fault in break_code.read_faults(break_code.TABLE)]
    rooms = {path.name for path in (ROOT / "poolbench").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert len(files) >= 60
    assert rooms <= {path.parts[1] for path in files}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "parcel/none.py"}, "there is no parcel/none.py"),
        ({"old": "x"}, "times, not once"),
        ({"old": "nowhere"}, "0 times, not once"),
        ({"new": "return most +"}, "does not compile"),
        ({"new": "return most"}, "stays as it is"),
        ({}, ""),
    ],
)
def test_a_fault_that_cannot_be_made_says_why(parcel, change, words):
    fault = Fault(
        **{"name": "a", "file": "parcel/code.py", "old": "return most", "new": "return x", "why": "b", **change}
    )
    assert words in misfit(fault, parcel)
    assert bool(words) == bool(misfit(fault, parcel))


def test_the_changed_line_is_the_first_that_differs():
    fault = Fault("a", "parcel/code.py", "if x > most:\n        return most", "if x > most:\n        return x", "why")
    assert fault.line(SOURCE) == 11


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (3, {10, 11, *range(12, 16), 22}),  # a constant: all functions of the file
        (8, {10, 11, *range(12, 16)}),  # a default: the function's body
        (10, {10}),  # the head of a branch, not what is in it
        (13, {12, 13, 14, 15}),  # a statement of several lines
        (19, {22}),  # of a class: its methods
    ],
)
def test_a_line_is_looked_for_where_it_has_a_say(line, asked):
    assert fault_map.lines_to_ask(SOURCE, line) == asked


def test_the_first_tests_are_quick_and_of_many_functions():
    seconds = {"a[1]": 1, "a[2]": 2, "a[3]": 3, "b": 9, "c[x]": 0.5, "c[y]": 4}
    assert break_code.in_turn(sorted(seconds), seconds) == ["c[x]", "a[1]", "b", "a[2]", "c[y]", "a[3]"]


@pytest.mark.wide
def test_a_fault_is_caught_or_survives(parcel, tmp_path):
    def fault(name, old, new):
        return Fault(name, "parcel/code.py", old, new, "why")

    faults = [
        fault("most", "return most", "return x"),
        fault("zero", "        0,", "        1,"),
        fault("area", "self.side**2", "self.side * 2"),
        fault("harmless", "if x > most:", "if x >= most:"),
        fault("gone", "no such text", "none"),
        fault("blind", "return self.side**2", "return self.side**2 // 2"),
    ]
    quick = ["large", "small[-1]", "small[0]", "small[1]", "that_fails_in_any_changed_tree", "of_a_child"]
    names = [f"tests/test_code.py::test_{name}" for name in quick]
    batches = {one.name: [(["tests/test_code.py"], names)] for one in faults}
    batches["blind"] = [(["tests/test_code.py"], ["tests/test_code.py::test_no_more"])]
    before = (parcel / "parcel" / "code.py").read_text()
    found = {one.name: one for one in try_all(faults, batches, parcel, 2, 60, tmp_path / "out")}
    outcomes = {name: (one.outcome, one.test.partition("::")[2]) for name, one in found.items()}
    assert outcomes == {
        "most": (CAUGHT, "test_large"),
        "zero": (CAUGHT, "test_small[-1]"),
        "area": (SURVIVED, ""),
        "harmless": (SURVIVED, ""),
        "gone": (NO_FIT, ""),
        "blind": (NO_TEST, ""),
    }
    assert found["most"].message == "assert 5 == 3"
    assert (parcel / "parcel" / "code.py").read_text() == before
    text = break_code.table(list(found.values()), {"area": SURVIVED})
    assert "| most | `parcel/code.py` | why | - | caught | `tests/test_code.py::test_large` |" in text
    assert "| area | `parcel/code.py` | why | survived | **survived** |" in text


def test_a_fault_that_takes_too_long_is_given_up(parcel, tmp_path):
    fault = Fault("slow", "parcel/code.py", "LIMIT = 3", "LIMIT = 30", "why")
    batches = {"slow": [(["tests/test_code.py"], ["tests/test_code.py::test_slow"])]}
    (found,) = try_all([fault], batches, parcel, 1, 1, tmp_path / "out")
    assert (found.outcome, found.message) == (TOO_LONG, "after 1 s")


def test_the_map_tells_which_test_executes_a_line(parcel, tmp_path):
    (parcel / "parcel").rename(parcel / "scripts")
    text = (parcel / "tests" / "test_code.py").read_text()
    (parcel / "tests" / "test_code.py").write_text(text.replace("parcel", "scripts").replace("sleep(", "sleep(0 * "))
    code = fault_map.draw(parcel, ["-q"], tmp_path / "map.json.gz")
    found = fault_map.Map.read(tmp_path / "map.json.gz")

    def tests(line, source=SOURCE):
        return [name.partition("::")[2] for name in found.tests("scripts/code.py", source, line)]

    assert code == 0
    assert tests(11) == ["test_large"]
    assert tests(12) == ["test_slow", "test_small[-1]", "test_small[0]", "test_small[1]"]
    assert tests(22) == ["test_of_a_child", "test_of_a_fork"]  # by processes of their own
    assert tests(10) == tests(8) == sorted([*tests(11), *tests(12)])
    assert tests(1, SOURCE + "# more") == sorted([*tests(3)])  # another text than was mapped: whatever runs the file
    assert tests(3) == sorted([*tests(10), *tests(22)])
    assert found.tests("scripts/none.py", "", 1) == []
    assert set(found.seconds) == {
        f"tests/test_code.py::{name}" for name in (*tests(3), "test_that_fails_in_any_changed_tree")
    }
