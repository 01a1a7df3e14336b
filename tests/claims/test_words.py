import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolbench.claims.verdicts import judge
from poolbench.claims.words import claims_markdown, claims_text, fill, history, interval_text, paper_words
from poolbench.statistics.estimates import Estimate, mean_interval
from tests.claims.claimed import CLAIM, make_arms, make_claims

QUIET = settings(deadline=None, derandomize=True, max_examples=200)
LONG = "with three layers of capsules in place of pools, a net loses less accuracy than before on images that " * 2


@pytest.fixture
def judged(tmp_path):
    claims = make_claims(
        tmp_path,
        {},
        {"treatment": {"pool": "lp"}, "headline": False, "says": LONG},
        {"treatment": {"pool": "average"}, "metric": "test_loss", "direction": "lower"},
    )
    values = {"max": [0.80, 0.81, 0.79, 0.80], "overlapping": [0.83, 0.84, 0.82, 0.829], "lp": [0.80, 0.80, 0.81, 0.82]}
    return judge(claims, make_arms(values, result={"test_loss": 0.5}))


def _bounds(text):
    return [float(number) for number in re.search(r"\[(\S+), (\S+)\]", text).groups()]


@QUIET
@given(st.lists(st.integers(-500, 500), min_size=2, max_size=6), st.sampled_from([0.001, 0.002, 0.005]))
def test_rounded_intervals_hold_the_interval_and_keep_its_sides(images, smallest):
    estimate = mean_interval([number / 10_000 for number in images])
    low, high = _bounds(interval_text(estimate, share=True, sign=True, apart=(smallest, -smallest)))
    assert low <= 100 * estimate.low + 1e-7
    assert high >= 100 * estimate.high - 1e-7
    assert high - low <= 100 * (estimate.high - estimate.low) + 0.0201
    for line in (0.0, smallest, -smallest):
        for shown, exact in ((low, estimate.low), (high, estimate.high)):
            if abs(exact - line) > 1e-8:
                assert (shown > 100 * line) == (exact > line)


def test_a_bound_just_above_0_is_not_shown_as_0():
    assert interval_text(Estimate(6, 0.002, 0.00003, 0.004), share=True, sign=True) == "+0.200 points [+0.003, +0.400]"
    assert interval_text(Estimate(6, 0.8, 0.79, 0.81), share=True) == "80.00 % [79.00, 81.00]"


def test_numbers_that_are_no_shares_have_digits_that_fit_their_size():
    assert interval_text(Estimate(6, 123456.0, 120001.0, 126911.0), share=False) == "123,456 [120,001, 126,911]"
    assert interval_text(Estimate(6, 0.5012, 0.4987, 0.5037), share=False, sign=True) == "+0.5012 [+0.4987, +0.5037]"


def test_without_an_interval_there_is_the_mean_and_without_a_value_a_dash():
    assert interval_text(Estimate(1, 0.8, math.nan, math.nan), share=True) == "80.00 %"
    assert interval_text(Estimate(0, math.nan, math.nan, math.nan), share=True) == "–"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "top-1 error: a gain of 0.4 points (section 3.4)"),
        (
            {"gain": None, "control": 0.0931, "treatment": 0.0908, "status": "from memory"},
            "top-1 error: 9.31 → 9.08 %, a gain of 0.23 points (section 3.4, from memory)",
        ),
        (
            {"gain": None, "control": 0.09125, "treatment": 0.10125},
            "top-1 error: 9.125 → 10.125 %, a loss of 1 point (section 3.4)",
        ),
        ({"gain": None, "unknown": "not measured"}, "top-1 error: no number: not measured (section 3.4)"),
        ({"metric": "-", "where": "-", "gain": 0}, "no difference"),
    ],
)
def test_the_papers_numbers_are_told_with_where_they_come_from(tmp_path, change, words):
    (claim,) = make_claims(tmp_path, {"paper": {**CLAIM["paper"], **change}})
    assert paper_words(claim.paper) == words


