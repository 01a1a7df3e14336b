"""Every example of docs/sweeps.md is planned, and has as many cells as it says there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from poolbench.cli.main import main
from poolbench.sweep.grammar import _BLOCK_KEYS

PAGE = Path(__file__).resolve().parents[1] / "docs/sweeps.md"
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
FILES = {content.partition("\n")[0].lstrip("# "): content for kind, content in FENCES if kind == "yaml"}
COMMANDS = [line for kind, content in FENCES if kind == "" for line in content.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the files of the page."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    demo = (PAGE.parent.parent / "conf/sweep/demo.yaml").read_text()
    assert "blocks" in demo  # of the checkout, which ./experiments does not hide
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_cells_that_it_says(line, folder, capsys):
    program, command, *words = shlex.split(line, comments=True)
    assert program == "poolbench"
    assert command in ("plan", "sweep")
    said = int(re.search(r"# (\d+) cells?\b", line)[1])
    assert main(["plan", *words, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert len({cell["run_id"] for cell in cells}) == len(cells) == said


def test_every_file_of_the_page_is_used_and_every_key_shown():
    assert FILES
    for name in FILES:
        path = Path(name)
        sweep = path.parent.name if path.stem == "experiment" else path.stem
        assert any(f"sweep={sweep}" in line for line in COMMANDS), name
    for key in _BLOCK_KEYS:
        assert any(re.search(rf"\b{key}:", content) for content in FILES.values()), key
        assert f"| `{key}` |" in PAGE.read_text(encoding="utf-8")


def test_every_option_of_a_sweep_is_explained():
    from poolbench.limits import LIMITS

    for option in LIMITS:
        if option.startswith("sweep.") and option != "sweep.blocks":
            assert f"| `{option}` |" in PAGE.read_text(encoding="utf-8")


def test_what_is_said_of_the_sample_is_so(folder, capsys):
    line = next(line for line in COMMANDS if "sweep.sample=20" in line)
    main(["plan", *shlex.split(line, comments=True)[2:], "--json"])
    cells = [cell["overrides"] for cell in json.loads(capsys.readouterr().out)["cells"]]
    of_seed_1 = [dict(text.split("=") for text in cell) for cell in cells if "seed=1" in cell]
    assert len(of_seed_1) == 4
    assert len({cell["optimizer.lr"] for cell in of_seed_1}) == 1
