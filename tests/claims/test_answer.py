import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from poolbench.claims.answer import MOST_LETTERS, answer
from poolbench.statistics.nets import OverNets
from tests.claims.claimed import make_claims
from tests.claims.judged import make_claim, make_judgement

VERDICTS = ("supports", "supports, but too small to matter", "contradicts", "cannot tell")
words = st.text("abc []|_()<", min_size=1, max_size=90).filter(str.strip)


def rows_of(text):
    """The cells of each row, and name -> place of the links below."""
    table, _, links = text.partition("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return rows, dict(re.findall(r"^\[(.+)\]: (\S+)$", links, flags=re.M))


def judged(*values, name="lower_error", **changes):
    """A judgement of gains over 0.8."""
    return make_judgement(make_claim(name), [0.8] * len(values), [0.8 + value for value in values], **changes)


@settings(deadline=None, derandomize=True)
@given(words, words, st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=40))
@example(
    "Multi-scale orderless pooling of windows that lie at many scales", "windows_beat_whole_images", list(VERDICTS) * 12
)
def test_every_cell_is_short_and_every_idea_leads_to_its_experiment(idea, name, verdicts):
    told = [judged(0.01, 0.02, 0.03, name=name, stratum=f"a{n}", verdict=word) for n, word in enumerate(verdicts)]
    (row,), links = rows_of(answer([("1999_e", idea, told, "3 of 6 cells so far")]))
    assert len(row) == 3
    assert all(len(re.sub(r"&\w+;", "<", cell)) <= MOST_LETTERS for cell in row)
    assert list(links.values()) == ["experiments/1999_e"]
    assert row[0].startswith(f"[{next(iter(links))}]: ")
    assert row[1].endswith(", so far")


def test_one_setting_has_its_interval_and_several_the_least_and_the_most():
    one = judged(0.01, 0.02, 0.03, verdict="supports")
    worse = judged(-0.01, -0.012, -0.011, verdict="contradicts", stratum="model resnet")
    rows, _ = rows_of(answer([("1999_e", "Idea", [one], ""), ("2000_f", "Other", [one, worse, one], "")]))
    assert re.fullmatch(r"\+2\.00 points \[-0\.\d+, \+4\.\d+\]", rows[0][1])
    assert rows[0][2] == "supports"
    assert rows[1][1:] == ["-1.10 to +2.00 points, 3 settings", "2 support, 1 contradict"]


def test_a_word_that_all_settings_have_is_said_once_and_without_records_there_is_a_dash():
    small = [judged(0.001, more, 0.001, verdict=VERDICTS[1], stratum=f"{more}") for more in (0.001, 0.0025)]
    none = make_judgement(make_claim("beats_max"))
    rows, _ = rows_of(answer([("1999_e", "Idea", [*small, none], "none of 6 cells so far")]))
    assert rows[0][1:] == ["+0.10 to +0.15 points, 2 settings, so far", "too small to matter"]
    assert rows[1] == ["[Idea]: beats max", "–", "no record"]


def test_the_short_words_of_a_claim_stand_in_place_of_its_id(tmp_path):
    short, plain = make_claims(
        tmp_path, {"id": "stride_alone_costs_c", "short": "a bare stride is worse"}, {"id": "beats_average"}
    )
    told = [make_judgement(claim, [0.8] * 3, [0.81] * 3) for claim in (short, plain)]
    rows, _ = rows_of(answer([("1999_e", "Idea", told, "")]))
    assert [row[0] for row in rows] == ["[Idea]: a bare stride is worse", "[Idea]: beats average"]


def test_only_headlines_are_told_and_over_nets_the_row_over_them():
    other = make_judgement(make_claim("other", headline=False), [0.8] * 3, [0.9] * 3)
    single = judged(0.05, 0.05, 0.051, stratum="model a")
    over = judged(0.01, 0.02, 0.03, verdict="supports", over=OverNets(3, 0.02, 0.01, 2.0, 0.0, 0.0, 0.04, 0.9))
    rows, links = rows_of(answer([("1999_e", "Idea", [single, over, other], "")]))
    assert [row[0] for row in rows] == ["[Idea]: lower error"]
    assert rows[0][1].startswith("+2.00 points [")
    assert links == {"Idea": "experiments/1999_e"}
