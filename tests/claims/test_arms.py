import pytest

from poolbench.claims.arms import CONTROL, TREATMENT, arm_words, arms
from poolbench.report.colours import styles
from tests.claims.judged import make_claim, make_judgement

VALUES = [0.8, 0.81, 0.82]


@pytest.mark.parametrize(
    ("control", "treatment", "words"),
    [
        ({"pool": "max"}, {"pool": "overlapping"}, ("max", "overlapping")),
        ({"pool": "max"}, {"pool": "overlapping", "pool.padding": 0}, ("max", "overlapping, padding=0")),
        (
            {"head": "spp", "trainer.sizes": None},
            {"head": "spp", "trainer.sizes": [32, 26]},
            ("sizes=none", "sizes=[32, 26]"),
        ),
        ({"pool": "lp", "pool.p": 2}, {"pool": "lp"}, ("lp, p=2", "lp")),  # each must keep a word
        ({"pool.overlapping": False}, {"pool.overlapping": True}, ("overlapping=false", "overlapping=true")),
    ],
)
def test_arms_are_named_by_what_tells_them_apart(control, treatment, words):
    assert arm_words(make_claim(control=control, treatment=treatment)) == words


@pytest.mark.parametrize(
    ("metrics", "same", "words"),
    [
        (("test_accuracy_draws_1", "test_accuracy_draws_12"), True, ("draws 1", "draws 12")),
        (("test_accuracy", "test_accuracy_draws_12"), True, ("test accuracy", "test accuracy draws 12")),
        (("test_accuracy", "test_accuracy_draws_12"), False, ("max", "lp, draws 12")),
        (("test_accuracy", "train_accuracy"), False, ("max, test accuracy", "lp, train accuracy")),
    ],
)
def test_arms_read_by_two_metrics_name_them(metrics, same, words):
    arm = {} if same else {"pool": "lp"}
    claim = make_claim(
        metric_control=metrics[0], metric_treatment=metrics[1], control={} if same else {"pool": "max"}, treatment=arm
    )
    assert arm_words(claim) == words


def test_one_arm_in_several_claims_is_one_and_labels_are_unique():
    claims = [
        make_claim("a", control={"pool": "max"}, treatment={"pool": "lp", "pool.p": 2}, where={"model": "resnet"}),
        make_claim("b", control={"pool": "max"}, treatment={"pool": "lp", "pool.p": 3}, where={"model": "resnet"}),
    ]
    found = arms([make_judgement(claim, VALUES, VALUES) for claim in claims])
    assert found[0, CONTROL] is found[1, CONTROL]
    labels = {arm.label for arm in found.values()}
    assert labels == {"max", "lp, p=2", "lp, p=3"}  # the model, which all share, is not said
    assert set(found[0, CONTROL].runs) == {f"max--s{seed}" for seed in range(3)}


def test_two_ways_to_ask_for_the_same_runs_are_one_arm():
    judgements = [
        make_judgement(make_claim("a", control={}, treatment={"pool": "lp"}), VALUES, VALUES),
        make_judgement(make_claim("b", control={"pool": "max"}, treatment={"pool": "lp"}), VALUES, VALUES),
    ]
    runs = {seed: f"max-s{seed}" for seed in range(3)}
    for judgement in judgements:
        judgement.control_runs.update(runs)
    found = arms(judgements)
    assert found[0, CONTROL] is found[1, CONTROL]
    assert found[0, CONTROL].label == "max"


def test_strata_are_arms_of_their_own_in_one_colour():
    claim = make_claim()
    found = arms([make_judgement(claim, VALUES, VALUES, stratum) for stratum in ("model a", "model b")])
    first, second = found[0, CONTROL], found[1, CONTROL]
    assert (first.label, second.label) == ("max; model a", "max; model b")
    assert first.style.colour == second.style.colour
    assert first.style.marker != second.style.marker


def test_pools_keep_their_colours_and_no_two_arms_share_a_look():
    claims = [make_claim(str(i), treatment={"pool": "overlapping", "pool.padding": i}) for i in range(10)]
    found = arms([make_judgement(claim, VALUES, VALUES) for claim in claims])
    known = styles(["max", "overlapping"])
    assert found[0, CONTROL].style.colour == known["max"].colour
    assert found[0, TREATMENT].style.colour == known["overlapping"].colour
    looks = {arm.label: arm.style for arm in found.values()}
    assert len(looks) == 11
    assert len({style.marker for style in looks.values()}) == len({style.colour for style in looks.values()}) == 11
