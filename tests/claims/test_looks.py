"""Looks that an experiment declares: what may be declared, and how the error is shared over them."""

import math

import numpy as np
import pytest
import yaml

from poolbench.claims.claim import ClaimError
from poolbench.claims.looks import read_looks
from poolbench.claims.rule2 import judge_again
from poolbench.claims.verdicts import judge
from poolbench.records.collect import collect
from poolbench.statistics.words import CANNOT_TELL, SUPPORTS
from tests.claims.claimed import make_arms, make_claims

RESULT = {"test_samples": 10_000}


def declared(folder, looks, sweep=({"product": {}},)):
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"sweep": sweep, "looks": looks}))
    return folder


def test_looks_are_read_for_the_scale(tmp_path):
    assert read_looks(declared(tmp_path, [3, 6]), None, 6) == (3, 6)
    assert read_looks(declared(tmp_path, None), None, 6) == ()
    scales = {"small": [], "paper": []}
    folder = declared(tmp_path, {"small": [3, 6]}, scales)
    assert read_looks(folder, "small", 6) == (3, 6)
    assert read_looks(folder, "paper", 10) == ()
    with pytest.raises(ClaimError, match=r"scale 'smal'\. Did you mean 'small'"):
        read_looks(declared(tmp_path, {"smal": [3]}, scales), "small", 6)


@pytest.mark.parametrize("looks", [[2, 6], [6, 3], [3, 3], [3, 7], [], [3.5], "3, 6", 3])
def test_other_looks_are_refused_with_what_is_allowed(tmp_path, looks):
    with pytest.raises(ClaimError, match=r"looks must be growing numbers of seeds from 3 to the 6 that are declared"):
        read_looks(declared(tmp_path, looks), None, 6)


def values(gain, seeds=7):
    draw = np.random.default_rng(2)
    own = {"max": draw.normal(0.8, 0.003, seeds), "overlapping": draw.normal(0.8 + gain, 0.003, seeds)}
    return {arm: dict(enumerate(map(float, accuracies))) for arm, accuracies in own.items()}


def again(folder, own, looks, *changes):
    claims = make_claims(folder, *changes)
    records = make_arms(own, result=RESULT)
    return judge_again(judge(claims, records), collect(records), looks)


def first(own, seeds):
    return {arm: {seed: by[seed] for seed in range(seeds)} for arm, by in own.items()}


def test_what_counts_is_the_last_look_that_there_are_seeds_for(tmp_path):
    own = values(0.02)
    (at_three,) = again(tmp_path, first(own, 3), ())
    (one,) = again(tmp_path, first(own, 5), (3, 6, 10))
    assert (one.gain.n, one.gain.mean) == (3, at_three.gain.mean)
    assert one.level == pytest.approx(1 - 2 * 0.05 / 3)
    assert "Judged at 3 seeds, look 1 of 3 that were declared." in one.notes
    assert "2 more wait for the next look." in one.notes
    assert one.first.gain.n == 5  # rule 1 knows no looks
    (later,) = again(tmp_path, own, (3, 6, 10))
    assert later.gain.n == 6
    assert set(later.gains) == set(range(6))


def test_one_look_at_all_seeds_is_no_look(tmp_path):
    own = values(0.01)
    (plain,), (looked,) = again(tmp_path, own, ()), again(tmp_path, own, (7,))
    assert (looked.verdict, looked.gain, looked.judged) == (plain.verdict, plain.gain, plain.judged)


def test_before_the_first_look_there_is_no_verdict(tmp_path):
    (one,) = again(tmp_path, first(values(0.05), 4), (6, 10))
    assert (one.verdict, one.why) == (CANNOT_TELL, "the first look is at 6 seeds")
    assert math.isnan(one.p)
    found = again(tmp_path, values(0.05), (3, 6), {}, {"treatment": {"pool": "gem"}})
    assert [one.verdict for one in found] == [SUPPORTS, "no record"]


def test_a_look_that_said_something_else_is_told(tmp_path):
    own = values(0.05)
    for seed in (3, 4, 5):  # what comes later takes it back
        own["overlapping"][seed] = own["max"][seed] - 0.05 - 0.01 * (seed == 4)
    (one,) = again(tmp_path, own, (3, 6))
    assert one.verdict == CANNOT_TELL
    assert f"At 3 seeds: {SUPPORTS}." in one.notes
