"""Rank agreement of settings, and associations: limits, equalities, and how often chance is called more than that."""

import math

import numpy as np
import pytest
from scipy import stats

from poolbench.statistics.agreement import agreement, differ_with, go_with


def table(rows):
    """Rows of settings as arm -> setting -> value."""
    return {f"p{arm}": {setting: float(row[arm]) for setting, row in enumerate(rows)} for arm in range(len(rows[0]))}


def test_settings_of_one_order_agree_wholly_and_of_the_opposite_not_at_all():
    order = np.arange(8.0)
    same = agreement(table([order, np.exp(order), order - 100]))
    assert (same.tau, same.low, same.high, same.settings) == pytest.approx((1.0, 1.0, 1.0, 3))
    assert agreement(table([order, -order])).tau == pytest.approx(-1.0)
    assert math.isnan(agreement(table([order, -order])).low)


def test_it_is_the_mean_of_kendalls_tau_over_pairs():
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((4, 9))
    pairs = [stats.kendalltau(rows[a], rows[b]).statistic for a in range(4) for b in range(a)]
    assert agreement(table(rows)).tau == pytest.approx(np.mean(pairs))


def test_few_arms_in_common_give_no_answer():
    assert agreement(table(np.random.default_rng(0).standard_normal((3, 4)))) is None
    assert agreement({"max": {"a": 0.0}, "average": {"b": 1.0}}) is None


def test_its_interval_holds_the_true_agreement_mostly():
    """Orders that share a common part: the mean tau of many settings is the truth."""
    draw = np.random.default_rng(1)
    common = draw.standard_normal(15)
    true = agreement(table(common + draw.standard_normal((60, 15)))).tau
    found = [agreement(table(common + draw.standard_normal((8, 15)))) for _ in range(60)]
    inside = sum(one.low <= true <= one.high for one in found)
    assert 52 <= inside <= 60


def test_a_property_is_told_by_spearmans_rho_over_the_arms_that_have_it():
    draw = np.random.default_rng(2)
    gains = {f"p{arm}": float(gain) for arm, gain in enumerate(draw.standard_normal(20))}
    cost = {arm: 2 * gain + 0.8 * draw.standard_normal() for arm, gain in gains.items()}
    cost.pop("p3")
    cost["p4"] = math.nan
    nothing = {arm: float(value) for arm, value in zip(gains, draw.standard_normal(20), strict=True)}
    found = {one.name: one for one in go_with(gains, {"cost": cost, "nothing": nothing})}
    arms = [arm for arm in gains if arm not in ("p3", "p4")]
    rho = stats.spearmanr([gains[arm] for arm in arms], [cost[arm] for arm in arms])
    assert found["cost"].units == 18
    assert found["cost"].strength == pytest.approx(rho.statistic)
    assert found["cost"].p == pytest.approx(rho.pvalue, abs=2e-3)
    assert found["cost"].p_holm == pytest.approx(min(1.0, 2 * found["cost"].p))
    assert found["nothing"].p > 0.05


def test_what_is_the_same_of_all_or_known_of_few_is_left_out():
    gains = {f"p{arm}": float(arm) for arm in range(9)}
    same, few = dict.fromkeys(gains, 1.0), {"p0": 1.0, "p1": 2.0}
    assert go_with(gains, {"same": same, "few": few}) == []
    assert differ_with(table(np.ones((6, 3))), {"depth": dict.fromkeys(range(6), 1.0)}) == []


def test_the_share_of_a_feature_is_one_where_a_line_says_all_and_small_where_it_says_nothing():
    feature = {0: 0.0, 1: 0.0, 2: 0.0, 3: 1.0, 4: 1.0, 5: 1.0}
    rows = [[arm * feature[setting] for arm in (1.0, -2.0, 0.5)] for setting in feature]
    (found,) = differ_with(table(rows), {"grey": feature})
    assert found.strength == pytest.approx(1.0)
    assert found.units == 6
    assert found.p == pytest.approx(2 / 20, abs=0.02)  # of the ways to give three settings the feature
    draw = np.random.default_rng(3)
    shares = [differ_with(table(draw.standard_normal((6, 10))), {"grey": feature})[0].p for _ in range(20)]
    assert np.mean(np.array(shares) < 0.05) <= 0.15


def test_an_arm_that_some_setting_lacks_does_not_count_among_those_over_settings():
    draw = np.random.default_rng(4)
    values = table(draw.standard_normal((6, 4)))
    feature = {"depth": {setting: float(setting) for setting in range(6)}}
    whole = differ_with({arm: values[arm] for arm in ("p0", "p1", "p2")}, feature)
    values["p3"].pop(2)
    assert differ_with(values, feature) == whole
