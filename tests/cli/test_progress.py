"""What a sweep shows while it runs, where it cannot redraw the terminal: a line an epoch, a line a finished cell."""

import pytest

from poolbench.cli.progress import SweepProgress
from poolbench.records.files import write_json
from poolbench.sweep.plan import make_plan


@pytest.fixture
def shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return SweepProgress(make_plan(["pool=max,average", "trainer.epochs=4"]), done=0)


def status(progress, cell, epoch, **more):
    cell.folder.mkdir(parents=True, exist_ok=True)
    row = {"state": "running", "epoch": epoch, "epochs": 4, "train_accuracy": 0.25, "images_per_second": 100.0}
    write_json(cell.folder / "status.json", row | more)
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


def test_time_left_is_reckoned_by_work_and_by_that_of_this_session(shown, capsys, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: shown.began + 100.0)
    first, second = make_plan(["pool=max,average", "trainer.epochs=4"]).cells
    shown.started(first)
    status(shown, first, 0, share_done=None)
    status(shown, first, 2, share_done=0.25)  # so much was kept of an earlier session
    status(shown, first, 3, share_done=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  - left in all")  # nothing is known of this session's speed
    assert lines[1].endswith("  10:00 left in all")  # a quarter of a cell took 100 seconds, and 1.5 are left
    shown.ended(first, "done", "")
    capsys.readouterr()
    shown.started(second)
    status(shown, second, 1, share_done=0.0)
    assert capsys.readouterr().out.endswith("  2:13 left in all\n")  # three quarters of a cell took 100 seconds
