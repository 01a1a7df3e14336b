import pytest
import yaml

from poolbench.claims.claim import ClaimError, is_share, numbers_of
from poolbench.claims.reading import read_claims
from tests.claims.claimed import CLAIM, make_claims, write_claims

PAPER = CLAIM["paper"]


def test_a_claim_is_read_with_its_defaults(tmp_path):
    (claim,) = make_claims(tmp_path)
    assert (claim.id, claim.kind, claim.direction, claim.where) == ("lower_error", "better", "higher", {})
    assert claim.metric_control == claim.metric_treatment == "test_accuracy"
    assert claim.treatment == {"pool": "overlapping"}
    assert claim.smallest_difference == 0.01
    assert (claim.paper.gain, claim.paper.control, claim.paper.unknown) == (0.004, None, "")


SMALL = {"smallest_difference_of_interest": 0.005}


@pytest.mark.parametrize(("better", "gain"), [("lower", 0.0023), ("higher", -0.0023)])
def test_the_papers_gain_follows_from_its_two_numbers(tmp_path, better, gain):
    paper = {**PAPER, "better": better, "control": 0.0931, "treatment": 0.0908, "gain": None}
    (claim,) = make_claims(tmp_path, {"paper": paper})
    assert claim.paper.gain == pytest.approx(gain)


def test_metrics_may_be_differences_or_one_for_each_arm(tmp_path):
    gap, draws = make_claims(
        tmp_path,
        {"metric": "train_accuracy - test_accuracy", "direction": "lower"},
        {"metric": {"control": "test_accuracy_rotate_-10", "treatment": "test_accuracy_draws_12"}, "control": {}},
    )
    assert numbers_of(gap.metric_control) == ("train_accuracy", "test_accuracy")
    assert (draws.metric_control, draws.metric_treatment) == ("test_accuracy_rotate_-10", "test_accuracy_draws_12")


def test_a_claim_may_have_other_arms_at_a_scale_or_not_be_tested_there(tmp_path):
    path = write_claims(
        tmp_path,
        {"scales": {"paper": {"control": {"model": "capsnet_baseline"}, "metric": "train_accuracy"}}},
        {"scales": {"paper": None}},
        {"scales": {"small": None}},
    )
    assert [claim.id for claim in read_claims(path)] == ["lower_error", "claim_1", "claim_2"]
    assert [claim.id for claim in read_claims(path, "small")] == ["lower_error", "claim_1"]
    here, (there, also) = read_claims(path, "small")[0], read_claims(path, "paper")
    assert (there.id, also.id) == ("lower_error", "claim_2")
    assert (here.control, here.metric_control) == ({"pool": "max"}, "test_accuracy")
    assert (there.control, there.metric_control) == ({"model": "capsnet_baseline"}, "train_accuracy")
    assert there.treatment == here.treatment
    with pytest.raises(ClaimError, match=r"claim 1: scales has 'paper'. Did you mean 'papers'\? The sweep has papers"):
        read_claims(path, "papers", ["papers"])
    write_claims(tmp_path, {"scales": {"paper": None}}, {"headline": None})
    assert len(read_claims(path, "small")) == 2
    with pytest.raises(ClaimError, match="at least one claim that is tested at scale=paper needs headline: true"):
        read_claims(path, "paper")


def test_shares_are_told_from_other_numbers():
    assert all(map(is_share, ["test_accuracy", "agreement_rotate", "train_accuracy - test_accuracy"]))
    assert not any(map(is_share, ["test_loss", "parameters", "test_accuracy - test_loss"]))


