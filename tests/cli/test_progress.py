"""What a sweep shows while it runs, where it cannot redraw the terminal: a line an epoch, a line a finished cell."""

import io
import re

import pytest
from rich.console import Console

from poolbench.cli.progress import SweepProgress, Terminal
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
    assert line.startswith("[0/2] max, seed 0, convnet, shapes  epoch")
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
    assert "[1/2] max, seed 0, convnet, shapes done" in text
    assert "[2/2] average, seed 0, convnet, shapes failed: no luck" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_a_cell_in_a_line_with_its_seed(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    screen = Terminal(console)
    name = "strided_conv(kernel_size=2,norm=false,activation=false), seed 17, convnet(25-46,depths=2-2), shapes"
    with screen:
        screen.table("3 of 6 done", [(name, "12.5/20", "98.7 %", "12345", "1:02:03")])
        text = console.file.getvalue()
    assert ", seed 17" in text
    assert "1:02:03" in text
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()) <= width


def test_cells_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(["pool=max", "optimizer.lr=0.1,0.2"])
    names = SweepProgress(plan, done=0).names
    assert len(set(names.values())) == 2
    assert all(name.startswith("max, seed 0, convnet, shapes, ") for name in names.values())


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
