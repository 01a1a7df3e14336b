"""``poolbench tune`` as a user gives it: killed, gone on with, taken by a sweep, reported."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from poolbench.cli.main import main
from poolbench.cli.tune import _warnings
from poolbench.records.read import read_record
from poolbench.tuning.run import Outcome
from poolbench.tuning.rungs import Score
from poolbench.tuning.search import make_search
from tests.commands import run_poolbench

SMALL = [
    "pool=max,average",
    "data=shapes",
    "data.train_samples=100",
    "data.test_samples=40",
    "data.size=16",
    "model=convnet_small",
    "trainer.epochs=2",
    "trainer.batch_size=20",
    "trainer.threads=1",
]
SEARCH = ["--param", "optimizer.lr=log(0.01,1.0)", "--trials", "4", "--eta", "2"]


def results(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder in which a search was killed in the middle and given again; what was done then, and what it said."""
    folder = tmp_path_factory.mktemp("tuned")
    command = [sys.executable, "-m", "poolbench", "tune", *SMALL, *SEARCH]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(results(folder)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = results(folder)
    done = run_poolbench(folder, "tune", *SMALL, *SEARCH)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, before, done.stdout


def test_killed_and_given_again_it_ends_and_trains_nothing_twice(tuned):
    folder, before, text = tuned
    after = results(folder)
    assert 3 <= len(before) < len(after) == 2 * (4 + 2)
    assert {name: after[name] for name in before} == before
    assert "rung 2 of 2" in text
    for name in after:
        record = read_record(folder / "runs" / name)
        assert record.result["test_accuracy"] is None
        assert record.result["validation_accuracy"] is not None


def test_it_ends_in_the_winner_of_each_and_fits_a_terminal(tuned):
    folder, _, text = tuned
    entries = yaml.safe_load((folder / "tuned/default.yaml").read_text())
    assert [entry["match"]["pool"] for entry in entries] == ["max", "average"]
    table = text.partition("validation  ")[2]
    for entry in entries:
        assert str(entry["set"]["optimizer.lr"]) in table
    assert "optimizer=tuned" in text
    assert "\x1b" not in text
    shown = [line for line in text.splitlines() if not line.startswith("[")]  # run_ids are as long as they are
    assert max(map(len, shown)) <= 120


def test_given_once_more_it_trains_nothing_and_leaves_the_same_file(tuned, monkeypatch, capsys):
    folder, _, _ = tuned
    monkeypatch.chdir(folder)
    before, file = results(folder), (folder / "tuned/default.yaml").read_bytes()
    assert main(["tune", *SMALL, *SEARCH]) == 0
    assert results(folder) == before
    assert (folder / "tuned/default.yaml").read_bytes() == file
    assert main(["tune", *SMALL, *SEARCH, "--plan"]) == 0
    assert "every rung is done" in capsys.readouterr().out


def test_a_sweep_takes_the_winners_and_reports_both_views(tuned):
    folder, _, _ = tuned
    words = [*SMALL, "optimizer=sgd,tuned", "--baseline=average"]
    done = run_poolbench(folder, "sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (folder / "report").glob("grid-*")
    summary = (report / "summary.md").read_text()
    same, own = summary.split("2 epochs, tuned\n")
    assert "The same recipe for every pool: optimizer.lr=0.1" in same
    assert "optimizer.lr in log(0.01,1.0); 4 trials a pool" in own
    for table in (same, own):
        assert table.count("| max |") == table.count("| average (baseline) |") == 1


def test_the_plan_shows_rungs_and_budget_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *SMALL, *SEARCH, "--plan"]) == 0
    text = capsys.readouterr().out
    assert "4 trials each, 1 epoch: 8 cells" in text
    assert "2 trials each, 2 epochs: 4 cells" in text
    assert "in all 12 cells, 16 epochs, 8 epochs a treatment" in text
    assert "done before: 0 of 8 cells of rung 1" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--param"]),
        (["--param", "optimizer.lr=lag(0.1,1)"], ["lag(0.1,1)", "log(0.01,1.0)"]),
        (["--param", "optimizer.lrs=0.1,1"], ["optimizer.lrs", "'optimizer.lr'"]),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_winners_that_cannot_be_read_is_said_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned/default.yaml").write_text("precious notes")
    assert main(["tune", *SMALL, *SEARCH]) == 2
    assert "default.yaml" in capsys.readouterr().err
    assert (tmp_path / "tuned/default.yaml").read_text() == "precious notes"
    assert not (tmp_path / "runs").exists()


def warnings(rate, accuracies, images):
    """What is said of a winner at ``rate``, with the ``accuracies`` of the last rung, the winner's first."""
    search = make_search(["pool=max", *SMALL[1:]], ["optimizer.lr=log(0.01,1.0)"])
    scores = {trial: Score(accuracy, 1.0, images) for trial, accuracy in enumerate(accuracies)}
    return _warnings(search, Outcome(search.treatments[0], [(rate,)], [scores], 0, ()))


def test_a_winner_at_an_edge_or_within_noise_is_warned_of():
    assert warnings("0.1", [0.8, 0.7, None], 5000) == []
    (edge,) = warnings("0.011", [0.8, 0.7], 5000)
    assert "lower edge" in edge
    (noise,) = warnings("0.1", [0.8, 0.7, 0.79, None], 100)  # one standard error is 4 points
    assert "1 of 3 others" in noise
    assert "4.0 points" in noise
