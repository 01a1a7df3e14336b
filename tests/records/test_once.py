"""Work that is done once for equal configs: the results are those of doing it each time."""

import copy

import pytest

from poolbench.records.groups import group_hash, pool_hash, pool_of
from poolbench.records.identity import SCHEMA_VERSION, cell_hash, digest, identity, run_id
from poolbench.records.once import once
from tests.report.synthetic import make_config


def test_equal_values_are_worked_out_once_and_others_each():
    asked = []
    double = once(lambda value: asked.append(value) or [value, value])
    for value in (1, 1.0, True, "1", {"a": [1]}, {"a": [1]}, {"a": [2]}):
        assert double(value) == [value, value]
        assert type(double(value)[0]) is type(value)
    assert asked == [1, 1.0, True, "1", {"a": [1]}, {"a": [2]}]


def test_a_value_that_was_changed_is_another():
    block = {"a": 1}
    size = once(lambda value: value["a"])
    assert size(block) == 1
    block["a"] = 2
    assert size(block) == 2


def test_what_cannot_be_copied_is_worked_out_each_time():
    assert once(lambda value: value())(lambda: 3) == 3


@pytest.mark.parametrize("pool", ["max", "lp"])
@pytest.mark.parametrize("change", [{}, {"trainer__epochs": 3}, {"seed": 7}, {"data__validation": 0.5}, {"view": "x"}])
def test_names_of_groups_pools_and_cells_are_those_that_are_worked_out_anew(pool, change):
    config = {**make_config(pool), "tuned": {"name": "any"}}
    for dotted, value in change.items():
        group, _, name = dotted.partition("__")
        config[group] = {**config[group], name: value} if name else value
    before = copy.deepcopy(config)
    same = identity(config)
    for _ in range(2):  # the second time it is known
        assert cell_hash(run_id(config)) == digest({"schema": SCHEMA_VERSION, "config": same})
        assert pool_hash(config) == digest(pool_of(config))
        shared = {key: value for key, value in same.items() if key not in ("pool", "seed")}
        flat = {f"{g}.{k}": v for g, part in shared.items() if isinstance(part, dict) for k, v in part.items()}
        flat |= {key: value for key, value in shared.items() if not isinstance(value, dict)}
        assert group_hash(config) == digest(flat)[:8]
    assert config == before


def test_seeds_have_names_of_their_own_and_2_is_2_0():
    first, second = ({**make_config(), "seed": seed} for seed in (1, 2))
    assert cell_hash(run_id(first)) != cell_hash(run_id(second))
    assert group_hash(first) == group_hash(second)
    assert cell_hash(run_id(second)) == cell_hash(run_id({**second, "seed": 2.0}))