def test_the_terminal_has_every_claim_in_at_most_100_plain_columns(judged):
    text = claims_text(judged)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    for judgement in judged:
        assert judgement.claim.id in text
        assert judgement.verdict in text
    assert "82.98 % [81.67, 84.28]  overlapping" in text
    assert "+2.98 points [+2.89, +3.06], paired, 4 seeds" in text
    assert f"by the {100 * judged[0].level:.4g} % interval [" in text
    assert "no finished cell of {pool average}" in text


def test_the_level_is_said_only_where_it_is_not_the_usual(judged):
    assert "interval" not in claims_text(
        judge([judged[0].claim], make_arms({"max": [0.8] * 3, "overlapping": [0.90, 0.91, 0.92]}))
    )


def test_strata_are_told_apart(tmp_path):
    claims = make_claims(tmp_path)
    values = {"max": [0.80, 0.81, 0.79], "overlapping": [0.83, 0.84, 0.829]}
    judged = judge(claims, make_arms(values) + make_arms(values, names__model="resnet"))
    for text in (claims_text(judged), claims_markdown(judged)):
        assert text.count("model convnet") == text.count("model resnet") == 1


def test_markdown_has_a_row_for_each_judgement_and_what_others_wrote_cannot_break_it(judged, tmp_path):
    rows = [line for line in claims_markdown(judged).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(judged)
    assert len({line.count("|") for line in rows}) == 1
    (claim,) = make_claims(tmp_path, {"says": "a | b <script> [c](d)"})
    text = claims_markdown(judge([claim], make_arms({"max": [0.8] * 3, "overlapping": [0.81, 0.82, 0.83]})))
    assert "a \\| b &lt;script> [c\\](d)" in text


def test_the_history_has_the_headlines_of_all_experiments(judged):
    table = history([("2012_overlapping", "Overlapping windows", judged, ""), ("2014_none", "None", [], "")])
    rows = table.splitlines()[2:]
    assert len(rows) == 2  # the third claim is none
    assert rows[0].startswith(
        "| 2012 | [Overlapping windows](experiments/2012_overlapping) | overlapping windows lower"
    )
    assert "a gain of 0.4 points" in rows[0]
    assert "+2.98 points [+2.89, +3.06], 4 seeds, convnet, cifar10, 8 epochs" in rows[0]
    assert "**supports**" in rows[0]
    assert rows[1].startswith("|  |  |")
    assert "**no record**" in rows[1]


def test_the_history_has_a_line_for_each_stratum_and_says_what_is_interim(tmp_path):
    values = {"max": [0.80, 0.81, 0.79], "overlapping": [0.83, 0.84, 0.829]}
    judged = judge(make_claims(tmp_path), make_arms(values) + make_arms(values, names__model="resnet"))
    (row,) = history([("2012_overlapping", "Overlap", judged, "3 of 6 cells so far")]).splitlines()[2:]
    year, idea, _, ours, said = row.strip("| ").split(" | ")
    assert (year, idea) == ("2012", "[Overlap](experiments/2012_overlapping) (interim: 3 of 6 cells so far)")
    assert [line.partition(":")[0] for line in ours.split("<br>")] == ["model convnet", "model resnet"]
    assert [line.count("**") for line in said.split("<br>")] == [2, 2]


def test_only_the_marked_parts_of_a_page_are_filled():
    page = "a\n<!-- claims: x -->\nold\n<!-- end -->\nb\n<!-- results: x -->\nkept\n<!-- end -->\n<!-- claims: x -->\n"
    page += "<!-- end -->\n"
    new = fill(page, {"claims: x": "new \\1\n", "claims: y": "other"})
    assert new == page.replace("old", "new \\1").replace("x -->\n<!-- end", "x -->\nnew \\1\n<!-- end")
    assert fill(new, {"claims: x": "new \\1"}) == new


def test_a_mark_without_an_end_swallows_nothing():
    page = "<!-- claims: x -->\ntext\n<!-- claims: y -->\nold\n<!-- end -->\n"
    assert fill(page, {"claims: x": "lost"}) == page
