"""Killed at any moment, the same command goes on, and the end is the same to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.commands import run_poolbench, start_poolbench

CELL = [
    "data=shapes",
    "data.train_samples=500",
    "data.test_samples=100",
    "data.validation=0.1",
    "data.augmentation.cutout=4",
    "model=convnet_small",
    "optimizer=muon",
    "trainer.epochs=4",
    "trainer.batch_size=50",
    "trainer.threads=1",
    "trainer.weight_averaging=0.9",
    "trainer.alternate_flip=true",
    "trainer.sizes=[32,24]",
    "trainer.skip_easy=0.4",
]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a SIGKILL")


def start(folder: Path, command: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "poolbench", command, *CELL, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, command: str, *arguments: str) -> None:
    done = run_poolbench(folder, command, *CELL, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def epochs_saved(folder: Path) -> int:
    """Whole epochs of the cells in ``folder`` whose metrics are on disk, all cells together."""
    return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("runs/*/metrics.csv"))


def outcome(folder: Path) -> dict[str, tuple]:
    """What each cell ended in: results that do not measure time, and every weight."""
    ended = {}
    for path in sorted(folder.glob("runs/*/result.json")):
        result = json.loads(path.read_text())
        kept = {k: v for k, v in result.items() if k.endswith(("accuracy", "loss", "flops")) or k == "images_seen"}
        weights = torch.load(path.with_name("checkpoint.pt"), weights_only=True)["model"]
        ended[path.parent.name] = (kept, weights)
    return ended


def assert_same(first: dict[str, tuple], second: dict[str, tuple]) -> None:
    assert first.keys() == second.keys()
    for name, (result, weights) in first.items():
        assert result == second[name][0]
        assert weights.keys() == second[name][1].keys()
        assert all(torch.equal(tensor, second[name][1][key]) for key, tensor in weights.items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder, "sweep", "pool=max,strided_conv", "sweep.workers=2")
    return outcome(folder)


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, undisturbed):
    for epochs in (1, 3):
        process = start(tmp_path, "run", "pool=strided_conv")
        wait_for(lambda epochs=epochs: epochs_saved(tmp_path) >= epochs, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finish(tmp_path, "run", "pool=strided_conv")
    ended = outcome(tmp_path)
    (name,) = ended
    assert_same(ended, {name: undisturbed[name]})
    result = json.loads((tmp_path / "runs" / name / "result.json").read_text())
    assert result["resumed"] == 2
    assert result["mixed_environment"] is False
    left = {path.name for path in (tmp_path / "runs" / name).iterdir()}
    outcomes = {"outcomes.json", "log_probabilities.npy"}
    record = {"config.yaml", "status.json", "metrics.csv", "result.json", "environment.json", "checkpoint.pt"}
    assert left == record | outcomes


def test_a_killed_sweep_leaves_no_workers_and_ends_as_if_it_had_not_been(tmp_path, undisturbed):
    process = start(tmp_path, "sweep", "pool=max,strided_conv", "sweep.workers=2")
    wait_for(lambda: epochs_saved(tmp_path) >= 3, process)
    pids = {json.loads(path.read_text())["pid"] for path in tmp_path.glob("runs/*/status.json")}
    process.kill()  # the sweep alone: its workers must notice by themselves
    process.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    if Path("/proc/self").exists():
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finish(tmp_path, "sweep", "pool=max,strided_conv", "sweep.workers=2")
    assert_same(outcome(tmp_path), undisturbed)
    assert not list(tmp_path.glob("runs/*/.*"))
    assert not list(tmp_path.glob("runs/*/claim.*"))


def test_two_sweeps_at_the_same_instant_share_the_work(tmp_path, undisturbed):
    words = ["sweep", *CELL, "pool=max,strided_conv", "sweep.workers=1"]
    both = [start_poolbench(tmp_path, *words) for _ in range(2)]
    for process in both:
        done = process.finish()
        assert done.returncode == 0, done.stdout + done.stderr
    # One worker has both cores, another half of them; the thread count is given, so the bits are the same.
    assert_same(outcome(tmp_path), undisturbed)
    for path in tmp_path.glob("runs/*/result.json"):
        assert json.loads(path.read_text())["resumed"] == 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs to see that a process is stopped")
def test_an_owner_that_slept_and_was_passed_over_changes_nothing_any_more(tmp_path, undisturbed):
    sleeper = start(tmp_path, "run", "pool=strided_conv")
    wait_for(lambda: epochs_saved(tmp_path) >= 1, sleeper)
    os.killpg(sleeper.pid, signal.SIGSTOP)
    (claim,) = tmp_path.glob("runs/*/claim.*")
    # As if it were on another host that was not heard of for long; here it would keep its cell.
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "host": "elsewhere"}))
    os.utime(claim, (0, 0))
    finish(tmp_path, "run", "pool=strided_conv")
    (record,) = (tmp_path / "runs").iterdir()
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in record.iterdir()}
    os.killpg(sleeper.pid, signal.SIGCONT)
    sleeper.communicate(timeout=300)
    assert before == {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in record.iterdir()
    }
    ended = outcome(tmp_path)
    assert_same(ended, {record.name: undisturbed[record.name]})
