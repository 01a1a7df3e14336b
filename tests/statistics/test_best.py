"""Which arms are not told apart from the best: limits, equalities, and how often the best is left out."""

import math

import numpy as np
import pytest
from scipy import stats

from poolbench.statistics.best import _share, not_told_apart
from poolbench.statistics.blocks import fit
from poolbench.statistics.simulation import Design, best_left_out


def made(seed, gains, blocks=6, noise=1.0):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(len(gains), blocks)) * noise + draw.normal(size=blocks) + np.array(gains)[:, None]
    return {f"arm{number}": dict(enumerate(map(float, own))) for number, own in enumerate(values)}


@pytest.mark.parametrize("seed", range(5))
def test_of_two_arms_it_is_the_one_sided_test(seed):
    fitted = fit(made(seed, [0.0, 1.2]))
    found = fitted.difference("arm1", "arm0")
    expected = {"arm0", "arm1"} - ({"arm0"} if found.above(0.0) < 0.05 else set())
    expected -= {"arm1"} if found.below(0.0) < 0.05 else set()
    assert not_told_apart(fitted) == expected


def test_the_share_of_an_error_is_dunnetts():
    # Complete blocks: any two comparisons with one arm have a correlation of a half. The multivariate t is scipy's.
    arms, df = 5, 20
    share = _share((np.eye(arms) / 6).tobytes(), 0, (1, 2, 3, 4), df, 0.05)
    correlation = np.full((arms - 1, arms - 1), 0.5) + 0.5 * np.eye(arms - 1)
    quantile = stats.t.isf(share, df)
    inside = stats.multivariate_t.cdf(np.full(arms - 1, quantile), shape=correlation, df=df, random_state=0)
    assert inside == pytest.approx(0.95, abs=0.004)
    assert 0.05 / 4 < share < 0.05


def test_a_clear_order_leaves_the_best_and_what_is_close_to_it():
    fitted = fit(made(3, [0.0, 50.0, 49.9, 20.0]))
    assert not_told_apart(fitted) == {"arm1", "arm2"}


def test_names_and_order_do_not_matter():
    values = made(4, [0.0, 1.0, 2.0, 1.5, 0.2])
    there = not_told_apart(fit(values))
    assert not_told_apart(fit(dict(reversed(values.items())))) == there
    assert 0 < len(there) < 5


def test_a_floor_keeps_a_fluke_from_deciding():
    values = {"a": {0: 0.8, 1: 0.81, 2: 0.82}, "b": {0: 0.801, 1: 0.811, 2: 0.821001}}
    assert not_told_apart(fit(values)) == {"b"}
    assert not_told_apart(fit(values), dict.fromkeys(values, 0.003**2)) == {"a", "b"}


def test_without_a_spread_all_stay():
    assert not_told_apart(fit({"a": {0: 1.0}, "b": {0: 2.0}})) == {"a", "b"}


@pytest.mark.parametrize("design", [Design(3, 4), Design(6, 3, missing=0.2), Design(6, 5)])
def test_the_best_is_left_out_in_at_most_5_percent(design):
    draws = 400
    most = stats.binom.ppf(0.999, draws, 0.05) / draws
    assert best_left_out(design, draws, seed=5) <= most


def test_an_arm_that_is_worse_is_found():
    found = [not_told_apart(fit(made(seed, [0.0, 2.5, 2.5]))) for seed in range(40)]
    assert sum("arm0" in one for one in found) <= 8
    assert math.isclose(sum("arm1" in one for one in found) / 40, 1.0, abs_tol=0.15)
