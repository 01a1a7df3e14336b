"""Leaving nets out: the interval of the others, what is counted, and how often a model that holds keeps its promise."""

import math

import numpy as np
import pytest

from poolbench.statistics.blocks import Difference
from poolbench.statistics.nets import over_nets, shown_elsewhere
from poolbench.statistics.promise import kept, left_out


def difference(mean, error=0.3, df=30.0):
    return Difference(float(mean), 2, error, df, pooled=True)


def experiment(seed, arms=12, nets=8, worth=1.0, own=1.0, error=0.3):
    """Gains with what the control is worth in a net in common."""
    draw = np.random.default_rng(seed)
    control = worth * draw.standard_normal(nets)
    noise = error / math.sqrt(2) * draw.standard_normal(nets)
    return {
        f"p{arm}": {
            net: difference(
                arm / 5 + control[net] + own * draw.standard_normal() + noise[net] + error / math.sqrt(2) * extra, error
            )
            for net, extra in enumerate(draw.standard_normal(nets))
        }
        for arm in range(arms)
    }


def test_what_is_shown_elsewhere_is_the_true_difference_and_the_noise_of_its_cells():
    nets = [difference(mean) for mean in (1.0, 2.0, 0.5, 1.4, 1.1, 0.2)]
    over = over_nets(nets)
    sure = shown_elsewhere(nets, difference(0.0, error=1e-9))
    assert sure == pytest.approx((over.low, over.high), rel=1e-6)
    low, high = shown_elsewhere(nets, difference(0.0, error=5.0, df=1e9))
    assert low < sure[0]
    assert high > sure[1]
    assert high - low == pytest.approx(2 * 1.96 * math.hypot(5.0, (sure[1] - sure[0]) / 4), rel=0.05)
    assert all(map(math.isnan, shown_elsewhere(nets[:4], difference(0.0))))
    assert all(map(math.isnan, shown_elsewhere(nets, difference(0.0, error=math.nan, df=0))))


def test_each_net_is_predicted_by_the_others_alone():
    arms = experiment(0, arms=2, nets=6)
    cases = left_out(arms)
    assert len(cases) == 12
    one = next(case for case in cases if (case.arm, case.net) == ("p1", 3))
    others = [own for net, own in arms["p1"].items() if net != 3]
    assert (one.low, one.high) == shown_elsewhere(others, arms["p1"][3])
    assert one.shown == arms["p1"][3].mean
    # However far off the left-out one is, its interval stays.
    arms["p1"][3] = difference(1e6)
    (far,) = [case for case in left_out(arms) if (case.arm, case.net) == ("p1", 3)]
    assert (far.low, far.high) == (one.low, one.high)
    assert one.inside
    assert not far.inside


def test_too_few_nets_predict_nothing():
    arms = experiment(0, nets=5)
    assert left_out(arms) == []  # four others
    assert kept(arms, repeats=2) is None


def test_where_the_model_holds_the_count_is_as_expected_and_shared_worth_makes_it_uncertain():
    """The counted share lies in the simulated range in most experiments; arms that share much move together."""
    told = [kept(experiment(seed, arms=6, nets=6), repeats=20) for seed in range(12)]
    assert sum(one.as_expected for one in told) >= 10
    assert all(one.cases == 36 for one in told)
    assert 0.9 <= np.mean([one.share for one in told]) <= 1.0
    together = kept(experiment(1, worth=3.0, own=0.05, error=0.05), repeats=30)
    apart = kept(experiment(1, worth=0.0, own=3.0, error=0.05), repeats=30)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_a_net_unlike_the_others_breaks_the_promise():
    arms = experiment(3, arms=10, nets=8, worth=0.2, own=0.2, error=0.1)
    for own in arms.values():
        own[7] = difference(own[7].mean + 20.0, 0.1)
    cases = [case for case in left_out(arms) if case.net == 7]
    assert not any(case.inside for case in cases)
