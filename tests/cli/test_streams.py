"""Readers that go away, closed streams, and what a command leaves behind when it ends."""

import os
import subprocess
import sys

import pytest

from tests.report.synthetic import make_runs
from tests.sweep.tiny import TINY
from tests.test_untrusted import _sketched  # noqa: F401 - figures take a second each to draw


def program(*words, **options):
    return subprocess.Popen([sys.executable, "-m", "poolbench", *words], text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    "command", [["report", "--output", "out"], ["status"], ["collect", "--output", "out"]], ids=str
)
def test_whoever_reads_the_first_line_of_a_report_is_told_no_failure(tmp_path, command):
    make_runs(tmp_path / "runs", ["average", "max"], 3)
    with program(*command, cwd=tmp_path, stdout=subprocess.PIPE) as one:
        one.stdout.readline()
        one.stdout.close()
        assert (one.stderr.read(), one.wait()) == ("", 0)


@pytest.mark.skipif(os.name != "posix", reason="a shell closes streams")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_quiet(tmp_path, closed):
    make_runs(tmp_path / "runs", ["average", "max"], 3)
    for command in ("report --output out", "status", "plan pool=max data=shapes"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -m poolbench {command} {closed}', sys.executable],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.returncode) == ("", 0), command
    assert (tmp_path / "out/summary.md").read_text().startswith("# Summary")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")
def test_a_sweep_leaves_no_process_behind(tmp_path):
    words = ["sweep", "pool=max,average", *TINY, "sweep.workers=2"]
    with program(*words, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True) as one:
        one.stdout.read()
        error = one.stderr.read()
        assert one.wait() == 0, error
    with pytest.raises(ProcessLookupError):
        os.killpg(one.pid, 0)
