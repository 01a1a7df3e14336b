"""Arms within blocks: textbook values, limits, and equalities with what scipy knows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from poolbench.statistics.blocks import PRIOR_DF, Difference, accuracy_floor, fit

SOME = st.integers(0, 2**32 - 1)


def made(seed, arms=4, blocks=5, missing=0.0):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(arms, blocks)) + draw.normal(size=blocks) + np.arange(arms)[:, None]
    there = draw.random((arms, blocks)) >= missing
    return {f"arm{a}": {b: float(values[a, b]) for b in range(blocks) if there[a, b]} for a in range(arms)}


def test_a_textbooks_randomised_blocks():
    # Snedecor and Cochran's soybeans (Statistical Methods): four treatments of the seed and none, in five blocks.
    counts = {
        "check": [8, 10, 12, 13, 11],
        "arasan": [2, 6, 7, 11, 5],
        "spergon": [4, 10, 9, 8, 10],
        "semesan": [3, 5, 9, 10, 6],
        "fermate": [9, 7, 5, 5, 3],
    }
    fitted = fit({arm: dict(enumerate(own)) for arm, own in counts.items()})
    assert (fitted.squares, fitted.df) == (pytest.approx(86.56), 16)  # a mean square of 5.41
    found = fitted.difference("arasan", "check")
    assert (found.mean, found.blocks) == (pytest.approx(6.2 - 10.8), 5)


@given(seed=SOME, blocks=st.integers(2, 8))
def test_two_arms_are_the_paired_t_test(seed, blocks):
    values = made(seed, arms=2, blocks=blocks)
    found = fit(values).difference("arm1", "arm0")
    ours = [values["arm1"][b] - values["arm0"][b] for b in range(blocks)]
    test = stats.ttest_1samp(ours, 0.0, alternative="greater")
    assert found.above(0.0) == pytest.approx(test.pvalue)
    assert found.below(0.0) == pytest.approx(1 - test.pvalue)
    assert found.df == blocks - 1
    assert not found.pooled
    assert found.interval() == pytest.approx(tuple(stats.ttest_1samp(ours, 0.0).confidence_interval()))


@given(seed=SOME)
def test_complete_blocks_give_differences_of_means_and_anova_is_what_is_left(seed):
    values = made(seed)
    fitted = fit(values)
    table = np.array([list(own.values()) for own in values.values()])
    left = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    assert fitted.squares == pytest.approx(np.square(left).sum())
    assert fitted.df == 3 * 4
    found = fitted.difference("arm2", "arm0")
    assert found.mean == pytest.approx(table[2].mean() - table[0].mean())
    own = table[2] - table[0]
    mine, rest = np.square(own - own.mean()).sum() / 2, fitted.squares
    if found.pooled:
        prior = 1 / (1 / PRIOR_DF + 1 / 8)
        variance = (prior * (rest - mine) / 8 + mine) / (prior + 4)
        assert found.error == pytest.approx(math.sqrt(2 * variance / 5))
        assert found.df == pytest.approx(prior + 4)


@given(seed=SOME, shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_blocks_and_units_do_not_matter(seed, shift, scale):
    values = made(seed, missing=0.2)
    other = {arm: {b: scale * (value + shift * (b + 1)) for b, value in own.items()} for arm, own in values.items()}
    try:
        a, b = (fit(one).difference("arm1", "arm0") for one in (values, other))
    except ValueError:
        return  # an arm that is in no block with another
    assert b.mean == pytest.approx(scale * a.mean, rel=1e-6, abs=1e-6 * scale)
    assert (b.df, b.blocks, b.pooled) == (pytest.approx(a.df), a.blocks, a.pooled)
    assert math.isnan(a.error) == math.isnan(b.error)
    if a.error > 1e-9:
        assert b.error == pytest.approx(scale * a.error, rel=1e-4)


@given(seed=SOME)
def test_incomplete_blocks_are_least_squares(seed):
    values = made(seed, arms=3, blocks=6, missing=0.3)
    rows = [(a, b, value) for a, own in values.items() for b, value in own.items()]
    together = {b for _, b, _ in rows if sum(block == b for _, block, _ in rows) > 1}
    rows = [row for row in rows if row[1] in together]
    arms, blocks = (sorted({row[place] for row in rows}) for place in (0, 1))
    if {"arm0", "arm1"} - set(arms):
        return
    design = np.array([[*(row[0] == a for a in arms), *(row[1] == b for b in blocks)] for row in rows], dtype=float)
    solved = np.linalg.lstsq(design, np.array([row[2] for row in rows]), rcond=None)[0]
    contrast = np.zeros(design.shape[1])
    contrast[arms.index("arm1")], contrast[arms.index("arm0")] = 1, -1
    estimable = np.allclose(contrast @ np.linalg.pinv(design) @ design, contrast)
    if estimable:
        assert fit(values).difference("arm1", "arm0").mean == pytest.approx(contrast @ solved)


def test_arms_of_their_own_spread_are_not_pooled_and_a_fluke_meets_the_floor():
    calm = {a: {b: 0.01 * ((a * 7 + b * 3) % 5) for b in range(6)} for a in range(2, 6)}
    wild = {0: {b: float(b % 3) * 5 for b in range(6)}, 1: {b: float((b * 2) % 5) * 5 for b in range(6)}}
    assert not fit({**calm, **wild}).difference(1, 0).pooled
    assert fit({**calm, **wild}).difference(3, 2).df > 5
    same = {a: {b: a + b for b in range(3)} for a in range(3)}
    assert fit(same).difference(1, 0).error == pytest.approx(0.0, abs=1e-9)
    floor = accuracy_floor(0.85, 10_000)
    assert math.sqrt(floor) == pytest.approx(0.002, rel=0.02)  # 0.2 points
    assert fit(same).difference(1, 0, floor).error == pytest.approx(math.sqrt(floor * 2 / 3))


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="no block has two arms"):
        fit({"a": {0: 1.0, 1: 2.0}, "b": {2: 1.0}})
    once = fit({"a": {0: 1.0}, "b": {0: 3.0}}).difference("b", "a")
    assert once.mean == pytest.approx(2.0)
    assert once.df == 0
    assert all(map(math.isnan, (once.error, once.above(0), once.below(0), *once.interval())))


def test_equal_differences_have_no_spread_whatever_rounding_leaves():
    same = {"a": {s: 0.1 + 0.07 * s for s in range(7)}}
    same["b"] = {s: value + 0.3 for s, value in same["a"].items()}
    found = fit(same).difference("b", "a")
    assert [math.isnan(number) for number in (found.above(0), found.below(1), *found.interval())] == [True] * 4
    # A third arm that varies, or the floor, tells one.
    assert fit(same | {"c": {s: 0.1 * (s % 3) for s in range(7)}}).difference("b", "a").above(0) < 1
    assert fit(same).difference("b", "a", floor=1e-6).above(0) < 0.05


def test_what_is_exact_is_no_matter_of_chance():
    exact = Difference(2.0, 3, 0.0, 0.0, False, exact=True)
    assert (exact.above(1.0), exact.above(2.0), exact.below(3.0), exact.below(2.0)) == (0.0, 1.0, 0.0, 1.0)
    assert exact.interval() == (2.0, 2.0)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(10))
def test_the_last_digits_of_linear_algebra_are_not_told(seed, missing):
    values = made(seed, missing=missing)
    fitted = fit(values)
    turned = fit({arm: dict(reversed(own.items())) for arm, own in reversed(values.items())})  # summed otherwise
    for arm, control in itertools.combinations(fitted.effects, 2):
        assert fitted.difference(arm, control) == turned.difference(arm, control)
