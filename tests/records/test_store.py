"""Files are whole or not there, and a cell has one owner at a time, whoever dies when."""

import errno
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolbench.records import store
from poolbench.records.store import Claim, current_claim, is_alive, process_start

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell start times")

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from poolbench.records.store import Claim
print(Claim(Path(sys.argv[1])).acquire(), flush=True)
time.sleep(100)
"""

# Six processes reach for the same claims at the same instants; then three take one claim in turns.
HAMMER = """
import multiprocessing, sys
from pathlib import Path
from poolbench.records.store import Claim

def reach(folder, barrier, wins, me):
    for number in range(60):
        barrier.wait()
        claim = Claim(folder / str(number))
        wins[6 * number + me] = claim.acquire()
        assert wins[6 * number + me] == (claim.path is not None and claim.path.exists())
    barrier.wait()  # or those that have ended would be passed over

def once(folder, turns, overlaps):
    claim = Claim(folder)
    if claim.acquire():
        inside = folder / "inside"
        try:
            inside.open("x").close()
        except FileExistsError:
            overlaps.value += 1
        turns.value += 1
        inside.unlink(missing_ok=True)
        claim.release()

def in_turns(folder, turns, overlaps):
    while turns.value < 80:  # each time by a process that ends right after it has released the claim
        start(once, [(folder, turns, overlaps)])

