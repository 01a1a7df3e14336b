"""The chance that declared seeds decide, told from cells that are done."""

import numpy as np
import pytest

from poolbench.claims.chances import chance_lines, chances
from poolbench.statistics.blocks import accuracy_floor, fit
from poolbench.statistics.power import blocks_for, power
from tests.claims.claimed import make_arms, make_claims

RESULT = {"test_samples": 10_000}


def values(seeds=5, noise=0.004):
    draw = np.random.default_rng(1)
    return {arm: dict(enumerate(map(float, 0.8 + draw.normal(0, noise, seeds)))) for arm in ("max", "overlapping")}


@pytest.mark.parametrize("seeds", [3, 20])
def test_a_chance_is_the_power_at_the_spread_that_was_found(tmp_path, seeds):
    own = values()
    claims = make_claims(tmp_path, {}, {"kind": "equal"}, {"headline": False})
    found = chances(claims, make_arms(own, result=RESULT), seeds)
    floor = accuracy_floor(np.mean(list(own["overlapping"].values())), 10_000)
    sd = fit(own).difference("overlapping", "max", floor).error * np.sqrt(5 / 2)
    for one, kind, family, gains in zip(
        found, ("better", "equal", "better"), (2, 2, 1), ((0.01, 0.0), (0.0,), (0.01, 0.0)), strict=True
    ):
        assert one.sd == pytest.approx(sd)
        assert one.decided == pytest.approx({gain: power(kind, gain, 0.01, sd, seeds, 2, family) for gain in gains})
        assert one.needed == max(blocks_for(kind, gain, 0.01, sd, 2, family) for gain in gains)


def test_lines_name_the_least_chance_and_the_seeds_for_more(tmp_path):
    claims = make_claims(tmp_path)
    head, line = chance_lines(found := chances(claims, make_arms(values(), result=RESULT), 3), 3)
    assert head == "chance to decide with 3 seeds, by the spread of cells that are done:"
    least = min(found[0].decided.values())
    assert least < 0.8
    assert line.startswith(f"  lower_error: {int(100 * least)} % (sd ")
    assert line.endswith(f" points; {found[0].needed} seeds for 80 %)")
    (_, enough) = chance_lines(chances(claims, make_arms(values(), result=RESULT), 60), 60)
    assert "for 80 %" not in enough
    (_, never) = chance_lines(chances(claims, make_arms(values(noise=0.2), result=RESULT), 3), 3)
    assert "more than 200 seeds for 80 %" in never


def test_without_cells_or_without_blocks_it_is_not_known(tmp_path):
    claims = make_claims(tmp_path, {}, {"treatment": {"pool": "lp"}})
    assert chance_lines(chances(claims, [], 3), 3) == [
        "chance to decide with 3 seeds: not known, no cells that are done tell the spread (poolbench power --sd)"
    ]
    _, known, unknown = chance_lines(chances(claims, make_arms(values(), result=RESULT), 3), 3)
    assert "%" in known
    assert unknown == "  claim_1: not known, its arms have not met in cells that are done"
