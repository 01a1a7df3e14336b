"""What a sweep shows while it runs, where it cannot redraw the terminal: a line an epoch, a line a finished cell."""

import pytest

from poolbench.cli.progress import SweepProgress
from poolbench.records.store import write_json
from poolbench.sweep.plan import make_plan


@pytest.fixture
def shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return SweepProgress(make_plan(["pool=max,average", "trainer.epochs=4"]), done=0)


def status(progress, cell, epoch):
    cell.folder.mkdir(parents=True, exist_ok=True)
    row = {"state": "running", "epoch": epoch, "epochs": 4, "train_accuracy": 0.25, "images_per_second": 100.0}
    write_json(cell.folder / "status.json", row)
    progress.shown = 0.0  # as if some time had gone by
    progress.tick()


def test_a_finished_epoch_is_told_once_with_the_time_left(shown, capsys):
    cell = make_plan(["pool=max", "trainer.epochs=4"]).cells[0]
    shown.started(cell)
    status(shown, cell, 0.5)
    assert capsys.readouterr().out == ""
    status(shown, cell, 1.25)
    line = capsys.readouterr().out
    assert line.startswith(f"[0/2] {cell.run_id}")
    assert "epoch 1/4" in " ".join(line.split())
    assert "train 25.0 %" in " ".join(line.split())
    assert "left in all" in " ".join(line.split())
    status(shown, cell, 1.5)
    assert capsys.readouterr().out == ""


def test_a_cell_that_ends_is_counted(shown, capsys):
    first, second = make_plan(["pool=max,average", "trainer.epochs=4"]).cells
    for cell in (first, second):
        shown.started(cell)
    shown.ended(first, "done", "")
    shown.ended(second, "failed", "no luck")
    text = " ".join(capsys.readouterr().out.split())
    assert f"[1/2] {first.run_id} done" in text
    assert f"[2/2] {second.run_id} failed: no luck" in text
