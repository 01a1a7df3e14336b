"""All pairs at once are what one comparison after the other gives."""

import math

import numpy as np
import pytest

from poolbench.statistics.blocks import fit
from poolbench.statistics.comparisons import compare
from poolbench.statistics.pairs import VERDICTS, all_pairs


def made(seed: int, arms: int, blocks: int, absent: float = 0.0, unequal: bool = False) -> dict[str, dict[int, float]]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.02, blocks)
    values = {}
    for arm in range(arms):
        spread = 0.004 * (8 if unequal and arm == 0 else 1)
        own = 0.7 + 0.008 * arm + shared + rng.normal(0, spread, blocks)
        kept = rng.random(blocks) >= absent
        values[f"arm{arm}"] = {block: float(own[block]) for block in range(blocks) if kept[block]}
    return {arm: own for arm, own in values.items() if own}


@pytest.mark.parametrize(
    ("arms", "blocks", "absent", "unequal"),
    [(2, 5, 0, False), (6, 3, 0, False), (9, 6, 0.3, False), (5, 8, 0, True), (4, 2, 0, False), (3, 1, 0, False)],
)
@pytest.mark.parametrize("floor", [None, 3e-5])
def test_each_column_is_the_comparison_with_that_control(arms, blocks, absent, unequal, floor):
    values = made(arms + blocks, arms, blocks, absent, unequal)
    floors = None if floor is None else {arm: floor * place for place, arm in enumerate(values)}
    found = all_pairs(fit(values), floors)
    for control in found.arms:
        column = found.arms.index(control)
        one_by_one = compare(values, control, floors)
        for arm, one in one_by_one.items():
            row = found.arms.index(arm)
            low, high = one.difference.interval()
            assert found.blocks[row, column] == one.difference.blocks
            assert found.mean[row, column] == pytest.approx(one.difference.mean, abs=1e-9, nan_ok=True)
            assert found.half[row, column] == pytest.approx((high - low) / 2, rel=1e-6, nan_ok=True)
            assert found.p[row, column] == pytest.approx(one.p, rel=1e-5, abs=1e-12, nan_ok=True)
            assert VERDICTS[found.verdict[row, column]] == one.verdict


def test_arms_that_never_met_and_an_arm_with_itself_have_no_difference():
    values = {"a": {1: 0.5, 2: 0.6}, "b": {1: 0.4, 2: 0.55}, "c": {3: 0.4, 4: 0.5}, "d": {3: 0.45, 4: 0.5}}
    found = all_pairs(fit(values))
    assert math.isnan(found.mean[0, 2])
    assert found.blocks[0, 2] == 0
    assert np.isnan(np.diag(found.mean)).all()


def test_some_verdict_is_reached_in_both_ways():
    found = all_pairs(fit(made(1, 6, 8)))
    assert {VERDICTS[place] for place in found.verdict.ravel()} == set(VERDICTS)
