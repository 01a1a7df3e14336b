import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from poolbench.statistics.comparisons import compare, difference_p, holm
from poolbench.statistics.estimates import mean_interval

QUIET = settings(deadline=None, derandomize=True, max_examples=60)


def _by_seed(values):
    return dict(enumerate(np.asarray(values, dtype=float)))


def _most(rate, draws):
    """More than this share of ``draws`` would be seen once in a thousand times if the true rate were ``rate``."""
    return stats.binom.ppf(0.999, draws, rate) / draws


def test_the_interval_covers_the_true_mean_in_95_percent_of_draws():
    draws = 4000
    sample = np.random.default_rng(0).normal(0.8, 0.01, (draws, 5))
    missed = sum(not (e.low <= 0.8 <= e.high) for e in map(mean_interval, sample)) / draws
    assert 0.05 - (_most(0.05, draws) - 0.05) <= missed <= _most(0.05, draws)


def test_the_interval_of_differences_covers_the_true_difference_in_95_percent_of_draws():
    draws, rng = 1500, np.random.default_rng(1)
    missed = 0
    for _ in range(draws):
        shared = rng.normal(0.8, 0.02, 6)  # What a seed does to both: pairing takes it out.
        pools = {"max": _by_seed(shared), "lp": _by_seed(shared + rng.normal(0.01, 0.004, 6))}
        low, high = compare(pools, "max")["lp"].difference.interval()
        missed += not low <= 0.01 <= high
    assert 0.05 - (_most(0.05, draws) - 0.05) <= missed / draws <= _most(0.05, draws)


@pytest.mark.parametrize(("seeds", "others"), [(3, 1), (6, 4), (10, 2)])
def test_a_true_null_is_called_a_difference_in_at_most_5_percent_of_reports(seeds, others):
    draws, rng = 500, np.random.default_rng([seeds, others])
    wrong = 0
    for _ in range(draws):
        shared = rng.normal(0.8, 0.01, seeds)
        accuracies = np.round(shared + rng.normal(0, 0.004, (others + 1, seeds)), 4)  # of 10,000 images
        pools = {f"pool{i}": _by_seed(values) for i, values in enumerate(accuracies)}
        wrong += any(pair.verdict != "cannot tell" for pair in compare(pools, "pool0").values())
    assert wrong / draws <= _most(0.05, draws)


def test_a_clear_difference_is_called_by_its_direction():
    rng = np.random.default_rng(2)
    shared = rng.normal(0.8, 0.01, 8)
    pools = {
        "max": _by_seed(shared),
        "better": _by_seed(shared + rng.normal(0.03, 0.004, 8)),
        "worse": _by_seed(shared - rng.normal(0.03, 0.004, 8)),
        "alike": _by_seed(shared + rng.normal(0, 0.004, 8)),
    }
    verdicts = {name: pair.verdict for name, pair in compare(pools, "max").items()}
    assert verdicts == {"better": "higher", "worse": "lower", "alike": "cannot tell"}


@QUIET
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_never_below_p_never_above_bonferroni(p_values):
    adjusted = holm(p_values)
    for i, p in enumerate(p_values):
        assert p <= adjusted[i] <= min(1.0, len(p_values) * p) + 1e-15
        assert all(adjusted[i] <= adjusted[j] for j, other in enumerate(p_values) if p < other)
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))


def test_holm_of_three():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_equal_differences_have_the_exact_tests_p(n):
    assert difference_p([0.01] * n) == 2 / 2**n
    assert difference_p([0.01] * n, against=0.01) == 1.0


def test_two_pools_are_the_paired_t_test_over_the_seeds_that_both_have():
    pools = {"max": {0: 0.80, 1: 0.81, 2: 0.79, 5: 0.99}, "lp": {0: 0.82, 1: 0.82, 2: 0.81, 7: 0.10}}
    pair = compare(pools, "max")["lp"]
    assert pair.difference.blocks == 3
    assert pair.difference.mean == pytest.approx(0.05 / 3)
    assert pair.p == pytest.approx(stats.ttest_rel([0.82, 0.82, 0.81], [0.80, 0.81, 0.79]).pvalue)


def test_more_pools_tell_the_spread_better():
    rng = np.random.default_rng(7)
    values = {f"pool{i}": _by_seed(rng.normal(0.8, 0.003, 3)) for i in range(8)}
    alone = compare({name: values[name] for name in ("pool0", "pool1")}, "pool0")["pool1"]
    among = compare(values, "pool0")["pool1"]
    assert among.difference.mean == pytest.approx(alone.difference.mean)
    assert among.difference.df > alone.difference.df == 2


def test_one_seed_has_a_mean_but_neither_interval_nor_verdict():
    pair = compare({"max": {0: 0.8}, "lp": {0: 0.9}}, "max")["lp"]
    assert pair.difference.mean == pytest.approx(0.1)
    assert math.isnan(pair.difference.interval()[0])
    assert math.isnan(pair.p_holm)
    assert pair.verdict == "cannot tell"


def test_pools_without_a_common_seed_and_missing_baselines_give_no_p():
    assert compare({"lp": {0: 0.8}}, "max") == {}
    assert compare({"max": {}, "lp": {0: 0.8}}, "max") == {}
    pair = compare({"max": {0: 0.8}, "lp": {1: 0.8}}, "max")["lp"]
    assert pair.difference.blocks == 0
    assert math.isnan(pair.difference.mean)
    assert pair.verdict == "cannot tell"


def test_pools_that_meet_through_a_third_one_alone_get_no_verdict():
    rng = np.random.default_rng(8)
    here, there = [(seed, "here") for seed in range(4)], [(seed, "there") for seed in range(4)]
    values = {"max": here, "lp": there, "average": [*here, *there]}
    drawn = {
        name: {block: rng.normal(0.8 + 0.1 * (name == "lp"), 0.001) for block in own} for name, own in values.items()
    }
    found = compare(drawn, "max")
    assert (found["lp"].difference.blocks, found["lp"].verdict) == (0, "cannot tell")
    assert found["average"].difference.blocks == 4


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_differences_are_judged_by_the_floor_and_not_without(seeds):
    pools = {"max": _by_seed(np.linspace(0.7, 0.8, seeds)), "lp": _by_seed(np.linspace(0.7, 0.8, seeds) + 0.01)}
    pair = compare(pools, "max")["lp"]
    assert math.isnan(pair.p)
    assert pair.verdict == "cannot tell"
    floor = 0.001**2
    pair = compare(pools, "max", {"max": floor, "lp": floor})["lp"]
    assert pair.difference.error == pytest.approx(0.001 * math.sqrt(2 / seeds))
    assert pair.verdict == ("higher" if seeds > 2 else "cannot tell")


def test_comparisons_of_few_blocks_do_not_count_in_holms_correction():
    rng = np.random.default_rng(3)
    pools = {"max": _by_seed(rng.normal(size=4)), "lp": _by_seed(rng.normal(size=4)), "new": {0: 0.5}}
    found = compare(pools, "max")
    assert found["lp"].p_holm == found["lp"].p
    assert not math.isnan(found["new"].p)  # the others tell a spread
    assert math.isnan(found["new"].p_holm)


def test_two_pairs_never_give_a_verdict_however_alike_their_differences():
    pools = {"max": {0: 0.80, 1: 0.81}, "lp": {0: 0.90, 1: 0.9101}}
    compared = compare(pools, "max")["lp"]
    assert compared.p < 0.05
    assert compared.verdict == "cannot tell"
    pools["max"][2], pools["lp"][2] = 0.80, 0.9001
    assert compare(pools, "max")["lp"].verdict == "higher"
