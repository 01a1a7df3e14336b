"""Drawing a part of a sweep: comparable within seeds, the same anywhere, and growing without changing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench.records.groups import group_hash
from poolbench.sweep.cells import Cell
from poolbench.sweep.sample import draw
from tests.report.synthetic import make_config


def sweep(pools=5, settings=4, seeds=3):
    """Cells in a plan's order: the seed varies slowest."""
    configs = [
        make_config(f"pool{pool}", seed, optimizer__lr=0.1 / (1 + setting))
        for seed in range(seeds)
        for pool in range(pools)
        for setting in range(settings)
    ]
    return [Cell(config["run_id"], config, ()) for config in configs]


def names(cells):
    return [cell.run_id for cell in cells]


def of_seed(cells, seed):
    return [cell for cell in cells if cell.config["seed"] == seed]


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_larger_draw_holds_a_smaller_one_and_both_keep_the_order(one, two):
    cells = sweep()
    small, large = draw(cells, min(one, two))[0], draw(cells, max(one, two))[0]
    assert len(small) == min(one, two)
    assert set(names(small)) <= set(names(large))
    assert [cell for cell in cells if cell in large] == large


@pytest.mark.parametrize("count", range(1, 60, 7))
def test_seeds_are_whole_and_settings_have_all_their_pools_but_for_the_last(count):
    cells = sweep()
    taken, _ = draw(cells, count)
    for seed in range(count // 20):
        assert len(of_seed(taken, seed)) == 20
    last = of_seed(taken, count // 20)
    sizes = sorted(
        (sum(group_hash(cell.config) == group for cell in last) for group in {group_hash(c.config) for c in last}),
        reverse=True,
    )
    assert sizes == [5] * (count % 20 // 5) + [count % 5] * (count % 5 > 0)
    # The first pool of the sweep, which others are compared with, is there wherever any is.
    for group in {group_hash(cell.config) for cell in last}:
        assert any(group_hash(c.config) == group and c.config["names"]["pool"] == "pool0" for c in last)


def test_added_seeds_change_nothing_and_an_added_pool_or_setting_little():
    few = set(names(draw(sweep(), 30)[0]))
    assert set(names(draw(sweep(seeds=9), 30)[0])) == few
    assert len(few & set(names(draw(sweep(pools=6), 30)[0]))) >= 20
    assert len(few & set(names(draw(sweep(settings=5), 30)[0]))) >= 20


def test_the_draw_is_one_among_settings_and_not_the_first_ones():
    cells = sweep(settings=12, seeds=1)
    drawn = [cells.index(cell) % 12 for cell in draw(cells, 30)[0]]
    assert set(drawn) != set(range(6))
    assert len(set(drawn)) == 6


def test_all_are_taken_where_there_are_no_more():
    cells = sweep()
    assert draw(cells, None) == (cells, [])
    for count in (60, 61):
        taken, notes = draw(cells, count)
        assert taken == cells
        assert notes == [f"sweep.sample={count}: the sweep has 60 cells, all are taken"]
    assert draw(cells, 25)[1] == ["sweep.sample=25: 25 of 60 cells; of seed 1 only 5 of 20"]
    assert draw(cells, 40)[1] == ["sweep.sample=40: 40 of 60 cells"]
