"""A cell has one owner at a time, whoever dies when."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolbench.records import ownership, processes
from poolbench.records.ownership import Ownership, current_owner, is_alive
from poolbench.records.processes import process_start

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell start times")

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from poolbench.records.ownership import Ownership
print(Ownership(Path(sys.argv[1])).acquire(), flush=True)
time.sleep(100)
"""

# Six processes reach for the same claims at the same instants; then three take one claim in turns.
HAMMER = """
import multiprocessing, sys
from pathlib import Path
from poolbench.records.ownership import Ownership

def reach(folder, barrier, wins, me):
    for number in range(60):
        barrier.wait()
        claim = Ownership(folder / str(number))
        wins[6 * number + me] = claim.acquire()
        assert wins[6 * number + me] == (claim.path is not None and claim.path.exists())
    barrier.wait()  # or those that have ended would be passed over

def once(folder, turns, overlaps):
    claim = Ownership(folder)
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
    claim = Ownership(folder / "sample")
    claim.folder.mkdir()
    assert claim.acquire()
    owner = json.loads(claim.path.read_text())
    claim.release()
    claim.folder.rmdir()
    path = folder / f"claim.{number}"
    path.write_text(json.dumps({**owner, **changes}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_process_left_that_was_killed_after_its_last_word_is_tidied(tmp_path):
    claim_of(tmp_path, pid=2**22 + 1)
    (tmp_path / ".status.json.123-abcdef.tmp").write_text("half")
    (tmp_path / "result.json").write_text("whole")
    ownership.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    ownership.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    ownership.tidy(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_live_owner_is_not_tidied(tmp_path, another_owner):
    another_owner(tmp_path)
    (tmp_path / ".status.json.123-abcdef.tmp").write_text("half")
    ownership.tidy(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".status.json.123-abcdef.tmp", "claim.0"]


def test_setting_aside_numbers_and_deletes_nothing(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "cell").mkdir()
        (tmp_path / "cell" / "file").write_text(str(number))
        assert ownership.set_aside(tmp_path / "cell") == tmp_path / f"cell.damaged-{number}"
    assert not (tmp_path / "cell").exists()
    assert [(tmp_path / f"cell.damaged-{n}" / "file").read_text() for n in (1, 2, 3)] == ["1", "2", "3"]


# --- owning


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_of_many_at_the_same_instant_one_owns_a_cell_and_nobody_before_it_is_released(tmp_path):
    dead = claim_of(tmp_path, pid=2**22 + 1)
    dead.rename(tmp_path / "dead")
    command = [sys.executable, "-c", HAMMER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == ["{1}", "0 []"], done.stderr


def test_a_live_owner_is_respected_and_a_killed_one_is_passed_over_at_once(tmp_path, another_owner):
    owner = another_owner(tmp_path)
    assert not Ownership(tmp_path).acquire()
    os.utime(tmp_path / "claim.0", (0, 0))  # however long it has been silent: here it can be seen to live
    if Path("/proc/self/stat").exists():
        assert not Ownership(tmp_path).acquire()
    owner.kill()
    owner.wait()
    claim = Ownership(tmp_path)
    assert claim.acquire()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claim.0", "claim.1"]
    assert current_owner(tmp_path) == (1, json.loads((tmp_path / "claim.1").read_text()))
    assert not Ownership(tmp_path).acquire()
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
    assert Ownership(tmp_path).acquire()


@needs_proc
def test_a_later_process_of_the_same_number_is_another_owner(tmp_path):
    path = claim_of(tmp_path)
    assert is_alive(json.loads(path.read_text()), path)
    path = claim_of(tmp_path, start=process_start(os.getpid()) - 1)
    assert not is_alive(json.loads(path.read_text()), path)
    assert Ownership(tmp_path).acquire()


@pytest.mark.parametrize("elsewhere", [{"host": "another-host"}, {"boot": "another boot or container"}])
def test_elsewhere_an_owner_is_alive_as_long_as_it_is_heard_of(tmp_path, elsewhere):
    claim_of(tmp_path, age=ownership.STALE_SECONDS - 20, pid=2**22 + 1, **elsewhere)
    assert not Ownership(tmp_path).acquire()
    claim_of(tmp_path, age=ownership.STALE_SECONDS + 20, pid=os.getpid(), **elsewhere)
    assert Ownership(tmp_path).acquire()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "7", "[1]", '"x"', '{"host": 1}', "[" * 100_000, "\0"])
def test_a_claim_that_says_nothing_counts_for_the_instant_in_which_it_is_written(tmp_path, text):
    (tmp_path / "claim.0").write_text(text)
    assert not Ownership(tmp_path).acquire()
    os.utime(tmp_path / "claim.0", (time.time() - 2 * ownership.HEARTBEAT_SECONDS,) * 2)
    claim = Ownership(tmp_path)
    assert claim.acquire()
    claim.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pid", ["../self", None, 1.5])
def test_a_claim_of_no_process_number_is_garbage(tmp_path, pid):
    path = claim_of(tmp_path, pid=pid)
    assert current_owner(tmp_path) == (0, {})
    os.utime(path, (time.time() - 2 * ownership.HEARTBEAT_SECONDS,) * 2)
    assert Ownership(tmp_path).acquire()


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_heartbeat_of_the_day_after_tomorrow_grows_stale_as_any_other(tmp_path, elsewhere):
    # A clock was set back, or was wrong when the claim was made.
    path = claim_of(tmp_path, age=-48 * 3600, host="another-host") if elsewhere else tmp_path / "claim.0"
    if not elsewhere:
        path.write_text("")
        os.utime(path, (time.time() + 48 * 3600,) * 2)
    assert not Ownership(tmp_path).acquire()  # whoever it was may live
    patience = ownership.STALE_SECONDS if elsewhere else ownership.HEARTBEAT_SECONDS
    assert path.stat().st_mtime < time.time() + patience
    os.utime(path, (path.stat().st_mtime - patience,) * 2)  # and so long nothing is heard of it
    assert Ownership(tmp_path).acquire()


def test_a_heartbeat_moves_the_claims_time(tmp_path):
    claim = Ownership(tmp_path)
    claim.beat()  # nothing to show yet
    claim.acquire()
    os.utime(claim.path, (1, 1))
    claim.beat()
    assert claim.path.stat().st_mtime > time.time() - 60
    claim.path.unlink()
    claim.beat()  # a folder that was deleted under us is no reason to stop


def test_who_slept_and_was_taken_for_dead_leaves_the_new_owners_claim(tmp_path, monkeypatch):
    sleeper = Ownership(tmp_path)
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another-host")
        sleeper.acquire()
    os.utime(sleeper.path, (0, 0))
    assert sleeper.holds()
    successor = Ownership(tmp_path)
    assert successor.acquire()
    assert not sleeper.holds()
    assert successor.holds()
    sleeper.release()
    assert successor.holds()
    assert [p.name for p in tmp_path.iterdir()] == ["claim.1"]
    assert not Ownership(tmp_path).acquire()


def test_who_set_its_folder_aside_leaves_the_claim_of_who_began_anew(tmp_path, another_owner):
    folder = tmp_path / "cell"
    folder.mkdir()
    claim = Ownership(folder)
    claim.acquire()
    ownership.set_aside(folder)
    folder.mkdir()
    another_owner(folder)
    claim.release()
    assert not claim.holds()
    assert [p.name for p in folder.iterdir()] == ["claim.0"]
    assert list((tmp_path / "cell.damaged-1").iterdir()) == []  # a claim means nothing there
    assert not Ownership(folder).acquire()


def test_who_was_slow_to_pass_over_a_dead_owner_notices_that_others_were_there(tmp_path, monkeypatch):
    claim_of(tmp_path, pid=2**22 + 1)
    others = []

    def slow(owner, claim):
        alive = is_alive(owner, claim)
        if not others:  # while we think: another takes the cell, ends it, and a third begins anew
            others.append(None)
            second, third = Ownership(tmp_path), Ownership(tmp_path)
            assert second.acquire()
            second.release()
            assert third.acquire()
            others.append(third)
        return alive

    monkeypatch.setattr(ownership, "is_alive", slow)
    assert not Ownership(tmp_path).acquire()
    assert [p.name for p in tmp_path.iterdir()] == ["claim.0"]
    assert others[1].path.exists()


def test_a_folder_that_is_set_aside_under_our_eyes_is_somebody_elses(tmp_path, monkeypatch):
    folder = tmp_path / "cell"
    folder.mkdir()

    def slow(where):
        found = current_owner(where)
        if where.exists():
            ownership.set_aside(where)
        return found

    monkeypatch.setattr(ownership, "current_owner", slow)
    assert not Ownership(folder).acquire()
    assert [p.name for p in tmp_path.rglob("*")] == ["cell.damaged-1"]


def test_a_claim_that_cannot_be_removed_is_given_up_all_the_same(tmp_path, monkeypatch):
    claim = Ownership(tmp_path)
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
    monkeypatch.setattr(ownership, "process_start", lambda pid: 1.0)
    assert not Ownership(tmp_path).acquire()


def test_process_start_tells_one_process_from_the_next():
    if not Path("/proc/self/stat").exists():
        assert process_start(os.getpid()) == processes.UNKNOWN
        return
    assert process_start(os.getpid()) == process_start(os.getpid()) > 0
    assert process_start(2**22 + 1) is None
    assert process_start(1) != process_start(os.getpid())


def test_without_proc_a_dead_process_is_still_known_for_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PROC", tmp_path / "nothing")
    assert process_start(os.getpid()) == processes.UNKNOWN
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    if os.name == "posix":
        assert process_start(child.pid) is None
    path = claim_of(tmp_path, pid=child.pid)
    assert (os.name == "posix") == (not is_alive(json.loads(path.read_text()), path))
    path = claim_of(tmp_path, age=ownership.STALE_SECONDS + 20)  # alive by its number, which may be a later process's
    assert not is_alive(json.loads(path.read_text()), path)


def test_a_claim_tells_who_owns_it(tmp_path):
    claim = Ownership(tmp_path)
    claim.acquire()
    number, owner = current_owner(tmp_path)
    assert number == 0
    assert owner["pid"] == os.getpid()
    assert owner["host"] == socket.gethostname()
    assert current_owner(tmp_path / "nowhere") == (-1, None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_claim_that_is_a_pipe_is_garbage_and_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "claim.3")
    assert ownership.current_owner(tmp_path) == (3, {})