def start(function, arguments):
    workers = [context.Process(target=function, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers)

context = multiprocessing.get_context("fork")
folder = Path(sys.argv[1])
for number in range(60):
    (folder / str(number)).mkdir()
    if number % 2:  # a dead owner's claim is there already
        (folder / str(number) / "claim.0").write_text((folder / "dead").read_text())
barrier, wins = context.Barrier(6, timeout=60), context.Array("i", 360, lock=False)
start(reach, [(folder, barrier, wins, me) for me in range(6)])
print({sum(wins[6 * number : 6 * number + 6]) for number in range(60)})

(folder / "turns").mkdir()
turns, overlaps = (context.Value("i", 0, lock=False) for _ in range(2))
start(in_turns, [(folder / "turns", turns, overlaps)] * 3)
print(overlaps.value, sorted(path.name for path in (folder / "turns").iterdir()))
"""

FULL_DISK = """
import resource, sys, yaml
from pathlib import Path
from poolbench.records import store
folder = Path(sys.argv[1])
store.write_text(folder / "file", "old")
(folder / "cell").mkdir()
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # no file may grow beyond 10 bytes: as good as a full disk
failed = 0
for write in (
    lambda: store.write_text(folder / "file", "new" * 100000),
    lambda: store.write_json(folder / "file", ["new"] * 100),
    lambda: store.write_yaml(folder / "file", {"new": "x" * 100}),
    lambda: store.Claim(folder / "cell").acquire(),
):
    try:
        write()
    except OSError:
        failed += 1
print(failed, sorted(str(p.relative_to(folder)) for p in folder.rglob("*")), (folder / "file").read_text())
"""


def run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def another_owner(tmp_path):
    """Starts a process that claims a folder and waits; gives the process, to be killed."""
    started = []

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM_AND_WAIT, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def claim_of(folder, number=0, age=0.0, **changes):
    """A claim that lies in ``folder``, ours but for ``changes`` and ``age`` seconds old."""
    claim = Claim(folder / "sample")
    claim.folder.mkdir()
    assert claim.acquire()
    owner = json.loads(claim.path.read_text())
    claim.release()
    claim.folder.rmdir()
    path = folder / f"claim.{number}"
    path.write_text(json.dumps({**owner, **changes}))
    os.utime(path, (time.time() - age,) * 2)
    return path


# --- writing


def test_a_file_takes_its_place_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    store.write_text(path, "é one\n")
    with store.replacing(path) as file:
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
        with store.replacing(path) as file:
            file.write(b"half of it")
            raise error

    with pytest.raises(error if isinstance(error, type) else OSError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"


def test_a_full_disk_leaves_old_files_whole_and_no_claim_behind(tmp_path):
    pytest.importorskip("resource", reason="no limit on the size of files here")
    assert run(FULL_DISK, tmp_path) == "4 ['cell', 'file'] old\n"


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
        store.write_text(path, "new", guard=guard)
    assert [p.name for p in tmp_path.iterdir()] == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"
    for write in (store.write_json, store.write_yaml):
        with pytest.raises(NotAnyMore):
            write(path, {"new": 1}, guard=lambda: (_ for _ in ()).throw(NotAnyMore))
    store.write_text(path, "new", guard=lambda: None)
    assert path.read_text() == "new"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number(tmp_path, value):
    store.write_json(tmp_path / "file", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "file", {"loss": [value]})
    assert json.loads((tmp_path / "file").read_text()) == {"loss": 1.0}
    assert len(list(tmp_path.iterdir())) == 1


def test_yaml_keeps_the_order_and_every_value(tmp_path):
    import yaml

    value = {"z": 1, "a": [1e-05, 0.1, 1e22, math.inf, None, True, "1", "null", "é: #"], "m": {}}
    store.write_yaml(tmp_path / "file", value)
    read = yaml.safe_load((tmp_path / "file").read_text(encoding="utf-8"))
    assert read == value
    assert list(read) == list(value)


def test_metrics_are_read_back_to_the_last_digit(tmp_path):
    store.write_metrics(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "epoch\n"
    store.write_metrics(tmp_path / "some.csv", [{"epoch": 1, "loss": 0.1 + 0.2, "validation": None}])
    assert (tmp_path / "some.csv").read_text() == "epoch,loss,validation\n1,0.30000000000000004,\n"


def test_what_a_killed_process_left_half_written_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".result.json.123-abcdef.tmp").write_text("half")
    for name in ("result.json", "notes.tmp", ".hidden"):
        (tmp_path / name).write_text("whole")
    store.sweep_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "notes.tmp", "result.json"]


HALF_WRITTEN = """
import os, signal, sys
from pathlib import Path
from poolbench.records import store
with store.replacing(Path(sys.argv[1]) / "file") as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_proc
def test_in_a_shared_folder_only_what_the_dead_of_this_host_left_is_swept(tmp_path):
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(tmp_path)], timeout=200)
    (left,) = tmp_path.iterdir()
    elsewhere = left.name[:-14] + ("0000" if left.name[-14:-10] != "0000" else "ffff") + left.name[-10:]
    (tmp_path / elsewhere).write_text("half")
    (tmp_path / "notes.tmp").write_text("whole")
    with store.replacing(tmp_path / "another") as file:
        file.write(b"mine")
        store.sweep_abandoned(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([elsewhere, "another", "notes.tmp"])


def test_what_a_process_left_that_was_killed_after_its_last_word_is_tidied(tmp_path):
    claim_of(tmp_path, pid=2**22 + 1)
    (tmp_path / ".status.json.123-abcdef.tmp").write_text("half")
    (tmp_path / "result.json").write_text("whole")
    store.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    store.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    store.tidy(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_live_owner_is_not_tidied(tmp_path, another_owner):
    another_owner(tmp_path)
    (tmp_path / ".status.json.123-abcdef.tmp").write_text("half")
    store.tidy(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".status.json.123-abcdef.tmp", "claim.0"]


def test_setting_aside_numbers_and_deletes_nothing(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "cell").mkdir()
        (tmp_path / "cell" / "file").write_text(str(number))
        assert store.set_aside(tmp_path / "cell") == tmp_path / f"cell.damaged-{number}"
    assert not (tmp_path / "cell").exists()
    assert [(tmp_path / f"cell.damaged-{n}" / "file").read_text() for n in (1, 2, 3)] == ["1", "2", "3"]


# --- owning


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_of_many_at_the_same_instant_one_owns_a_cell_and_nobody_before_it_is_released(tmp_path):
    dead = claim_of(tmp_path, pid=2**22 + 1)
    dead.rename(tmp_path / "dead")
    assert run(HAMMER, tmp_path).splitlines() == ["{1}", "0 []"]


def test_a_live_owner_is_respected_and_a_killed_one_is_passed_over_at_once(tmp_path, another_owner):
    owner = another_owner(tmp_path)
    assert not Claim(tmp_path).acquire()
    os.utime(tmp_path / "claim.0", (0, 0))  # however long it has been silent: here it can be seen to live
    if Path("/proc/self/stat").exists():
        assert not Claim(tmp_path).acquire()
    owner.kill()
    owner.wait()
    claim = Claim(tmp_path)
    assert claim.acquire()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claim.0", "claim.1"]
    assert current_claim(tmp_path) == (1, json.loads((tmp_path / "claim.1").read_text()))
    assert not Claim(tmp_path).acquire()
    claim.release()
    assert list(tmp_path.iterdir()) == []
    assert not claim.holds()
    claim.release()  # once more does no harm
    assert claim.acquire()


@needs_proc
def test_a_zombie_owner_is_dead(tmp_path, another_owner):
    owner = another_owner(tmp_path)
    owner.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(owner.pid) is None
    assert Claim(tmp_path).acquire()


@needs_proc
def test_a_later_process_of_the_same_number_is_another_owner(tmp_path):
    path = claim_of(tmp_path)
    assert is_alive(json.loads(path.read_text()), path)
    path = claim_of(tmp_path, start=process_start(os.getpid()) - 1)
    assert not is_alive(json.loads(path.read_text()), path)
    assert Claim(tmp_path).acquire()


@pytest.mark.parametrize("elsewhere", [{"host": "another-host"}, {"boot": "another boot or container"}])
def test_elsewhere_an_owner_is_alive_as_long_as_it_is_heard_of(tmp_path, elsewhere):
    claim_of(tmp_path, age=store.STALE_SECONDS - 20, pid=2**22 + 1, **elsewhere)
    assert not Claim(tmp_path).acquire()
    claim_of(tmp_path, age=store.STALE_SECONDS + 20, pid=os.getpid(), **elsewhere)
    assert Claim(tmp_path).acquire()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "7", "[1]", '"x"', '{"host": 1}', "[" * 100_000, "\0"])
