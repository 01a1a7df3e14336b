"""`poolbench status` in a pipe, in a terminal, for scripts, and while it watches."""

import json
import os
import threading

import pytest

from poolbench.cli import status
from poolbench.cli.main import main
from poolbench.records import ownership
from tests.report.synthetic import make_config, make_runs, write_cell

SWEEP = ["pool=max,average", "seeds=2", "data.train_samples=200", "data.test_samples=20", "model=convnet_small"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A done, a failed, an interrupted and a running cell, and a record set aside."""
    monkeypatch.chdir(tmp_path)
    folder = make_runs(tmp_path / "runs", ["max"], 1)
    write_cell(folder, make_config("average", run_id="average-s0"), state="failed")
    write_cell(folder, make_config("lp", run_id="lp-s0"), state="running")
    running = write_cell(
        folder, make_config("lp", 1, run_id="lp-convnet-shapes-head=attention-s1-0123abcdef"), "running"
    )
    news = {"epoch": 2.25, "seconds_left": 100.0, "train_accuracy": 0.5, "images_per_second": 1234.0}
    (running / "status.json").write_text(json.dumps(json.loads((running / "status.json").read_text()) | news))
    assert ownership.Ownership(running).acquire()
    write_cell(folder, make_config("lp", 2, run_id="lp-s2")).rename(folder / "lp-s2.damaged-1")
    return folder


def test_a_folder_is_listed_with_reasons_and_totals(runs, capsys):
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for words in (
        "epoch 2.2/8  train 50.0 %  1,234/s  1:40 left",
        "failed      average, seed 0",
        "it broke",
        "set aside",
    ):
        assert words in text, words
    assert "4 cells: 1 running, 1 interrupted, 1 failed, 1 set aside, 1 done" in text
    assert "about 1:40 left" in text


def test_a_terminal_gets_lines_of_its_width(runs, capsys, monkeypatch):
    monkeypatch.setattr(status, "_width", lambda: 80)
    assert main(["status", "runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if line.startswith("running")]
    assert line.startswith("running     lp, seed 1, convnet, cifar10")
    assert "abcdef" in line  # the hash tells cells apart
    assert "1:40 left" in lines[lines.index(line) + 1]  # beside the name there is no room


def test_scripts_get_a_list_of_cells_or_the_totals(runs, capsys):
    assert main(["status", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = (
        "run_id state folder epoch epochs share_done train_accuracy seconds_left test_accuracy error images_per_second"
    )
    assert all(set(row) == {*keys.split(), "name", "cell_seconds", "finished", "host"} for row in rows)
    assert {row["state"] for row in rows} == {"done", "failed", "running", "interrupted", "set aside"}
    assert main(["status", "--json", "--totals"]) == 0
    totals = json.loads(capsys.readouterr().out)
    assert totals["counts"] == {"running": 1, "interrupted": 1, "failed": 1, "set aside": 1, "done": 1}
    assert (totals["cells"], totals["images_per_second"], totals["seconds_left"]) == (4, 1234.0, 100.0)
    assert totals["cells_per_hour"] > 0


def test_a_sweep_shows_exactly_its_cells_with_those_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--json", *SWEEP]) == 0
    cells = [row["run_id"] for row in json.loads(capsys.readouterr().out)]
    assert len(cells) == 4
    make_runs(tmp_path / "runs", ["max"], 1)  # of another sweep
    config = make_config("max", run_id=cells[0])
    write_cell(tmp_path / "runs", config, cell_seconds=40.0)
    write_cell(tmp_path / "runs", make_config("average", run_id=cells[1]), state="failed")
    assert main(["status", *SWEEP, "sweep.workers=2"]) == 0
    text = capsys.readouterr().out
    assert "4 cells: 2 queued, 1 failed, 1 done" in text
    assert "about 0:40 left" in text  # two cells of 40 s, two at once
    assert main(["status", *SWEEP, "sweep.workers=1"]) == 0
    assert "about 1:20 left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b"], "one folder"),
        (["runs", "pool=max"], "runs_dir=runs"),
        (["nothing"], "nothing was trained here"),
        (["pool=maxx"], "'max'"),
    ],
)
def test_what_cannot_be_looked_at_is_said(runs, words, message, capsys):
    assert main(["status", *words]) == 2
    assert message in capsys.readouterr().err


def test_no_line_is_wider_than_a_terminal_and_no_seed_is_cut_off(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "_width", lambda: 80)
    pool = "strided_conv(kernel_size=2,norm=false,activation=false,padding=1,bias=false)"
    for seed in (0, 12):
        config = make_config(pool, seed, run_id=f"strided-s{seed}-{seed:010}", names__model="convnet(widths=[25,46])")
        write_cell(tmp_path / "runs", config, state="done" if seed else "failed")
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for seed in (0, 12):
        assert sum(f", seed {seed}" in line and f"{seed:06}" in line for line in lines) == 1


def test_watching_waits_for_the_first_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            (tmp_path / "runs").mkdir()
        if len(looks) == 6:
            make_runs(tmp_path / "runs", ["max"], 1)

    monkeypatch.setattr(status.time, "sleep", sleep)
    assert main(["status", "--watch"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "runs: waiting for the first cell"
    assert len(looks) == 6


def finish(runs):
    """What the running cell's process does when it ends."""
    (folder,) = runs.glob("lp-convnet*")
    write_cell(runs, make_config("lp", 1, run_id=folder.name))
    (folder / "claim.0").unlink()


def test_watching_a_pipe_says_what_changed_and_ends_when_nothing_runs(runs, monkeypatch, capsys):
    monkeypatch.setattr(status, "REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(status, "PATIENCE_SECONDS", 0.05)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 20:
            finish(runs)

    monkeypatch.setattr(status.time, "sleep", sleep)
    monkeypatch.setattr(status.time, "monotonic", lambda: 0.01 * len(looks))
    assert main(["status", "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # before and after, however often it looked
    assert "1 running" in lines[0]
    assert "2 done" in lines[1]
    assert "\x1b" not in "".join(lines)
    assert len(looks) > 20  # it waited a little for a next cell


def test_watching_ends_at_once_where_nothing_runs_and_waits_for_what_is_queued(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_runs(tmp_path / "runs", ["max"], 1)
    monkeypatch.setattr(status.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    assert main(["status", "--watch"]) == 0
    assert "1 done" in capsys.readouterr().out

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    assert main(["status", "--watch", *SWEEP]) == 0  # Ctrl-C, quietly
    streams = capsys.readouterr()
    assert streams.out.splitlines() == ["4 cells: 4 queued; 0 of 2 blocks whole"]
    assert streams.err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_watching_in_a_terminal_redraws_within_its_size(runs, tmp_path):
    import fcntl
    import struct
    import subprocess
    import sys
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    seen = b""

    def read():
        nonlocal seen
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                return
            if not part:
                return
            seen += part
            if b"1 running" in seen and not finished.is_set():
                finished.set()
                finish(runs)

    finished = threading.Event()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    code = (
        "import sys; from poolbench.cli import status; status.PATIENCE_SECONDS = 0.1; status.REDRAW_SECONDS = 0.05\n"
        "from poolbench.cli.main import main; sys.exit(main(['status', '--watch']))"
    )
    watch = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=theirs, stdin=theirs, env={**environment, "TERM": "xterm"}
    )
    os.close(theirs)
    assert watch.wait(120) == 0
    reader.join(20)
    assert finished.is_set()
    last = seen.decode().rpartition("runs")[2]
    assert "2 done" in last
    assert b"\x1b[1A" in seen or b"\x1b[2K" in seen  # it went back over what it had drawn
