"""What is published follows from the committed records, and redrawing it changes nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plans import planned

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = sorted((ROOT / "results").glob("*/records.jsonl"))


def published(root: Path) -> dict[str, bytes]:
    pages = [
        root / "README.md",
        *root.glob("docs/*.md"),
        *root.glob("experiments/*/README.md"),
        *root.glob("results/**/*"),
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in pages if path.is_file()}


def test_redrawing_the_results_changes_nothing(tmp_path):
    for name in ("results", "experiments", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        shutil.copy(page, tmp_path / page.relative_to(ROOT))
    before = published(tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "scripts/refresh_results.py")], check=True, cwd=tmp_path)
    after = published(tmp_path)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == []


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_published_records_say_where_they_come_from(archive):
    for line in archive.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert len(record["environment"]["commit"]) == 40
        assert record["environment"]["dirty"] is False
        assert record["environment"]["torch"]
        assert record["config"]["seed"] >= 0
        for place in (record["config"]["runs_dir"], record["config"]["report_dir"], record["config"]["data"]["root"]):
            assert not Path(place).is_absolute()  # of somebody's machine
        assert record["result"]["epochs"] == record["config"]["trainer"]["epochs"]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_published_records_are_of_the_declared_sweep(archive, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = planned(archive.parent.name)
    done = {json.loads(line)["run_id"] for line in archive.read_text(encoding="utf-8").splitlines()}
    declared = {cell.run_id for cell in plan.cells}
    assert done <= declared
    if done < declared:  # trained over several sittings: whoever reads the numbers is told so
        page = (ROOT / "experiments" / archive.parent.name / "README.md").read_text(encoding="utf-8")
        assert f"**{len(done)} of {len(declared)} cells so far**" in page
