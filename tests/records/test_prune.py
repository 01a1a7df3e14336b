"""Pruning takes what cells wrote and nobody needs any more, and nothing else."""

import contextlib
import json
import os

import pytest

from poolbench.records import ownership, prune
from poolbench.records.prune import removable, remove
from poolbench.records.read import read_record
from tests.report.synthetic import make_config, write_cell


def cell(runs, run_id, state="done", size=1000):
    folder = write_cell(runs, make_config("max", run_id=run_id), state=state)
    (folder / "checkpoint.pt").write_bytes(b"x" * size)
    (folder / "log.txt").write_text("printed\n")
    return folder


def prune_all(*paths, **options):
    found, kept = removable(paths, **options)
    return sum(remove(what) or 0 for what in found), kept


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_checkpoints_of_finished_cells_go_and_their_records_stay(tmp_path):
    folders = [cell(tmp_path, f"max-s{seed}") for seed in range(3)]
    before = [read_record(folder) for folder in folders]
    wanted = files(tmp_path) - {f"max-s{seed}/checkpoint.pt" for seed in range(3)}
    found, kept = removable([tmp_path])
    assert (sum(what.size for what in found), kept) == (3000, [])
    assert wanted < files(tmp_path)  # looking removes nothing
    assert prune_all(tmp_path) == (3000, [])
    assert files(tmp_path) == wanted
    assert [read_record(folder) for folder in folders] == before
    assert prune_all(tmp_path) == (0, [])


@pytest.mark.parametrize("state", ["running", "failed"])
def test_cells_that_are_not_done_keep_everything(tmp_path, state):
    folder = cell(tmp_path, "max-s0", state)
    before = files(tmp_path)
    freed, kept = prune_all(tmp_path, damaged=True, logs=True)
    assert (freed, files(tmp_path)) == (0, before)
    assert [path for path, _ in kept] == [folder / "checkpoint.pt"]


def test_a_record_that_cannot_be_read_keeps_everything(tmp_path):
    folder = cell(tmp_path, "max-s0")
    (folder / "result.json").write_text("{")
    cell(tmp_path, "max-s1").rename(tmp_path / "renamed")
    before = files(tmp_path)
    freed, kept = prune_all(tmp_path, damaged=True, logs=True)
    assert (freed, files(tmp_path), len(kept)) == (0, before, 2)


def test_a_cell_that_a_live_process_owns_keeps_everything(tmp_path):
    folder = cell(tmp_path, "max-s0")
    claim = ownership.Ownership(folder)
    assert claim.acquire()
    assert prune_all(tmp_path)[0] == 0
    claim.release()
    assert prune_all(tmp_path)[0] == 1000


def test_what_changed_between_looking_and_removing_stays(tmp_path):
    folders = [cell(tmp_path, f"max-s{seed}") for seed in range(3)]
    found, _ = removable([tmp_path])
    (folders[0] / "result.json").unlink()
    assert ownership.Ownership(folders[1]).acquire()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    folders[2].rename(elsewhere / folders[2].name)
    folders[2].symlink_to(elsewhere / folders[2].name)
    for what in found[:2]:
        assert remove(what) is None
    with contextlib.suppress(OSError):  # the system does not open what is a link now
        remove(found[2])
    assert all((folder / "checkpoint.pt").exists() for folder in folders)


def test_links_are_not_followed(tmp_path):
    precious = tmp_path / "elsewhere"
    cell(precious, "max-s0")
    runs = tmp_path / "runs"
    folder = cell(runs, "max-s1")
    (folder / "checkpoint.pt").unlink()
    (precious / "file").write_text("precious")
    (folder / "checkpoint.pt").symlink_to(precious / "file")
    (runs / "max-s0").symlink_to(precious / "max-s0")
    (runs / "max-s0.damaged-1").symlink_to(precious / "max-s0")
    aside = cell(runs, "max-s2").rename(runs / "max-s2.damaged-1")
    (aside / "error.txt").symlink_to(precious / "file")
    before = files(tmp_path)
    assert prune_all(runs, damaged=True, logs=True)[0] == len("printed\n")
    assert files(tmp_path) == before - {"runs/max-s1/log.txt"}


def test_records_set_aside_go_when_asked_unless_somebody_put_something_there(tmp_path):
    first, second, third = (cell(tmp_path, f"max-s{n}").rename(tmp_path / f"max-s{n}.damaged-1") for n in range(3))
    (first / ".result.json.123-abcdef.tmp").write_text("torn")
    (second / "notes.md").write_text("why it broke")
    (third / "claim.0").write_text(json.dumps(ownership._self_description()))
    before = files(tmp_path)
    assert prune_all(tmp_path) == (0, [])
    assert files(tmp_path) == before
    _, kept = prune_all(tmp_path, damaged=True)
    assert not first.exists()
    assert {path.split("/")[0] for path in files(tmp_path)} == {second.name, third.name}
    assert files(tmp_path) == {path for path in before if not path.startswith(first.name)}
    assert any("notes.md" in reason for _, reason in kept)


def test_whatever_else_lies_in_a_folder_stays(tmp_path):
    folder = cell(tmp_path, "max-s0")
    for name in ("checkpoint.pt.bak", "model.pt", "best_checkpoint.pt", ".checkpoint.pt"):
        (folder / name).write_text("mine")
    (tmp_path / "checkpoint.pt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint.pt").write_text("mine")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "checkpoint.pt").write_text("mine")
    before = files(tmp_path)
    prune_all(tmp_path, damaged=True, logs=True)
    assert files(tmp_path) == before - {"max-s0/checkpoint.pt", "max-s0/log.txt"}


def test_a_single_record_and_a_folder_may_be_given_together(tmp_path):
    folder = cell(tmp_path, "max-s0")
    found, _ = removable([folder, tmp_path])
    assert [what.names for what in found] == [("checkpoint.pt",)]
    with pytest.raises(ValueError, match="there is no folder"):
        removable([tmp_path / "nothing"])


def test_a_system_without_open_folders_is_served_as_well(tmp_path, monkeypatch):
    folder = cell(tmp_path, "max-s0")
    monkeypatch.setattr(prune.os, "supports_dir_fd", set())
    assert prune_all(tmp_path)[0] == 1000
    assert not (folder / "checkpoint.pt").exists()
    assert os.supports_dir_fd == set()