def test_a_claim_that_says_nothing_counts_for_the_instant_in_which_it_is_written(tmp_path, text):
    (tmp_path / "claim.0").write_text(text)
    assert not Claim(tmp_path).acquire()
    os.utime(tmp_path / "claim.0", (time.time() - 2 * store.HEARTBEAT_SECONDS,) * 2)
    claim = Claim(tmp_path)
    assert claim.acquire()
    claim.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pid", ["../self", None, 1.5])
def test_a_claim_of_no_process_number_is_garbage(tmp_path, pid):
    path = claim_of(tmp_path, pid=pid)
    assert current_claim(tmp_path) == (0, {})
    os.utime(path, (time.time() - 2 * store.HEARTBEAT_SECONDS,) * 2)
    assert Claim(tmp_path).acquire()


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_heartbeat_of_the_day_after_tomorrow_grows_stale_as_any_other(tmp_path, elsewhere):
    # A clock was set back, or was wrong when the claim was made.
    path = claim_of(tmp_path, age=-48 * 3600, host="another-host") if elsewhere else tmp_path / "claim.0"
    if not elsewhere:
        path.write_text("")
        os.utime(path, (time.time() + 48 * 3600,) * 2)
    assert not Claim(tmp_path).acquire()  # whoever it was may live
    patience = store.STALE_SECONDS if elsewhere else store.HEARTBEAT_SECONDS
    assert path.stat().st_mtime < time.time() + patience
    os.utime(path, (path.stat().st_mtime - patience,) * 2)  # and so long nothing is heard of it
    assert Claim(tmp_path).acquire()


def test_a_heartbeat_moves_the_claims_time(tmp_path):
    claim = Claim(tmp_path)
    claim.beat()  # nothing to show yet
    claim.acquire()
    os.utime(claim.path, (1, 1))
    claim.beat()
    assert claim.path.stat().st_mtime > time.time() - 60
    claim.path.unlink()
    claim.beat()  # a folder that was deleted under us is no reason to stop


def test_who_slept_and_was_taken_for_dead_leaves_the_new_owners_claim(tmp_path, monkeypatch):
    sleeper = Claim(tmp_path)
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another-host")
        sleeper.acquire()
    os.utime(sleeper.path, (0, 0))
    assert sleeper.holds()
    successor = Claim(tmp_path)
    assert successor.acquire()
    assert not sleeper.holds()
    assert successor.holds()
    sleeper.release()
    assert successor.holds()
    assert [p.name for p in tmp_path.iterdir()] == ["claim.1"]
    assert not Claim(tmp_path).acquire()


