"""`poolbench logs` prints what a cell printed and why it failed, and nothing that a terminal would obey."""

import pytest

from poolbench.cli import logs
from poolbench.cli.main import main
from poolbench.records import ownership
from tests.report.synthetic import make_config, write_cell


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The record of a failed cell."""
    monkeypatch.chdir(tmp_path)
    return write_cell(tmp_path / "runs", make_config("max", run_id="max-s0-abc"), state="failed")


@pytest.mark.parametrize("run", ["max", "abc", "runs/max-s0-abc"])
def test_the_log_comes_first_then_the_reason(folder, run, capsys):
    (folder / "log.txt").write_text("a warning\nanother\n")
    (folder / "error.txt").write_text("Traceback: it broke here\n")
    assert main(["logs", run]) == 0
    text = capsys.readouterr().out
    assert text.startswith("a warning\nanother\n")
    assert text.index("another") < text.index("error.txt:") < text.index("it broke here")


def test_without_a_traceback_the_status_says_why(folder, capsys):
    assert main(["logs", "max"]) == 0
    assert capsys.readouterr().out == "error: it broke\n"


def test_a_cell_that_left_no_log_is_said_so(folder, capsys):
    write_cell(folder.parent, make_config("max", 1, run_id="max-s1"))
    assert main(["logs", "max-s1"]) == 0
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "no log" in streams.err
    (folder.parent / "max-s1" / "log.txt").write_text("")
    assert main(["logs", "max-s1"]) == 0
    assert "printed nothing" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_written_out(folder, capsys):
    sent = b"\x1b]0;title\x07 \x1b[31mred\x1b[0m 10%\r20%\r\nok\ttab \xff \xe2\x80\xaeright to left \x9b2J \x00\n"
    (folder / "log.txt").write_bytes(sent)
    (folder / "error.txt").write_bytes(sent)
    assert main(["logs", "max"]) == 0
    text = capsys.readouterr().out
    assert all(character.isprintable() or character in "\n\t" for character in text)
    for words in (r"\x1b]0;title\x07", "red 10%\n20%\nok\ttab", r"\u202eright"):
        assert text.count(words) == 2, words
    assert (folder / "log.txt").read_bytes() == sent


def test_characters_and_sequences_may_lie_across_what_is_read_at_once(folder, capsys, monkeypatch):
    monkeypatch.setattr(logs, "_CHUNK", 3)
    text = "αβγδ \x1b[31mred\x1b[0m ü\n" * 5 + "ends without a newline"
    (folder / "log.txt").write_text(text, encoding="utf-8")
    assert main(["logs", "max"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count("αβγδ") == 5
    assert "ends without a newline" in shown.replace("\n", "") + shown


def test_following_waits_for_more_and_ends_with_the_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write_cell(tmp_path / "runs", make_config("max", run_id="max-s0"), state="running")
    log = folder / "log.txt"
    log.write_text("first\n")
    claim = ownership.Ownership(folder)
    assert claim.acquire()

    def last_words():
        with open(log, "a") as file:
            file.write("last words\n")
        claim.release()

    texts = (lambda: log.write_text("first\nsec"), lambda: log.write_text("first\nsecond\n"))
    steps = iter([*texts, lambda: None, last_words])  # once nothing is added

    def sleep(seconds):
        next(steps)()

    monkeypatch.setattr(logs.time, "sleep", sleep)
    assert main(["logs", "max", "--follow"]) == 0
    assert capsys.readouterr().out == "first\nsecond\nlast words\n"


def test_a_log_that_is_no_file_is_passed_over(folder, capsys):
    (folder / "log.txt").mkdir()
    (folder / "error.txt").mkdir()
    assert main(["logs", "max"]) == 0
    assert "it broke" in capsys.readouterr().out
