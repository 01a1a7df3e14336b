"""Files are whole or not there, whoever dies when."""

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from poolbench.records import files

FULL_DISK = """
import resource, sys, yaml
from pathlib import Path
from poolbench.records import files, ownership
folder = Path(sys.argv[1])
files.write_text(folder / "file", "old")
(folder / "cell").mkdir()
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # no file may grow beyond 10 bytes: as good as a full disk
failed = 0
for write in (
    lambda: files.write_text(folder / "file", "new" * 100000),
    lambda: files.write_json(folder / "file", ["new"] * 100),
    lambda: files.write_yaml(folder / "file", {"new": "x" * 100}),
    lambda: ownership.Ownership(folder / "cell").acquire(),
):
    try:
        write()
    except OSError:
        failed += 1
print(failed, sorted(str(p.relative_to(folder)) for p in folder.rglob("*")), (folder / "file").read_text())
"""


def test_a_file_takes_its_place_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    files.write_text(path, "é one\n")
    with files.replacing(path) as file:
        file.write(b"two")
        assert path.read_text(encoding="utf-8") == "é one\n"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, OSError(errno.ENOSPC, "no space"), KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_what_goes_wrong_while_writing_leaves_all_as_it_was(tmp_path, error, existed):
    path = tmp_path / "file"
    if existed:
        path.write_text("old")

    def write():
        with files.replacing(path) as file:
            file.write(b"half of it")
            raise error

    with pytest.raises(error if isinstance(error, type) else OSError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"


def test_a_full_disk_leaves_old_files_whole_and_no_claim_behind(tmp_path):
    pytest.importorskip("resource", reason="no limit on the size of files here")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.stdout == "4 ['cell', 'file'] old\n", done.stderr


class NotAnyMore(Exception):
    pass


@pytest.mark.parametrize("existed", [True, False])
def test_a_guard_is_asked_last_and_keeps_a_file_from_its_place(tmp_path, existed):
    path = tmp_path / "file"
    if existed:
        path.write_text("old")

    def guard():
        (temporary,) = tmp_path.glob(".*.tmp")
        assert temporary.read_text() == "new"  # nothing is left to do but the rename
        raise NotAnyMore

    with pytest.raises(NotAnyMore):
        files.write_text(path, "new", guard=guard)
    assert [p.name for p in tmp_path.iterdir()] == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"
    for write in (files.write_json, files.write_yaml):
        with pytest.raises(NotAnyMore):
            write(path, {"new": 1}, guard=lambda: (_ for _ in ()).throw(NotAnyMore))
    files.write_text(path, "new", guard=lambda: None)
    assert path.read_text() == "new"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number(tmp_path, value):
    files.write_json(tmp_path / "file", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "file", {"loss": [value]})
    assert json.loads((tmp_path / "file").read_text()) == {"loss": 1.0}
    assert len(list(tmp_path.iterdir())) == 1


def test_yaml_keeps_the_order_and_every_value(tmp_path):
    import yaml

    value = {"z": 1, "a": [1e-05, 0.1, 1e22, math.inf, None, True, "1", "null", "é: #"], "m": {}}
    files.write_yaml(tmp_path / "file", value)
    read = yaml.safe_load((tmp_path / "file").read_text(encoding="utf-8"))
    assert read == value
    assert list(read) == list(value)


def test_metrics_are_read_back_to_the_last_digit(tmp_path):
    files.write_metrics(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "epoch\n"
    files.write_metrics(tmp_path / "some.csv", [{"epoch": 1, "loss": 0.1 + 0.2, "validation": None}])
    assert (tmp_path / "some.csv").read_text() == "epoch,loss,validation\n1,0.30000000000000004,\n"


def test_what_a_killed_process_left_half_written_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".result.json.123-abcdef.tmp").write_text("half")
    for name in ("result.json", "notes.tmp", ".hidden"):
        (tmp_path / name).write_text("whole")
    files.sweep_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "notes.tmp", "result.json"]


HALF_WRITTEN = """
import os, signal, sys
from pathlib import Path
from poolbench.records import files
with files.replacing(Path(sys.argv[1]) / "file") as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell start times")
def test_in_a_shared_folder_only_what_the_dead_of_this_host_left_is_swept(tmp_path):
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(tmp_path)], timeout=200)
    (left,) = tmp_path.iterdir()
    elsewhere = left.name[:-14] + ("0000" if left.name[-14:-10] != "0000" else "ffff") + left.name[-10:]
    (tmp_path / elsewhere).write_text("half")
    (tmp_path / "notes.tmp").write_text("whole")
    with files.replacing(tmp_path / "another") as file:
        file.write(b"mine")
        files.sweep_abandoned(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([elsewhere, "another", "notes.tmp"])
