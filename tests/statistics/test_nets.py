"""Differences over nets: limits, a published example, and how often the intervals hold what they should."""

import math

import numpy as np
import pytest
from scipy import stats

from poolbench.statistics.blocks import Difference
from poolbench.statistics.nets import over_nets
from poolbench.statistics.simulation import covered


def nets(means, errors, df=10.0):
    return [Difference(mean, 6, error, df, pooled=True) for mean, error in zip(means, errors, strict=True)]


def test_nets_that_agree_are_the_mean_weighted_by_what_each_knows():
    errors = [0.5, 1.0, 2.0]
    found = over_nets(nets([1.0, 1.1, 0.9], errors))
    weights = 1 / np.square(errors)
    assert found.between == 0
    assert found.mean == pytest.approx(np.average([1.0, 1.1, 0.9], weights=weights))
    assert found.error == pytest.approx(1 / math.sqrt(weights.sum()))
    assert (found.nets, found.df) == (3, 2)


def test_nets_that_are_known_exactly_are_the_t_interval_over_nets():
    means = [1.0, 2.5, -0.3, 0.7]
    found = over_nets(nets(means, [1e-6] * 4))
    assert found.between == pytest.approx(np.std(means, ddof=1))
    assert found.difference.interval() == pytest.approx(tuple(stats.ttest_1samp(means, 0).confidence_interval()))


def test_paule_and_mandels_equation_holds():
    draw = np.random.default_rng(1)
    means, errors = draw.normal(0, 2, 7), draw.uniform(0.2, 0.8, 7)
    found = over_nets(nets(means, errors))
    weights = 1 / (errors**2 + found.between**2)
    centre = np.average(means, weights=weights)
    assert found.mean == pytest.approx(centre)
    assert np.sum(weights * (means - centre) ** 2) == pytest.approx(6, rel=1e-5)


def test_units_and_order_do_not_matter():
    draw = np.random.default_rng(2)
    means, errors = draw.normal(0, 2, 6), draw.uniform(0.5, 1.5, 6)
    one = over_nets(nets(means, errors))
    other = over_nets(nets(100 * means[::-1], 100 * errors[::-1]))
    for name in ("mean", "error", "between"):
        assert 100 * getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)
    assert 100 * one.low == pytest.approx(other.low, rel=1e-4)


def test_few_nets_give_no_answer_and_some_no_prediction():
    assert over_nets(nets([1, 2], [1, 1])) is None
    unknown = Difference(3.0, 1, math.nan, 0.0, pooled=False)
    assert over_nets([*nets([1, 2], [1, 1]), unknown]) is None
    four = over_nets(nets([1, 2, 3, 4], [1, 1, 1, 1]))
    assert math.isnan(four.low)
    five = over_nets(nets([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]))
    assert five.low < five.difference.interval()[0] < five.difference.interval()[1] < five.high


@pytest.mark.parametrize(("count", "between"), [(5, 1.0), (5, 4.0), (8, 2.0)])
def test_a_net_that_was_left_out_lies_in_the_interval(count, between):
    draws = 250
    most = stats.binom.ppf(0.999, draws, 0.05) / draws
    mean, another = covered(count, between, draws, seed=3)
    assert 1 - mean <= most
    assert 1 - another <= most


def test_the_chance_in_another_net_is_of_the_distribution_that_its_interval_is_of():
    means = 0.5 + stats.norm.ppf((np.arange(200) + 0.5) / 200)  # so many that mean and spread are known
    found = over_nets(nets(list(means), [1e-6] * 200))
    assert found.above == pytest.approx(stats.norm.cdf(0.5 / means.std(ddof=1)), abs=0.01)
    few = [0.1, 0.2, 0.3, -0.1, 0.4]
    assert over_nets(nets([-mean for mean in few], [0.1] * 5)).above == pytest.approx(
        1 - over_nets(nets(few, [0.1] * 5)).above, abs=0.02
    )
    sure = over_nets(nets([1.0, 1.1, 0.9, 1.05, 0.95, 1.0], [0.01] * 6))
    assert sure.low > 0
    assert sure.above > 0.975
    assert math.isnan(over_nets(nets(few[:4], [0.1] * 4)).above)
