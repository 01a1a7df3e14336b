"""How cells are getting on: their states, and what that comes to in time and throughput."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest

from poolbench.records import ownership
from poolbench.records.overview import cell_row, folder_rows, share_done, totals
from tests.report.synthetic import make_config, write_cell


def begun(runs, name, seed, **status):
    """A cell that this very process trains."""
    folder = write_cell(runs, make_config("max", seed, run_id=name), state="running")
    text = json.loads((folder / "status.json").read_text()) | {"epoch": 2.0, "epochs": 8, **status}
    (folder / "status.json").write_text(json.dumps(text))
    assert ownership.Ownership(folder).acquire()
    return folder


def row(state, run_id="x", **values):
    fields = dict.fromkeys(
        (
            "epoch",
            "epochs",
            "share_done",
            "train_accuracy",
            "seconds_left",
            "test_accuracy",
            "error",
            "images_per_second",
        )
    )
    return {"run_id": run_id, "state": state, "cell_seconds": None, "finished": None, **fields, **values}


def done(run_id, cell_seconds, ended=0.0):
    finished = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=ended)).isoformat()
    return row("done", run_id, cell_seconds=cell_seconds, finished=finished)


def test_every_state_has_its_row(tmp_path):
    write_cell(tmp_path, make_config("max", 0, run_id="done"))
    begun(tmp_path, "running", 1, seconds_left=90.0, images_per_second=500.0, train_accuracy=0.4)
    write_cell(tmp_path, make_config("max", 2, run_id="interrupted"), state="running")
    write_cell(tmp_path, make_config("max", 3, run_id="failed"), state="failed")
    (write_cell(tmp_path, make_config("max", 4, run_id="torn")) / "result.json").write_text("{")
    write_cell(tmp_path, make_config("max", 5, run_id="moved")).rename(tmp_path / "elsewhere")
    write_cell(tmp_path, make_config("max", 6, run_id="aside")).rename(tmp_path / "aside.damaged-1")
    (tmp_path / "no_record").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").write_text("")
    rows = {each["run_id"]: each for each in folder_rows(tmp_path)}
    assert {name: each["state"] for name, each in rows.items()} == {
        **{name: name for name in ("done", "running", "interrupted", "failed")},
        "torn": "damaged",
        "elsewhere": "damaged",
        "aside.damaged-1": "set aside",
    }
    assert rows["failed"]["error"] == "it broke"
    assert "result.json" in rows["torn"]["error"]
    assert "moved" in rows["elsewhere"]["error"]
    assert (rows["running"]["seconds_left"], rows["running"]["epochs"]) == (90.0, 8)
    assert rows["done"]["test_accuracy"] > 0.7
    assert rows["interrupted"]["images_per_second"] is None  # it was measured in another life
    counts = totals(rows.values())
    assert counts["cells"] == 6
    assert sum(counts["counts"].values()) == 7
    assert counts["images_per_second"] == 500.0


def test_a_cell_without_a_folder_is_queued(tmp_path):
    assert cell_row(tmp_path / "max-s0")["state"] == "queued"


def test_a_folder_that_cannot_be_read_is_said_so_and_hides_no_other(tmp_path):
    folder = write_cell(tmp_path, make_config("max", run_id="a"))
    write_cell(tmp_path, make_config("max", run_id="b"))
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").mkdir()  # as a disk that fails: an error of the system's
    first, second = folder_rows(tmp_path)
    assert first["state"] == "unreadable"
    assert first["error"]
    assert second["state"] == "done"


def test_done_cells_are_read_once(tmp_path):
    folder = write_cell(tmp_path, make_config("max"))
    known = {}
    (first,) = folder_rows(tmp_path, known)
    (folder / "result.json").write_text("{")
    assert folder_rows(tmp_path, known) == [first]
    assert folder_rows(tmp_path)[0]["state"] == "damaged"


def test_a_cell_that_has_only_just_begun_is_running_without_a_complaint(tmp_path):
    folder = tmp_path / "max-s0"
    folder.mkdir()
    assert ownership.Ownership(folder).acquire()
    assert cell_row(folder)["state"] == "running"
    assert cell_row(folder)["error"] is None


def test_the_claim_of_a_dead_process_is_none(tmp_path):
    folder = begun(tmp_path, "max-s0", 0)
    claim = json.loads((folder / "claim.0").read_text())
    assert claim["host"] == socket.gethostname()
    (folder / "claim.0").write_text(json.dumps(claim | {"start": 1.0}))
    assert cell_row(folder)["state"] == "interrupted"


def test_time_left_is_that_of_like_cells_over_how_many_run_at_once():
    kinds = {"a0": "a", "a1": "a", "a2": "a", "b0": "b", "b1": "b", "c0": "c"}
    rows = [done("a0", 100.0), done("b0", 300.0), row("queued", "a1"), row("queued", "b1")]
    assert totals(rows, kinds)["seconds_left"] == 400.0
    assert totals(rows, kinds, at_once=4)["seconds_left"] == 300.0  # no cell is quicker than itself
    # Of a kind that was never seen: the mean over cells.
    assert totals([*rows[:2], row("queued", "c0")], kinds)["seconds_left"] == 200.0
    # What an interrupted cell has done is done.
    interrupted = row("interrupted", "a2", epoch=3, epochs=4)
    assert totals([*rows[:2], interrupted], kinds)["seconds_left"] == 25.0
    running = [row("running", name, epoch=1, epochs=2, seconds_left=50.0) for name in ("a1", "a2")]
    assert totals([*rows[:2], *running, row("queued", "b1")], kinds, at_once=9)["seconds_left"] == 300.0
    assert totals([done("a0", 1000.0), *running, row("queued", "a9")], {**kinds, "a9": "a"})["seconds_left"] == 1000.0


def test_before_a_cell_is_done_running_ones_tell_what_one_takes():
    rows = [row("running", "a0", epoch=1, epochs=4, seconds_left=30.0), row("queued", "a1"), row("queued", "a2")]
    kinds = {"a0": "a", "a1": "a", "a2": "a"}
    assert totals(rows, kinds)["seconds_left"] == 30.0 + 40.0 + 40.0
    rows[0]["seconds_left"] = None
    assert totals(rows, kinds)["seconds_left"] is None


def test_of_epochs_that_differ_the_share_of_the_flops_counts():
    kinds = {"a0": "a", "a1": "a", "a2": "a"}
    interrupted = row("interrupted", "a1", epoch=3, epochs=4, share_done=0.4)
    assert totals([done("a0", 100.0), interrupted], kinds)["seconds_left"] == 60.0
    running = row("running", "a0", epoch=3, epochs=4, share_done=0.4, seconds_left=60.0)
    assert totals([running, row("queued", "a2")], kinds)["seconds_left"] == 60.0 + 100.0
    assert [share_done({"epoch": 1, "epochs": 4, "share_done": told}) for told in (None, 0.0, 1.0)] == [0.25, 0.0, 1.0]
    assert share_done({}) == 0.0


def test_a_folder_alone_knows_of_what_runs_and_of_nothing_else():
    running = row("running", "a", epoch=1, epochs=2, seconds_left=50.0)
    interrupted = row("interrupted", "b", epoch=1, epochs=2)
    assert totals([done("c", 1e6), running, interrupted])["seconds_left"] == 50.0
    assert totals([done("c", 1e6), interrupted])["seconds_left"] is None
    assert totals([done("c", 1.0)], {"c": "c"})["seconds_left"] == 0.0


def test_cells_an_hour_are_those_that_ended_in_the_last_hour_of_work():
    # Two at once, of a minute each.
    rows = [done(f"x{number}", 60.0, 60.0 * (number // 2)) for number in range(20)]
    assert totals(rows)["cells_per_hour"] == pytest.approx(120.0)
    # What was done on another day says nothing about today.
    old = [done(f"y{number}", 10.0, -86400.0 + number) for number in range(50)]
    assert totals([*old, *(done(f"x{n}", 60.0, 3600.0 + 60.0 * n) for n in range(60))])["cells_per_hour"] == 60
    assert totals([row("queued")])["cells_per_hour"] is None


@pytest.mark.parametrize("finished", ["", "yesterday", "9999-12-31T23:59:59-12:00", "2026-01-01", None])
def test_a_time_of_day_may_be_anything(finished):
    totals([{**done("x", 60.0), "finished": finished}, {**done("y", 1e29), "finished": "0001-01-01T00:00:00+14:00"}])


def test_from_a_second_of_work_nothing_is_said_of_an_hour():
    assert totals([done("a", 1.0, 0.0), done("b", 1.0, 1.0)])["cells_per_hour"] is None
