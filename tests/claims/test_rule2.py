"""Rule 2 on an experiment's claims: blocks, what is pooled and what is not, families, and what is kept of rule 1."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from poolbench.claims.experiment import history, write_experiment
from poolbench.claims.looks import Declared
from poolbench.claims.rule2 import judge_again
from poolbench.claims.verdicts import judge
from poolbench.records.collect import collect
from poolbench.records.outcomes import packed
from poolbench.statistics.blocks import Difference, accuracy_floor, fit
from poolbench.statistics.nets import over_nets
from poolbench.statistics.words import CANNOT_TELL, CONTRADICTS, SUPPORTS, TOO_SMALL
from tests.claims.claimed import make_arms, make_claims, make_record

RESULT = {"test_samples": 10_000}


def again(folder, records, *changes):
    claims = make_claims(folder, *changes)
    return judge_again(judge(claims, records), collect(records))


def values(arms=("max", "overlapping", "lp", "average"), seeds=4, seed=0, gain=0.0, noise=0.004):
    draw = np.random.default_rng(seed)
    blocks = draw.normal(0, 0.003, seeds)
    return {
        arm: {s: float(0.8 + gain * number + blocks[s] + draw.normal(0, noise)) for s in range(seeds)}
        for number, arm in enumerate(arms)
    }


ALL_PAIRS = ({}, {"treatment": {"pool": "lp"}}, {"treatment": {"pool": "average"}})


def test_all_arms_of_the_net_tell_the_spread(tmp_path):
    own = values()
    first, *_ = again(tmp_path, make_arms(own, result=RESULT), *ALL_PAIRS)
    floor = accuracy_floor(np.mean(list(own["overlapping"].values())), 10_000)
    expected = fit(own).difference("overlapping", "max", floor)
    assert (first.gain.mean, first.gain.n) == (pytest.approx(expected.mean), 4)
    assert (first.gain.low, first.gain.high) == pytest.approx(expected.interval())
    assert first.first.verdict in ("supports", "contradicts", "cannot tell")
    assert first.first.gain.n == 4
    # Arms that no claim names tell nothing; the two alone are the paired t test.
    alone, *_ = again(tmp_path, make_arms(own, result=RESULT))
    assert (alone.gain.low, alone.gain.high) != (first.gain.low, first.gain.high)
    assert alone.gain.low == pytest.approx(
        fit({k: own[k] for k in ("max", "overlapping")}).difference("overlapping", "max", floor).interval()[0]
    )


def test_lower_is_better_turns_the_gain(tmp_path):
    own = values(gain=0.02)
    records = [
        make_record(pool, seed, 0.8, result={"test_loss": value})
        for pool, by in own.items()
        for seed, value in by.items()
    ]
    lower = {"metric": "test_loss", "direction": "lower", "smallest_difference_of_interest": 0.01}
    (one,) = again(tmp_path, records, lower)
    (other,) = again(tmp_path, records, {**lower, "direction": "higher"})
    assert one.gain.mean == pytest.approx(-other.gain.mean)
    assert (one.gain.low, one.gain.high) == pytest.approx((-other.gain.high, -other.gain.low))
    assert {one.verdict, other.verdict} == {CONTRADICTS, SUPPORTS}
    assert "worse" in one.why


def test_arms_that_never_met_on_one_kind_of_processor_get_no_verdict(tmp_path):
    own = values(gain=0.05)
    records = make_arms({"max": own["max"]}, result=RESULT)
    elsewhere = make_arms({"overlapping": own["overlapping"]}, result=RESULT)
    for record in elsewhere:
        record.environment["fingerprint"] = "another"
    (one,) = again(tmp_path, [*records, *elsewhere])
    assert one.first.verdict == SUPPORTS
    assert (one.verdict, one.why) == (CANNOT_TELL, "its arms never met on one kind of processor")
    # One seed that did is not enough; three are.
    for record in elsewhere[:1]:
        record.environment["fingerprint"] = "0011223344"
    (one,) = again(tmp_path, [*records, *elsewhere])
    assert (one.verdict, one.why) == (CANNOT_TELL, "fewer than 3 seeds on one kind of processor")
    assert math.isnan(one.p)
    for record in elsewhere[:3]:
        record.environment["fingerprint"] = "0011223344"
    (one,) = again(tmp_path, [*records, *elsewhere])
    assert (one.verdict, one.gain.n) == (SUPPORTS, 3)


def test_headline_claims_are_one_family_and_the_others_another(tmp_path):
    own = values(gain=0.006, seeds=5, noise=0.003)
    rest = [{"treatment": {"pool": pool}, "headline": False} for pool in ("lp", "average")]
    found = again(tmp_path, make_arms(own, result=RESULT), {}, *rest)
    assert [one.level for one in found] == pytest.approx([1 - 2 * 0.05, *[1 - 2 * 0.025] * 2])


@pytest.mark.parametrize(
    ("gain", "word", "why"),
    [
        (0.05, SUPPORTS, "better, by 1 point or more"),
        (0.005, TOO_SMALL, "a gain of 1 point or more is excluded"),
        (-0.05, CONTRADICTS, "worse"),
    ],
)
def test_words_and_why(tmp_path, gain, word, why):
    quiet = {"max": {s: 0.8 + 0.0001 * s for s in range(6)}}
    quiet["overlapping"] = {s: value + gain + 0.0002 * (s % 2) for s, value in quiet["max"].items()}
    (one,) = again(tmp_path, make_arms(quiet, result=RESULT))
    assert (one.verdict, one.why.replace("1.0", "1")) == (word, why)
    assert one.seeds_needed is None
    assert one.p < 0.05


def test_what_cannot_be_told_says_how_many_seeds_would(tmp_path):
    noisy = values(noise=0.02, seeds=3, seed=5)
    (one,) = again(tmp_path, make_arms({k: noisy[k] for k in ("max", "overlapping")}, result=RESULT))
    assert one.verdict == CANNOT_TELL
    assert one.seeds_needed is None or one.seeds_needed > 3
    assert "seeds would" in one.why


def test_numbers_of_one_net_are_two_arms_and_not_pooled(tmp_path):
    draw = np.random.default_rng(3)
    records = [
        make_record(
            pool,
            seed,
            0.8,
            result={"test_accuracy_draws_1": float(a), "test_accuracy_draws_12": float(a + b), **RESULT},
        )
        for pool in ("max", "lp")
        for seed, (a, b) in enumerate(zip(draw.normal(0.7, 0.01, 4), draw.normal(0.02, 0.002, 4), strict=True))
    ]
    metrics = {"control": "test_accuracy_draws_1", "treatment": "test_accuracy_draws_12"}
    (one,) = again(tmp_path, records, {"control": {"pool": "max"}, "treatment": {"pool": "max"}, "metric": metrics})
    paired = one.first.gain
    assert (one.gain.mean, one.gain.low, one.gain.high) == pytest.approx((paired.mean, paired.low, paired.high))
    assert one.verdict == SUPPORTS


@pytest.mark.parametrize(
    ("metric", "verdict", "why"),
    [
        ("forward_flops", SUPPORTS, "better, by 1"),  # counted: no chance is in it
        ("test_accuracy_rotate", CANNOT_TELL, "all differences are equal"),
    ],
)
def test_equal_differences_decide_where_they_are_counted(tmp_path, metric, verdict, why):
    unit = 1.0 if metric == "forward_flops" else 1e-8
    results = {"max": {metric: 35e6 * unit}, "overlapping": {metric: 22e6 * unit}}
    records = [
        make_record(pool, seed, 0.8, result=own | RESULT, data__probes=["rotate"])
        for pool, own in results.items()
        for seed in range(4)
    ]
    claim = {"metric": metric, "direction": "lower", "smallest_difference_of_interest": 1e6 * unit}
    (one,) = again(tmp_path, records, claim)
    assert one.verdict == verdict
    assert one.why.startswith(why)
    assert one.seeds_needed is None


NETS = {"convnet": 0.03, "resnet": 0.022, "vgg": 0.035, "nin": 0.027, "allcnn": 0.031}


def over(nets, seeds=4):
    draw = np.random.default_rng(6)
    return [
        make_record(
            pool,
            seed,
            float(0.8 + gain * (pool == "overlapping") + draw.normal(0, 0.002)),
            result=RESULT,
            names__model=net,
            model__widths=[8 + list(NETS).index(net)],
        )
        for net, gain in NETS.items()
        if net in nets
        for pool in ("max", "overlapping")
        for seed in range(seeds)
    ]


def test_three_nets_or_more_have_a_row_over_them_that_stands_in_the_family(tmp_path):
    found = again(tmp_path, over(NETS), {}, {"headline": False, "kind": "not_worse"})
    first = found[:6]
    assert [one.stratum for one in first] == ["over 5 nets", *(f"model {net}" for net in sorted(NETS))]
    row = first[0]
    expected = over_nets(
        [
            Difference(one.gain.mean, 4, (one.gain.high - one.gain.low) / 2 / stats.t.ppf(0.975, 3), 3.0, False)
            for one in first[1:]
        ]
    )
    assert (row.over.mean, row.over.nets) == (pytest.approx(expected.mean, rel=1e-6), 5)
    assert row.verdict == SUPPORTS
    assert row.gain.n == 5
    # Alone in its family; its five nets and the six rows of the other claim share the other.
    assert row.level == pytest.approx(1 - 2 * 0.05)
    assert found[1].level == pytest.approx(1 - 2 * 0.05 / 11)
    assert "In a net not tried the gain should lie between" in row.notes[1]
    assert row.gains[0] == pytest.approx(first[1].gain.mean)
    assert (row.first.verdict, row.first.why) == ("", "rule 1 knows no nets")


def test_two_nets_or_two_pool_variants_in_one_have_none(tmp_path):
    found = again(tmp_path, over(["convnet", "resnet"]))
    assert [one.over for one in found] == [None, None]
    # Three heads of one net are one net.
    heads = [
        make_record(pool, seed, 0.8 + 0.001 * seed, names__head=head, head__hidden=[size])
        for size, head in enumerate(("flatten", "spp", "gem"), start=1)
        for pool in ("max", "overlapping")
        for seed in range(3)
    ]
    assert not any(one.over for one in again(tmp_path, heads))
    # And so are three parts of one data set, as three data sets are not.
    for of_one in (True, False):
        draw = np.random.default_rng(7)
        labels = (f"cifar10(train_samples={size})" if of_one else f"data{size}" for size in (500, 1000, 2000))
        parts = [
            make_record(
                pool, seed, float(0.8 + draw.normal(0, 0.002)), names__data=label, data__train_samples=500 * (1 + place)
            )
            for place, label in enumerate(labels)
            for pool in ("max", "overlapping")
            for seed in range(3)
        ]
        assert any(one.over for one in again(tmp_path, parts)) is not of_one


def test_looks_hold_for_rows_over_nets_too(tmp_path):
    claims = make_claims(tmp_path)
    records = over(NETS, seeds=5)
    plain = judge_again(judge(claims, over(NETS, seeds=3)), collect(over(NETS, seeds=3)))
    found = judge_again(judge(claims, records), collect(records), (3, 6))
    assert [one.stratum for one in found] == [one.stratum for one in plain]
    assert found[0].over is not None
    assert {one.gain.n for one in found[1:]} == {3}
    assert found[0].level == pytest.approx(1 - 0.05)
    assert any("Judged at 3 seeds, look 1 of 2" in note for note in found[0].notes)


def test_a_second_metric_is_a_family_of_its_own_and_stands_beside(tmp_path):
    own = values(gain=0.02)
    records = make_arms(own, result=RESULT)
    for record in records:
        record.result["true_class_probability"] = record.result["test_accuracy"] - 0.1
    second = {"second": {"metric": "true_class_probability", "smallest_difference_of_interest": 0.005}}
    done = write_experiment(
        "e", records, make_claims(tmp_path, second, {"treatment": {"pool": "lp"}}), tmp_path / "out"
    )
    one, other = done.judgements
    assert one.second.verdict == SUPPORTS
    assert one.second.level == pytest.approx(1 - 2 * 0.05)  # alone, where the first metric's family has two
    assert one.level > one.second.level
    assert other.second is None
    table = pd.read_csv(tmp_path / "out/claims.csv")
    assert table["second_metric"].fillna("").tolist() == ["true_class_probability", ""]
    assert table.loc[0, "second_verdict"] == SUPPORTS
    assert table.loc[0, "second_gain_mean"] == pytest.approx(one.second.gain.mean)
    for text in (done.text, done.markdown):
        assert "by true class probability: +" in text
    # Records of before do not have it.
    old = write_experiment("e", make_arms(own, result=RESULT), make_claims(tmp_path, second), tmp_path / "old")
    assert old.judgements[0].second is None
    assert "by true class probability: no record" in old.text


def test_the_images_that_two_arms_part_on_are_told(tmp_path):
    draw = np.random.default_rng(9)
    right = {(pool, seed): draw.random(1000) < 0.7 for pool in ("max", "overlapping") for seed in range(3)}
    records = [make_record(pool, seed, float(own.mean())) for (pool, seed), own in right.items()]
    for record, own in zip(records, right.values(), strict=True):
        object.__setattr__(record, "outcomes", packed(own.tolist(), [0] * 1000, 1))
    done = write_experiment("e", records, make_claims(tmp_path), tmp_path / "out")
    alone = np.mean([(right["overlapping", s] & ~right["max", s]).sum() for s in range(3)])
    notes = " ".join(done.judgements[0].notes)
    assert f"Of 1,000 test images the treatment alone is right on {alone:,.0f} and the control alone on" in notes


def test_seeds_that_were_not_declared_are_told(tmp_path):
    records = make_arms(values(gain=0.02, seeds=5), result=RESULT)
    few, enough = (Declared(frozenset(range(seeds))) for seeds in (3, 6))
    told = write_experiment("e", records, make_claims(tmp_path), tmp_path / "out", declared=few)
    assert "Seeds 3-4 are not declared by the experiment" in " ".join(told.judgements[0].notes)
    whole = write_experiment("e", records, make_claims(tmp_path), tmp_path / "out", declared=enough)
    assert "declared" not in " ".join(whole.judgements[0].notes)


def test_a_row_over_nets_is_written_and_drawn(tmp_path):
    done = write_experiment("e", over(NETS), make_claims(tmp_path), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/claims.csv")
    assert table["nets"].fillna(0).tolist() == [5, 0, 0, 0, 0, 0]
    assert table.loc[0, "net_low"] == done.judgements[0].over.low
    assert table.loc[0, "rule1_verdict"] is np.nan or pd.isna(table.loc[0, "rule1_verdict"])
    assert "5 nets" in done.text
    assert "a seed (over nets: a net)" in (tmp_path / "out/claims.svg").read_text()
    (row,) = [line for line in history([("1999_e", "idea", done.judgements, "")]).splitlines() if "1999" in line]
    assert "over 5 nets" in row
    assert "model resnet:" not in row


def test_claims_without_records_stay_as_they_are(tmp_path):
    found = again(
        tmp_path, make_arms({"max": [0.8] * 3, "overlapping": [0.81, 0.8, 0.79]}), {}, {"treatment": {"pool": "gem"}}
    )
    assert found[1].verdict == "no record"
    assert found[1].first is None
    assert math.isnan(found[1].gain.mean)


def test_the_pages_count_what_the_two_rules_decide():
    root = Path(__file__).parents[2]
    history = sorted(root.glob("results/201*/claims.csv"))  # what was published when the rule was changed
    rows = pd.concat([pd.read_csv(path) for path in history])
    decided = {rule: ~rows[rule].isin([CANNOT_TELL, "no record"]) for rule in ("rule1_verdict", "verdict")}
    first, second = (int(own.sum()) for own in decided.values())
    headline = [int((own & rows["headline"]).sum()) for own in decided.values()]
    apart = int((rows["why"] == "its arms never met on one kind of processor").sum())
    page = " ".join((root / "docs/claims.md").read_text().split())
    assert f"Of the {len(rows)} judgements of the history rule 1 decided {first} and rule 2 decides {second}" in page
    assert f"of the {int(rows['headline'].sum())} headline ones {headline[0]} and {headline[1]}" in page
    assert apart == 5
    assert "Five can get no verdict by rule 2" in page
    told = " ".join((root / "docs/results.md").read_text().split())
    assert f"decides {headline[1]} of these {int(rows['headline'].sum())} where the first decided {headline[0]}" in told
