"""The summary as HTML has the numbers and words of the Markdown."""

import re
from html import unescape

from poolbench.report import make_report
from poolbench.report.html import listed, summary_html, table
from poolbench.report.tables import markdown
from tests.report.test_over_nets import make


def test_every_number_of_the_markdown_is_there(tmp_path):
    make(tmp_path / "runs", ["convnet", "resnet", "vgg"])
    report = make_report(tmp_path / "runs")
    shown = summary_html(report.groups, "the rule", report.over, ["one thing more"])
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown)]
    rows = [[unescape(text) for text in row] for row in rows if row]
    text = markdown(report.groups, "the rule", over=report.over).replace("\N{NO-BREAK SPACE}", " ")
    theirs = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| (max|lp|average)", line)]
    assert len(rows) == len(theirs) == 3 + 3 * 3  # over all nets first, then each net
    for own, other in zip(rows, theirs, strict=True):
        assert own[:4] == other[:4]  # what follows in groups are tests, which have no room here
        assert own[-1] == other[-1]
    for words in ("Over 3 nets", "one thing more", "the rule"):
        assert words in shown
    notes = [note for _, own in report.groups for note in own]
    assert notes
    assert all(note in unescape(shown) for note in notes)


def test_what_would_be_markup_is_text():
    shown = table(("<i>", "n"), [("<script>", "1\x1b[2J")], numeric=[1]) + listed(["a & b"])
    assert "<i>" not in shown
    assert "<script>" not in shown
    assert "\x1b" not in shown
    assert unescape(shown).count("<script>") == 1
    assert re.findall(r"text-align: (\w+)", shown) == ["left", "right"] * 2
    assert "a &amp; b" in shown
    assert listed([]) == ""
