"""The two rules on the same made-up experiments."""

import numpy as np
import pytest

from poolbench.statistics.blocks import fit
from poolbench.statistics.simulation import Design, decided, drawn_gains
from scripts.simulate_rule2 import NOISE, both_rules


@pytest.mark.parametrize(("blocks", "more"), [(3, 0.15), (6, 0.05)])
def test_rule_2_decides_more_than_rule_1_at_the_measured_noise(blocks, more):
    points = 0.5 / NOISE
    first, second = both_rules(Design(blocks, 4, alike=11.0), points, points, 200)
    assert second - first > more


def test_both_rules_see_the_same_experiments():
    design = Design(4, 3)
    gains = next(iter(drawn_gains(design, 1.0, 1, seed=5)))
    # The first claim's gain is huge in units of the smallest difference: what decides it is what was drawn.
    draw = np.random.default_rng([5, 4, 3])
    from poolbench.statistics.simulation import _arms, _drawn

    fitted = fit(_arms(_drawn(design, 1.0, draw)))
    assert fitted.difference(1, "control").mean == pytest.approx(np.mean(gains[0]))
    assert decided(design, "better", 1e6, 1.0, 3, 5)["first"] == 1.0
