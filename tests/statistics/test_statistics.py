import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from poolbench.statistics.comparisons import compare, holm, least_seeds, sign_flip_p
from poolbench.statistics.estimates import mean_interval

# Whole numbers of images: with them sums are exact, and ties are ties in whatever order one adds.
DIFFERENCES = st.lists(st.integers(-300, 300), min_size=2, max_size=8)
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
        difference = compare(pools, "max")["lp"].difference
        missed += not difference.low <= 0.01 <= difference.high
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


@QUIET
@given(DIFFERENCES)
def test_the_sign_flip_test_is_scipys(differences):
    differences = np.array(differences, dtype=float)

    def mean(values, axis):
        return values.mean(axis=axis)

    theirs = stats.permutation_test(
        (differences,), mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(theirs)


@QUIET
@given(DIFFERENCES)
def test_the_sign_flip_p_does_not_depend_on_sign_scale_or_order(differences):
    p = sign_flip_p(differences)
    assert sign_flip_p([-d for d in differences]) == p
    assert sign_flip_p(differences[::-1]) == pytest.approx(p)
    assert 2 / 2 ** len(differences) <= p <= 1


def test_least_seeds_is_the_first_number_that_can_reach_significance():
    assert least_seeds(1) == 6  # 5 paired seeds never can: 2 / 2^5 = 0.0625
    for comparisons in range(1, 50):
        n = least_seeds(comparisons)
        best = sign_flip_p(np.linspace(0.01, 0.02, n))  # All on one side: nothing gives a smaller p.
        assert holm([best] * comparisons)[0] < 0.05
        assert holm([sign_flip_p(np.linspace(0.01, 0.02, n - 1))] * comparisons)[0] >= 0.05


def test_five_seeds_are_said_to_be_beyond_the_exact_test_and_six_are_not():
    for seeds, can_tell in ((5, False), (6, True)):
        pools = {"max": _by_seed(np.zeros(seeds)), "lp": _by_seed(np.linspace(0.01, 0.02, seeds))}
        assert compare(pools, "max")["lp"].exact_can_tell is can_tell


def test_only_seeds_that_both_have_are_compared():
    pools = {"max": {0: 0.80, 1: 0.81, 2: 0.79, 5: 0.99}, "lp": {0: 0.82, 1: 0.82, 2: 0.81, 7: 0.10}}
    pair = compare(pools, "max")["lp"]
    assert (pair.difference.n, pair.missing, pair.unpaired) == (3, (5,), (7,))
    assert pair.difference.mean == pytest.approx(0.05 / 3)
    assert pair.p_t == pytest.approx(stats.ttest_rel([0.82, 0.82, 0.81], [0.80, 0.81, 0.79]).pvalue)


def test_one_seed_has_a_mean_but_neither_interval_nor_verdict():
    pair = compare({"max": {0: 0.8}, "lp": {0: 0.9}}, "max")["lp"]
    assert pair.difference.mean == pytest.approx(0.1)
    assert math.isnan(pair.difference.low)
    assert math.isnan(pair.p_holm)
    assert pair.verdict == "cannot tell"


def test_pools_without_a_common_seed_and_missing_baselines_give_no_p():
    assert compare({"lp": {0: 0.8}}, "max") == {}
    assert compare({"max": {}, "lp": {0: 0.8}}, "max") == {}
    pair = compare({"max": {0: 0.8}, "lp": {1: 0.8}}, "max")["lp"]
    assert pair.difference.n == 0
    assert math.isnan(pair.difference.mean)
    assert pair.verdict == "cannot tell"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_differences_of_few_seeds_are_not_called_real(seeds):
    pools = {"max": _by_seed(np.linspace(0.7, 0.8, seeds)), "lp": _by_seed(np.linspace(0.7, 0.8, seeds) + 0.01)}
    pair = compare(pools, "max")["lp"]
    assert pair.constant
    assert pair.p_t == pytest.approx(2 / 2**seeds)
    assert math.isnan(pair.difference.low)
    assert pair.verdict == "cannot tell"


def test_identical_accuracies_differ_by_exactly_nothing():
    accuracies = _by_seed([0.8, 0.7, 0.9])
    pair = compare({"max": accuracies, "lp": accuracies}, "max")["lp"]
    assert (pair.difference.mean, pair.difference.low, pair.difference.high, pair.p_t) == (0, 0, 0, 1)
    assert pair.verdict == "cannot tell"


def test_comparisons_without_a_p_do_not_count_in_holms_correction():
    rng = np.random.default_rng(3)
    pools = {"max": _by_seed(rng.normal(size=4)), "lp": _by_seed(rng.normal(size=4)), "new": {0: 0.5}}
    pair = compare(pools, "max")["lp"]
    assert pair.p_holm == pair.p_t


def test_more_pairs_than_can_be_flipped_have_no_exact_p_but_a_verdict():
    rng = np.random.default_rng(4)
    pools = {"max": _by_seed(rng.normal(size=20)), "lp": _by_seed(rng.normal(3, 1, size=20))}
    pair = compare(pools, "max")["lp"]
    assert math.isnan(pair.p_exact)
    assert pair.verdict == "higher"


def test_two_pairs_never_give_a_verdict_however_alike_their_differences():
    pools = {"max": {0: 0.80, 1: 0.81}, "lp": {0: 0.90, 1: 0.9101}}
    compared = compare(pools, "max")["lp"]
    assert compared.p_holm < 0.05
    assert compared.verdict == "cannot tell"
    pools["max"][2], pools["lp"][2] = 0.80, 0.9001
    assert compare(pools, "max")["lp"].verdict == "higher"
