"""The wheel in an environment without the checkout: it carries its configs and works from any directory."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment that holds the wheel; what it depends on is borrowed from the one that runs the tests."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling, as `make test` installs it")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "env"
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    bin = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin / "python")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", str(wheel)], check=True, capture_output=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    # Folders named in a .pth file have their own .pth files ignored, so the checkout's editable install stays out.
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return bin, site, wheel


def call(bin: Path, folder: Path, *command: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([str(bin / command[0]), *command[1:]], cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_and_not_the_checkout(installed, tmp_path):
    bin, site, _ = installed
    where = call(bin, tmp_path, "python", "-c", "import poolbench; print(poolbench.__file__)").strip()
    assert Path(where).is_relative_to(site)
    assert (site / "poolbench/py.typed").is_file()  # type checkers may trust its annotations


def test_a_pool_without_hydra(installed, tmp_path):
    code = (
        "import sys, poolbench; print(poolbench.create_pool('max', channels=8)); "
        "assert 'hydra' not in sys.modules and 'omegaconf' not in sys.modules"
    )
    assert "MaxPool2d" in call(installed[0], tmp_path, "python", "-c", code)


def test_the_command_works_from_any_directory(installed, tmp_path):
    bin, _, _ = installed
    assert "strided_conv" in call(bin, tmp_path, "poolbench", "list", "pools")
    assert "15 cells: 15 new" in call(bin, tmp_path, "poolbench", "plan", "sweep=demo")
    assert "30 cells" in call(bin, tmp_path, "poolbench", "plan", "sweep=2026_five_pools")
    small = ["data.train_samples=200", "data.test_samples=50", "trainer.epochs=1", "model=convnet_small"]
    assert "test accuracy" in call(bin, tmp_path, "poolbench", "run", *small)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_hydra_finds_the_sweeper(installed, tmp_path):
    bin, site, _ = installed
    code = (
        "from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper; "
        "print(*[(c.__module__, __import__('inspect').getfile(c)) for c in Plugins.instance().discover(Sweeper)])"
    )
    found = call(bin, tmp_path, "python", "-c", code)
    assert f"('hydra_plugins.poolbench_sweeper.sweeper', '{site}" in found


def test_what_is_published_is_in_it_and_no_figure(installed):
    _, site, wheel = installed
    read = [path for pattern in ("records.jsonl", "speeds.json") for path in (ROOT / "results").rglob(pattern)]
    carried = {
        path.relative_to(site / "poolbench") for path in (site / "poolbench/results").rglob("*") if path.is_file()
    }
    assert carried == {path.relative_to(ROOT) for path in read}
    assert wheel.stat().st_size < 5_000_000


def test_all_published_claims_are_judged_in_an_empty_folder_and_nothing_is_trained(installed, tmp_path):
    bin, _, _ = installed
    said = call(bin, tmp_path, "poolbench", "reproduce", "all")
    claimed = {path.parent.name for path in (ROOT / "experiments").glob("*/claim.yaml")}
    there = {name for name in claimed if (ROOT / "results" / name / "records.jsonl").is_file()}
    told = [line for line in said.splitlines() if line.startswith("sweep ")]
    assert len(told) == len(there) > 5
    assert all("all published" in line or "none is trained now" in line for line in told)
    assert "verdict" in said
    assert {path.name for path in tmp_path.iterdir()} == {"report"}  # no runs: not a cell was begun
    assert {path.name for path in (tmp_path / "report").iterdir()} == there


def test_advice_and_reports_find_what_is_published(installed, tmp_path):
    bin, _, _ = installed
    assert "Against max" in call(bin, tmp_path, "poolbench", "advise")
    said = call(bin, tmp_path, "poolbench", "report", "--published", "2012_overlapping")
    assert "overlapping" in said
    assert "train time x" in (tmp_path / "report/all/summary.md").read_text(encoding="utf-8")  # its nets were timed
