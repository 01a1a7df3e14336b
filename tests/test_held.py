"""A check of a cluster starts daemons: all of them end with it, and none that others started."""

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are kept by Linux")

# A daemon that nothing ties to its ancestors: a session of its own, no environment, deaf to polite signals.
DAEMON = """setsid env -i "$BASH" -c 'trap "" TERM HUP INT; exec -a slurmstepd sleep 600' &
echo $! >> "$LIST"
"""


def _alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _hold(repo_root, tmp_path, script):
    command = [sys.executable, repo_root / "scripts" / "held.py", "bash", "-c", script]
    return subprocess.Popen(command, env={"LIST": str(tmp_path / "list"), "PATH": "/usr/bin:/bin"})


def _numbers(tmp_path):
    return [int(line) for line in (tmp_path / "list").read_text().split()]


def test_daemons_and_the_folder_end_with_the_command_and_others_of_their_name_go_on(repo_root, tmp_path):
    other = subprocess.Popen(["bash", "-c", "exec -a slurmstepd sleep 600"])
    try:
        script = f'({DAEMON})\n{DAEMON}\necho "$WORK" > "{tmp_path}/work"; touch "$WORK/file"; exit 3'
        assert _hold(repo_root, tmp_path, script).wait(20) == 3
        pids = _numbers(tmp_path)
        assert len(pids) == 2
        assert not any(map(_alive, pids))
        assert not Path((tmp_path / "work").read_text().strip()).exists()
        assert _alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_an_interrupted_command_takes_its_daemons_along(repo_root, tmp_path):
    held = _hold(repo_root, tmp_path, f"({DAEMON})\necho $$ >> {tmp_path}/list\nsleep 600")
    while not (tmp_path / "list").exists() or len(_numbers(tmp_path)) < 2:
        time.sleep(0.01)
    held.send_signal(signal.SIGTERM)
    assert held.wait(20) == 128 + signal.SIGTERM
    assert not any(map(_alive, _numbers(tmp_path)))


def test_an_orphan_that_ends_is_no_zombie(repo_root, tmp_path):
    """Who asks whether a killed owner lives would else be told that it does."""
    script = '(sleep 600 & echo $! > "$LIST"); read -r pid < "$LIST"; kill -9 "$pid"; sleep 0.3; test ! -e "/proc/$pid"'
    assert _hold(repo_root, tmp_path, script).wait(20) == 0


def test_no_script_ends_processes_by_name_or_breaks_a_pipe(repo_root):
    scripts = [*repo_root.glob("scripts/*.sh"), repo_root / ".ci" / "run", repo_root / "Makefile"]
    assert len(scripts) > 3
    for path in scripts:
        text = path.read_text()
        for wrong in (r"\bpkill\b", r"\bkillall\b", r"ray. stop", r"scancel --user", r"\| *head\b", r"\| *grep -q"):
            assert not re.search(wrong, text), f"{path}: {wrong}"
        if path.suffix == ".sh":
            subprocess.run(["bash", "-n", path], check=True)
