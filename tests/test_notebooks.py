"""The notebooks of examples/ and the page about them, run as a user runs them, cell after cell."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PAGE = ROOT / "docs/notebooks.md"


@pytest.fixture(autouse=True)
def _of_this_checkout(monkeypatch):
    """The kernel is a process of its own: it shall find the package whose tests these are."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))


def executed(notebook, folder):
    """``notebook`` with the outputs of its cells, run in ``folder``. Raises: CellExecutionError."""
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def outputs(notebook):
    """Kind of output -> its contents, of all cells."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            for kind, content in output.get("data", {}).items():
                found.setdefault(kind, []).append(content)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_tables_and_figures(path, tmp_path):
    notebook = executed(nbformat.read(path, as_version=4), tmp_path)
    shown = outputs(notebook)
    assert shown["image/png"]  # of a figure, without a word about how it is to be shown
    tables = "".join(shown["text/html"])
    assert "<th" in tables
    assert "test acc. %" in tables
    assert re.search(r"\[6/6\] .+ done", tables)  # the progress, as it stood in the end
    assert not re.search(r"of 6 done, about", tables)  # and its table is gone
    assert "DejaVu Sans Mono" not in tables  # rich's: what is asked for as text is not shown beside
    assert list(tmp_path.glob("runs/*/result.json"))
    assert not any("stderr" in output.get("name", "") for cell in notebook.cells for output in cell.get("outputs", ()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_page_runs_word_for_word_and_stays_short(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    codes = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip()) for code in codes])
    shown = outputs(executed(notebook, tmp_path))
    assert shown["image/png"]
    assert any("test acc. %" in text for text in shown["text/html"])


def test_the_page_names_every_notebook():
    text = PAGE.read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"examples/{path.name}" not in text] == []
