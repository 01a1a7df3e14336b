"""Imports point one way, and what must be quick does without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "poolbench"

# Room -> the rooms it may import from, its own and the package's version apart.
ALLOWED = {
    "accelerator": {"checks", "options"},
    "checks": set(),
    "contents": set(),
    "dotted": set(),
    "facts": {"pooling", "registry"},
    "foreign": set(),
    "options": {"checks"},
    "registry": set(),
    "statistics": set(),
    "messages": {"registry"},
    "config_files": {"foreign", "messages"},
    "overrides": {"config_files"},
    "compositions": {"config_files", "dotted", "overrides"},
    "pooling": {"accelerator", "checks", "registry"},
    "heads": {"accelerator", "checks", "registry"},
    "data": {"foreign", "checks", "registry"},
    "models": {"accelerator", "checks", "contents", "messages", "pooling", "heads", "registry"},
    "records": {"foreign", "checks", "contents", "dotted", "options", "registry"},
    "measure": {"accelerator", "models", "pooling", "records", "training"},
    "training": {"accelerator", "foreign", "checks", "models", "options", "records"},
    "report": {"config_files", "foreign", "dotted", "messages", "records", "registry", "statistics"},
    "claims": {
        "foreign",
        "checks",
        "config_files",
        "dotted",
        "messages",
        "records",
        "registry",
        "report",
        "statistics",
    },
    "configuration": {
        "compositions",
        "config_files",
        "contents",
        "dotted",
        "messages",
        "overrides",
        "pooling",
        "heads",
        "models",
        "registry",
    },
    "limits": {
        "checks",
        "config_files",
        "configuration",
        "dotted",
        "messages",
        "options",
        "records",
        "registry",
        "training",
    },
    "assembly": {
        "accelerator",
        "configuration",
        "limits",
        "data",
        "models",
        "options",
        "pooling",
        "training",
        "registry",
    },
    "session": {"accelerator", "assembly", "data", "limits", "measure", "models", "options", "records", "training"},
    "cell": {"data", "records", "session", "training"},
    "trust": {"data", "heads", "models", "pooling"},
    "probing": {
        "accelerator",
        "assembly",
        "configuration",
        "data",
        "measure",
        "options",
        "records",
        "registry",
        "training",
        "trust",
    },
    "trained": {"assembly", "data", "records", "training", "trust"},
    "sweep": {
        "accelerator",
        "trust",
        "foreign",
        "assembly",
        "cell",
        "checks",
        "pooling",
        "heads",
        "models",
        "config_files",
        "configuration",
        "messages",
        "limits",
        "data",
        "options",
        "overrides",
        "records",
        "registry",
    },
    "tuning": {"configuration", "dotted", "messages", "options", "overrides", "records", "registry", "sweep"},
    "racing": {
        "checks",
        "configuration",
        "foreign",
        "heads",
        "messages",
        "options",
        "overrides",
        "pooling",
        "records",
        "registry",
        "statistics",
        "sweep",
        "tuning",
    },
    "cli": {
        "accelerator",
        "foreign",
        "facts",
        "assembly",
        "cell",
        "claims",
        "sweep",
        "statistics",
        "tuning",
        "racing",
        "report",
        "records",
        "config_files",
        "configuration",
        "probing",
        "messages",
        "data",
        "models",
        "heads",
        "pooling",
        "registry",
        "measure",
        "training",
        "testing",
        "gallery",
        "trust",
    },
    "api": {"claims", "cli", "config_files", "messages", "overrides", "racing", "records", "report", "sweep"},
    "gallery": {"data", "pooling"},
    "testing": {"accelerator"},
    "__main__": {"cli"},
    "__init__": {"trained", "data", "models", "heads", "pooling"},
}


def rooms() -> list[str]:
    return sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "poolbench" else str(node.module)
                for alias in node.names
            ]
        for name in names:
            parts = name.split(".")
            if parts[0] == "poolbench" and len(parts) > 1 and parts[1] != "__version__":
                found.add(parts[1])
    return found


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_from_rooms_below_it(room):
    assert room in ALLOWED, f"{room} is new: say in this test what it may import"
    paths = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    for path in paths:
        assert imported_rooms(path) - {room} <= ALLOWED[room], path


def test_no_ring_of_rooms():
    order: list[str] = []
    while len(order) < len(ALLOWED):
        free = [room for room in ALLOWED if room not in order and ALLOWED[room] <= set(order)]
        assert free, f"a ring among {sorted(set(ALLOWED) - set(order))}"
        order += free


@pytest.mark.parametrize(
    "code",
    [
        "import poolbench",
        "import poolbench.report, poolbench.records.collect, poolbench.records.find, poolbench.records.environment",
        "import poolbench.claims.experiment, poolbench.claims.figure",
        "from poolbench.cli.main import main; main(['--help'])",
        "import poolbench.report.one_figure, poolbench.cli.plot",
        "import poolbench.cli.gallery",
        "from poolbench.cli.main import main; main(['list'])",
        "from poolbench.cli.main import main; main(['plan', 'pool=max,lp', 'seeds=2'])",
        "from poolbench.cli.main import main; main(['status', '.'])",
        "from poolbench.cli.main import main; main(['status', '--watch', 'runs_dir=.', 'pool=nopool'])",
        "from poolbench.cli.main import main; main(['status', 'pool=max,lp', 'seeds=2', '--json'])",
        "from poolbench.cli.main import main; main(['diff', 'max', 'lp']); import poolbench.records.difference",
        "from poolbench.cli.main import main; main(['logs', 'max']); import poolbench.records.overview",
        "from poolbench.cli.main import main; main(['prune', '.'])",
        "from poolbench.trust import check_trust; check_trust({'pool': {'_target_': 'poolbench.pooling.MaxPool2d'}})",
        "from poolbench.cli.main import main; main(['run', '--cfg', 'job'])",
        "from poolbench import api; api.plan(pool=['max', 'lp'], seeds=2); api.records('.')",
    ],
)
def test_quick_commands_do_not_import_torch(code, tmp_path):
    check = "import sys; assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_poolbench_has_no_side_effects(tmp_path):
    code = "import sys; before = set(sys.modules); import poolbench; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60
    assert list(tmp_path.iterdir()) == []