def test_who_set_its_folder_aside_leaves_the_claim_of_who_began_anew(tmp_path, another_owner):
    folder = tmp_path / "cell"
    folder.mkdir()
    claim = Claim(folder)
    claim.acquire()
    store.set_aside(folder)
    folder.mkdir()
    another_owner(folder)
    claim.release()
    assert not claim.holds()
    assert [p.name for p in folder.iterdir()] == ["claim.0"]
    assert list((tmp_path / "cell.damaged-1").iterdir()) == []  # a claim means nothing there
    assert not Claim(folder).acquire()


def test_who_was_slow_to_pass_over_a_dead_owner_notices_that_others_were_there(tmp_path, monkeypatch):
    claim_of(tmp_path, pid=2**22 + 1)
    others = []

    def slow(owner, claim):
        alive = is_alive(owner, claim)
        if not others:  # while we think: another takes the cell, ends it, and a third begins anew
            others.append(None)
            second, third = Claim(tmp_path), Claim(tmp_path)
            assert second.acquire()
            second.release()
            assert third.acquire()
            others.append(third)
        return alive

    monkeypatch.setattr(store, "is_alive", slow)
    assert not Claim(tmp_path).acquire()
    assert [p.name for p in tmp_path.iterdir()] == ["claim.0"]
    assert others[1].path.exists()


def test_a_folder_that_is_set_aside_under_our_eyes_is_somebody_elses(tmp_path, monkeypatch):
    folder = tmp_path / "cell"
    folder.mkdir()

    def slow(where):
        found = current_claim(where)
        if where.exists():
            store.set_aside(where)
        return found

    monkeypatch.setattr(store, "current_claim", slow)
    assert not Claim(folder).acquire()
    assert [p.name for p in tmp_path.rglob("*")] == ["cell.damaged-1"]


def test_a_claim_that_cannot_be_removed_is_given_up_all_the_same(tmp_path, monkeypatch):
    claim = Claim(tmp_path)
    assert claim.acquire()

    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as there:
        there.setattr(Path, "unlink", refuse)
        claim.release()
    assert not claim.holds()


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="the system has no namespaces of time")
def test_who_counts_time_from_another_start_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    # In another namespace of time the same process seems to have started at another time.
    claim_of(tmp_path)
    ours = os.readlink
    elsewhere = "time:[1]"
    monkeypatch.setattr(os, "readlink", lambda path: elsewhere if str(path).endswith("ns/time") else ours(path))
    monkeypatch.setattr(store, "process_start", lambda pid: 1.0)
    assert not Claim(tmp_path).acquire()


def test_process_start_tells_one_process_from_the_next():
    if not Path("/proc/self/stat").exists():
        assert process_start(os.getpid()) == store.UNKNOWN
        return
    assert process_start(os.getpid()) == process_start(os.getpid()) > 0
    assert process_start(2**22 + 1) is None
    assert process_start(1) != process_start(os.getpid())


def test_without_proc_a_dead_process_is_still_known_for_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_PROC", tmp_path / "nothing")
    assert process_start(os.getpid()) == store.UNKNOWN
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    if os.name == "posix":
        assert process_start(child.pid) is None
    path = claim_of(tmp_path, pid=child.pid)
    assert (os.name == "posix") == (not is_alive(json.loads(path.read_text()), path))
    path = claim_of(tmp_path, age=store.STALE_SECONDS + 20)  # alive by its number, which may be a later process's
    assert not is_alive(json.loads(path.read_text()), path)


def test_a_claim_tells_who_owns_it(tmp_path):
    claim = Claim(tmp_path)
    claim.acquire()
    number, owner = current_claim(tmp_path)
    assert number == 0
    assert owner["pid"] == os.getpid()
    assert owner["host"] == socket.gethostname()
    assert current_claim(tmp_path / "nowhere") == (-1, None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_claim_that_is_a_pipe_is_garbage_and_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "claim.3")
    assert store.current_claim(tmp_path) == (3, {})
    with pytest.raises(ValueError, match=r"claim\.3 is no regular file"):
        store.small_text(tmp_path / "claim.3")
