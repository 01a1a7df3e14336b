"""`poolbench plan`: cells, states and costs as a user sees them; and that what is added to a sweep is all it trains."""

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from poolbench.cli.main import main
from poolbench.cli.plan import _size

TINY = [
    *("data.train_samples=120", "data.test_samples=40", "model=convnet_small", "model.widths=[4,4,8]"),
    *("trainer.epochs=2", "trainer.batch_size=20", "trainer.threads=1"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which one cell, max with seed 0, was trained."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "pool=max", *TINY]) == 0
    return folder


@pytest.fixture
def plan(trained, monkeypatch, capsys):
    """Runs the command and gives what it prints."""
    monkeypatch.chdir(trained)
    capsys.readouterr()

    def plan(*arguments):
        assert main(["plan", *arguments]) == 0
        return capsys.readouterr().out

    return plan


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_it_shows_cells_states_and_what_the_rest_should_cost(plan):
    text = plan("pool=max,lp", "seeds=2", "model=lenet", *TINY[:2], *TINY[4:], "sweep.workers=2")
    assert "4 cells: 4 new" in text
    assert "nothing like it was trained here yet, so no estimate" in text
    text = plan("pool=max,lp", "seeds=2", *TINY, "sweep.workers=2")
    cells, counts, cost, basis = text.splitlines()[1:5], *text.splitlines()[5:]
    assert [line.split()[0] for line in cells] == ["done", "new", "new", "new"]
    assert counts == "4 cells: 1 done, 3 new"
    assert cost.startswith("left: about 0:0")
    assert "with 2 workers" in cost
    assert "training FLOPs" in cost
    assert "kB of checkpoints" in cost
    assert basis == "told from like cells in runs_dir, of another pool (2), other seeds (1)"
    assert plan("pool=max", *TINY).splitlines()[-1] == "1 cell: 1 done"


def test_what_it_prints_makes_the_same_cells(plan):
    text = plan("pool=max,lp", "seeds=2", *TINY, "optimizer.lr=0.1,0.2")
    common = shlex.split(text.splitlines()[0].partition(": ")[2])
    for line in text.splitlines()[1:9]:
        name, hashed, options = re.fullmatch(r"\w+ +(.+?) +([0-9a-f]{10})  (.+)", line).groups()
        (row,) = [row for row in plan(*common, *shlex.split(options)).splitlines() if hashed in row]
        assert name in row


def test_it_fits_a_terminal_and_is_plain_when_piped(plan, monkeypatch):
    line = [
        "pool=max,overlapping",
        "seeds=2",
        *TINY[:2],
        *TINY[4:],
        "optimizer.lr=0.1,0.0123456789",
        "model=lenet,resnet",
    ]
    line += ["sweep.sample=10"]
    piped = plan(*line)
    assert len(piped.splitlines()) == 1 + 10 + 3
    assert max(len(row) for row in piped.splitlines()) > 80
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", Terminal())
    main(["plan", *line])
    shown = sys.stdout.getvalue()
    assert all(len(row) <= 80 for row in shown.splitlines()), shown
    assert shown.split() == piped.split()


def test_json_says_the_same_to_a_script(plan):
    content = json.loads(plan("pool=max,lp", "seeds=2", "trainer.keep_memory=true,false", *TINY, "--json"))
    assert content["sweep"] == "grid"
    assert content["counts"] == {"done": 1, "new": 3}
    assert len(content["notes"]) == 1
    assert content["notes"][0].startswith("4 cells that are others in other words left out")
    rows = {row["run_id"]: row for row in content["cells"]}
    assert len(rows) == 4
    done = [row for row in rows.values() if row["state"] == "done"]
    assert [(row["seconds"], row["train_flops"], row["basis"]) for row in done] == [(None, None, None)]
    new = [row for row in rows.values() if row["state"] == "new"]
    assert {row["basis"] for row in new} == {"other seeds", "another pool"}
    left = content["left"]
    assert left["cells"] == 3
    assert left["cells_without_estimate"] == 0
    assert left["seconds_of_work"] == pytest.approx(sum(row["seconds"] for row in new))
    assert left["train_flops"] == pytest.approx(sum(row["train_flops"] for row in new))
    (result,) = [json.loads(path.read_text()) for path in Path("runs").glob("*/result.json")]
    assert {row["train_flops"] for row in new} == {result["train_flops"]}
    none = json.loads(plan("pool=max", *TINY, "--json"))["left"]
    assert (none["cells"], none["seconds"], none["train_flops"], none["cells_without_estimate"]) == (0, 0, 0, 0)


def test_a_note_is_shown(plan):
    assert "note: sweep.sample=2: 2 of 4 cells" in plan("pool=max,lp", "seeds=2", *TINY, "sweep.sample=2")


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5.6e10, "56 GB"), (3e15, "3e+03 TB")]
)
def test_sizes_in_words(count, words):
    assert _size(count) == words


def test_a_pool_and_a_seed_that_are_added_are_all_that_is_trained(trained, tmp_path, monkeypatch, capsys):
    """By the real sweep; an archive of published results lies beside, with all of the cells."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(trained / "runs")

    def contents():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((trained / "runs").glob("*/*"))}

    before = contents()
    assert main(["collect", "runs", "--output", "results/mine"]) == 0
    capsys.readouterr()
    assert main(["sweep", "pool=max,average", "seeds=2", *TINY]) == 0
    assert "4 cells, 1 done before" in capsys.readouterr().out
    after = contents()
    assert {path: after[path] for path in before} == before
    assert len(list(Path("runs").glob("*/result.json"))) == 4
    assert main(["sweep", "pool=max,average", "seeds=2", *TINY]) == 0
    assert "4 cells, 4 done before" in capsys.readouterr().out
    assert contents() == after
    # What was published elsewhere is no run: without the records here, the cell is to be trained.
    assert main(["plan", "pool=max", *TINY, "runs_dir=others"]) == 0
    assert "1 cell: 1 new" in capsys.readouterr().out
