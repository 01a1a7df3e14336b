"""A race drops what is surely not the best, and says when it is over."""

import numpy as np
import pytest

from poolbench.statistics.best import not_told_apart, rivals
from poolbench.statistics.blocks import between, fit
from poolbench.statistics.race import LOOKS, blocks_to_halve, look, run
from poolbench.statistics.simulation import Field, raced


def values(means, blocks, noise=0.3, seed=0):
    draw = np.random.default_rng(seed)
    shared = draw.normal(0, 0.3, blocks)
    return {
        f"arm{place}": {block: float(mean + shared[block] + draw.normal(0, noise)) for block in range(blocks)}
        for place, mean in enumerate(means)
    }


def test_what_is_far_behind_falls_and_who_beat_it_is_named():
    found = look(values([80, 75, 80.1, 70], 6), 0.5)
    assert {fall.arm for fall in found.fallen} == {"arm1", "arm3"}
    assert set(found.left) == {"arm0", "arm2"}
    for fall in found.fallen:
        assert fall.rival in found.left
        assert fall.gain.mean > 4


def test_the_arms_left_are_those_not_told_apart_at_the_error_of_one_look():
    own = values([80, 79.6, 79.2, 78.9, 80], 8, seed=4)
    for looks in (1, 5):
        assert set(look(own, 0.5, looks).left) == not_told_apart(fit(own), error=0.05 / looks)
    assert len(look(own, 0.5, 5).left) >= len(look(own, 0.5, 1).left)


def test_it_is_settled_where_no_other_can_be_better_by_the_difference():
    own = values([80, 80, 80], 12, noise=0.2, seed=1)
    found = look(own, 1.0)
    assert (len(found.left), found.settled, found.ended) == (3, True, True)
    assert not look(own, 0.05).settled
    fitted = fit(own)
    told = rivals(fitted, error=0.05 / len(LOOKS))
    for arm in found.left[1:]:
        p = between(fitted, found.left[0], arm).above(-1.0)
        assert p == told[arm].told[found.left[0]].above(-1.0) < told[arm].error


def test_one_arm_left_ends_it():
    found = run(values([85, 80, 79], 20), 0.5)
    assert [(one.blocks, one.left, one.ended) for one in found] == [(3, ("arm0",), True)]


def test_arms_that_fell_are_not_looked_at_again():
    looks = run(values([80, 79.9, 76, 79.5], 20, seed=2), 0.05)
    seen = [{*one.left, *(fall.arm for fall in one.fallen)} for one in looks]
    assert seen[0] == {"arm0", "arm1", "arm2", "arm3"}
    for before, after in zip(looks, seen[1:], strict=False):
        assert after == set(before.left)
    assert [one.blocks for one in looks] == list(LOOKS[: len(looks)])


def test_blocks_that_not_all_have_do_not_count():
    own = values([80, 79, 80], 8)
    del own["arm1"][3]
    assert look(own, 0.5).blocks == 7
    complete = {arm: {b: v for b, v in blocks.items() if b != 3} for arm, blocks in own.items()}
    assert look(own, 0.5) == look(complete, 0.5)


def test_too_little_to_look_at_is_told():
    for few, words in ((values([80], 5), "got 1 and 5"), (values([80, 81], 1), "got 2 and 1"), ({}, "got 0 and 0")):
        with pytest.raises(ValueError, match=f"a look needs two arms and two blocks, {words}"):
            look(few, 0.5)


def test_the_best_is_seldom_lost():
    """200 races of arms that are all alike, in which each of them is the best: 5 % is what is promised."""
    lost = 0
    for seed in range(200):
        looks = run(values([80] * 5, 12, seed=seed), 0.5, (3, 6, 12))
        lost += "arm0" not in looks[-1].left
    assert lost <= 18  # of 200 at 5 %, more than 18 come by chance in one of 500 runs


def test_with_a_margin_only_what_is_surely_farther_behind_falls():
    own = values([80, 78, 75, 70], 6)
    found = look(own, 0.5, margin=3.0)
    assert {fall.arm for fall in found.fallen} == {"arm2", "arm3"}
    assert all(fall.gain.above(3.0) < 0.05 / len(LOOKS) for fall in found.fallen)
    assert set(look(own, 0.5).left) == {"arm0"}


def test_half_of_the_arms_fall_about_when_it_was_said():
    fell, seeds = [], range(40)
    for seed in seeds:
        own = values([80, 79.6, 79.6, 79.6], 40, seed=seed)
        told = blocks_to_halve({arm: dict(list(v.items())[:40]) for arm, v in own.items()}, 1)
        at = next((n for n in range(2, 41) if len(look(first(own, n), 0.1, 1).left) <= 2), 41)
        fell.append(at / told)
    assert 0.6 < np.median(fell) < 1.6


def first(own, blocks):
    return {arm: dict(list(v.items())[:blocks]) for arm, v in own.items()}


def test_arms_that_are_as_good_as_the_best_never_fall():
    own = values([80, 80, 70], 6, noise=0.2)
    own["arm1"] = {block: own["arm0"][block] + 0.1 * (-1) ** block for block in own["arm0"]}
    assert blocks_to_halve(own) < 6  # one of three is half of them, and it is far behind
    del own["arm2"]
    assert blocks_to_halve(own) == np.inf


def test_made_up_races_tell_what_they_lost_and_cost():
    far = raced(Field(5, spread=10.0, noise=0.1), 0.5, 20, seed=1)
    assert (far["none_close"], far["best_lost"]) == (0, 0)
    assert far["cells"] == pytest.approx(3 / 20, abs=0.03)
    alike = raced(Field(5, spread=0.0), 0.01, 20, seed=1, looks=(3, 6))
    assert alike["none_close"] == alike["best_lost"] == 0  # all of them are the best
    assert alike["cells"] > 0.9
    assert 4 < alike["left"] <= 5
