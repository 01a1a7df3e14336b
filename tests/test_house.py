"""The size of what one has to hold in mind: functions, classes and modules, and no ring of modules."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for room in ("poolbench", "scripts", "hydra_plugins") for path in sorted((ROOT / room).rglob("*.py"))]
MOST_LINES, MOST_PARAMETERS, MOST_OF_A_CLASS, MOST_OF_A_MODULE = 80, 8, 200, 400

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(node):
    return node.end_lineno - node.lineno + 1


@cache
def named_by_configs():
    """What ``_target_`` names: its parameters are the options of a file."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "conf").rglob("*.yaml"))
    return {target.rpartition(".")[2] for target in re.findall(r"_target_: *([\w.]+)", text)}


@every_file
def test_a_module_fits_in_one_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_OF_A_MODULE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef):
            own = lines(node) - (lines(node.body[0]) if ast.get_docstring(node) else 0)
            assert own <= MOST_OF_A_CLASS, f"{node.name} has {own} lines"
        if isinstance(node, ast.FunctionDef):
            assert lines(node) <= MOST_LINES, f"{node.name} has {lines(node)} lines"
            given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            count = len([one for one in given if one.arg not in ("self", "cls")])
            if node.name != "__init__" and node.name not in named_by_configs():
                assert count <= MOST_PARAMETERS, f"{node.name} has {count} parameters"


def imports(path, modules):
    """Those of ``modules`` that ``path`` imports when it is imported itself."""
    found = set()
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(modules)


def test_no_ring_of_modules():
    def name(path):
        parts = path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    modules = {name(path): path for path in FILES if path.parts[len(ROOT.parts)] == "poolbench"}
    needs = {module: imports(path, modules) - {module} for module, path in modules.items()}
    left = dict(needs)
    while free := [module for module, wanted in left.items() if not wanted & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"a ring among {sorted(left)}"