def test_claims_of_all_published_experiments_can_be_read(repo_root):
    paths = sorted(repo_root.glob("experiments/*/claim.yaml"))
    assert paths
    for path in paths:
        assert any(claim.headline for claim in read_claims(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "beter"}, ["kind", "'beter'", "not_worse", "Did you mean 'better'"]),
        ({"direction": "up"}, ["direction", "'up'", "higher, lower"]),
        ({"controll": {"pool": "max"}}, ["unknown key 'controll'", "Did you mean 'control'"]),
        ({"says": None}, ["says is missing"]),
        ({"scales": "paper"}, ["scales must be as", "'paper'"]),
        ({"scales": {"paper": "none"}}, ["scales: paper must be null", "control, treatment", "'none'"]),
        ({"scales": {"paper": {"contrl": {}}}}, ["scales: paper: unknown key 'contrl'", "Did you mean 'control'"]),
        ({"scales": {"paper": {"control": {"pol": "max"}}}}, ["at scale=paper", "control has 'pol'", "'pool'"]),
        ({"says": " "}, ["says must be text"]),
        ({"id": "lower error"}, ["id must be letters"]),
        ({"headline": "yes"}, ["headline must be true or false", "'yes'"]),
        ({"metric": "test accuracy"}, ["metric", "'test accuracy'", "test_accuracy"]),
        ({"metric": "a - b - c"}, ["metric"]),
        ({"metric": {"control": "a"}}, ["metric", "None"]),
        ({"metric": {"control": "a", "treatmant": "b"}}, ["unknown key 'treatmant'", "Did you mean 'treatment'"]),
        ({"control": {"pol": "max"}}, ["control has 'pol'", "Did you mean 'pool'"]),
        ({"control": {"trainer": "fast"}}, ["control has 'trainer'", "trainer.epochs"]),
        ({"control": {"pool": "max(kernel_size=3)"}}, ["pool must be a choice", "max(kernel_size=3)"]),
        ({"control": {"pool": 3}}, ["pool must be a choice", "3"]),
        ({"control": {"pool.padding": {"x": 1}}}, ["pool.padding must be a plain value"]),
        ({"control": ["max"]}, ["control must be a partial match"]),
        ({"where": {"pool": "lp"}}, ["where and an arm both say what pool is"]),
        ({"treatment": {"pool": "max"}}, ["control and treatment are the same"]),
        ({"smallest_difference_of_interest": 0}, ["smallest_difference_of_interest", "0.002 is 0.2 points"]),
        ({"smallest_difference_of_interest": 1.5}, ["smallest_difference_of_interest", "1.5"]),
        ({"smallest_difference_of_interest": True}, ["smallest_difference_of_interest", "True"]),
        ({"wider_than_paper": None}, ["0.01", "the paper's gain of 0.004", "wider_than_paper"]),
        ({"second": "test_loss"}, ["second must have metric and smallest_difference_of_interest", "'test_loss'"]),
        ({"second": {"metric": "test_loss"}}, ["smallest_difference_of_interest is missing"]),
        ({"second": {"metric": "accuracy", **SMALL}}, ["second: metric must be true_class_probability", "'accuracy'"]),
        ({"second": {"metric": "true_class_probability", **SMALL, "kind": 1}}, ["second: unknown key 'kind'"]),
        (
            {"second": {"metric": "mirror_mean_accuracy", "smallest_difference_of_interest": 2}},
            ["second: smallest_difference_of_interest must be a fraction above 0 and below 1", "got 2"],
        ),
        ({"paper": "none"}, ["paper must have"]),
        ({"paper": {**PAPER, "gain": 9.1}}, ["paper: gain", "from -1 to 1", "9.1 % is 0.091"]),
        ({"paper": {**PAPER, "control": 0.1}}, ["control and treatment go together"]),
        ({"paper": {**PAPER, "control": 0.2, "treatment": 0.1}}, ["gain is 0.004", "0.1", "leave one out"]),
        ({"paper": {**PAPER, "gain": None}}, ["give control and treatment, or gain, or unknown"]),
        ({"paper": {**PAPER, "unknown": "not said"}}, ["give control and treatment, or gain, or unknown"]),
        ({"paper": {**PAPER, "status": "checked"}}, ["status must be verified, computed, from memory", "'checked'"]),
        ({"paper": {**PAPER, "better": None}}, ["better must be higher, lower"]),
        ({"paper": {**PAPER, "wher": "x"}}, ["unknown key 'wher'", "Did you mean 'where'"]),
    ],
)
def test_what_is_wrong_is_said_with_file_claim_key_value_and_what_is_allowed(tmp_path, change, words):
    path = write_claims(tmp_path, {}, change) if "id" not in change else write_claims(tmp_path, change)
    with pytest.raises(ClaimError) as error:
        read_claims(path)
    name = repr(change.get("id", "claim_1"))
    for word in [f"{tmp_path.name}/claim.yaml", name, *words]:
        assert word in str(error.value)


def test_a_file_needs_claims_with_names_of_their_own_and_a_headline(tmp_path):
    path = write_claims(tmp_path, {}, {"id": "lower_error"})
    with pytest.raises(ClaimError, match="id 'lower_error' is taken"):
        read_claims(path)
    with pytest.raises(ClaimError, match="headline: true"):
        make_claims(tmp_path, {"headline": False})
    path.write_text("")
    with pytest.raises(ClaimError, match="must be a list of claims"):
        read_claims(path)
    path.write_text(yaml.safe_dump(["text"]))
    with pytest.raises(ClaimError, match="claim 1: must have id"):
        read_claims(path)
    path.write_text("- [")
    with pytest.raises(ClaimError, match="cannot be parsed"):
        read_claims(path)
    with pytest.raises(ClaimError, match="No such file"):
        read_claims(tmp_path / "nothing.yaml")


def test_a_claim_executes_nothing(tmp_path):
    path = tmp_path / "claim.yaml"
    path.write_text("- !!python/object/apply:os.mkdir [made]")
    with pytest.raises(ClaimError, match="cannot be parsed"):
        read_claims(path)


def test_what_would_move_a_terminals_cursor_is_written_out(tmp_path):
    (claim,) = make_claims(tmp_path, {"says": "lower\x1b[2J the error"})
    assert claim.says == "lower\\x1b[2J the error"


def test_a_second_metric_is_the_same_claim_about_another_number(tmp_path):
    (claim,) = make_claims(tmp_path, {"second": {"metric": "test_loss", "smallest_difference_of_interest": 0.02}})
    other = claim.by_second
    assert (other.metric_control, other.metric_treatment, other.direction) == ("test_loss", "test_loss", "lower")
    assert (other.smallest_difference, other.second) == (0.02, "")
    assert (other.control, other.treatment, other.kind) == (claim.control, claim.treatment, claim.kind)


def test_a_claim_may_be_wider_than_the_papers_gain_if_it_says_why(tmp_path):
    (claim,) = make_claims(tmp_path)
    assert claim.wider == "made up"
    (claim,) = make_claims(tmp_path, {"smallest_difference_of_interest": 0.004})
    assert claim.wider == ""
    # Only a claim that something is better is contradicted by a gain that is smaller.
    (claim,) = make_claims(tmp_path, {"kind": "not_worse", "wider_than_paper": None})
    assert claim.wider == ""
