"""The two views of tuned cells: at the same recipe, and each at its own."""

import dataclasses

import pytest

from poolbench.records.groups import group_hash, settings
from poolbench.records.read import Record
from poolbench.records.tuning import TUNED, mark, reads_test, recipe, views
from tests.report.synthetic import make_config

MARK = {
    "name": "default",
    "search": "1a2b3c4d",
    "parameters": {"optimizer.lr": "log(0.01,1.0)"},
    "trials": 9,
    "rungs": [[9, 3], [3, 8]],
    "sampler": "random",
    "seeds": [1000],
    "validation": 0.1,
    "accuracy": 0.7,
    "recipes": [],
}


def record(pool, lr=0.1, tuned=False, seed=0, recipes=(), **changes):
    config = make_config(pool, seed, optimizer__lr=lr, **changes)
    if lr != 0.1:
        config["names"]["optimizer"] = f"sgd(lr={lr})"
    if tuned:
        config["tuned"] = {**MARK, "set": {"optimizer.lr": lr}, "recipes": list(recipes)}
    return Record(config["run_id"], "runs", config)


def groups(records):
    """Setting -> its pools, of the views of ``records``."""
    seen = views(records)
    texts = settings(record.config for record in seen)
    found = {}
    for one in seen:
        found.setdefault(texts[group_hash(one.config)], []).append(one.config["names"]["pool"])
    return {text: sorted(pools) for text, pools in found.items()}


def test_records_without_a_tuned_one_stay_as_they_are():
    records = [record("max"), record("lp"), record("lp", lr=0.2)]
    assert views(records) == records


def test_tuned_cells_stand_in_one_group_however_their_values_differ():
    plain = "convnet, global_average, cifar10, 8 epochs"
    records = [record("max"), record("lp"), record("max", 0.03, True), record("lp", 0.3, True)]
    assert groups(records) == {plain: ["lp", "max"], f"{plain}, tuned": ["lp", "max"]}


def test_a_cell_at_the_recipe_that_others_share_is_in_both_views():
    shared = record("max")
    # The search found for max what everybody has: that cell was trained before, and bears no mark.
    other = record("lp", 0.3, True, recipes=[recipe(shared.config)])
    for records in ([other], [record("lp", 0.3, True, seed=1), other], [other, record("lp", 0.3, True, seed=1)]):
        found = groups([shared, record("lp"), *records])
        assert [sorted(set(pools)) for pools in found.values()] == [["lp", "max"], ["lp", "max"]]
    # The other way round: the tuned sweep came first, and its cell is what the shared recipe trains as well.
    found = groups([record("max", 0.1, True), record("lp"), record("lp", 0.3, True)])
    assert sorted(found.values()) == [["lp", "max"], ["lp", "max"]]


def test_two_tuned_cells_that_found_the_same_make_no_group_of_a_shared_recipe():
    found = groups([record("max", 0.3, True), record("lp", 0.3, True)])
    assert list(found.values()) == [["lp", "max"]]


def test_cells_that_differ_in_more_than_the_search_stay_apart():
    found = groups([record("max", 0.03, True), record("lp", 0.3, True, trainer__epochs=4)])
    assert list(found.values()) == [["max"], ["lp"]]


def test_values_in_the_view_say_tuned_and_the_records_stay_as_they_were():
    one = record("max", 0.03, True)
    before = repr(one)
    (seen,) = views([one])
    assert seen.config["optimizer"]["lr"] == TUNED
    assert seen.config["names"]["optimizer"] == f"sgd(lr={TUNED})"
    assert mark(seen.config).set == {"optimizer.lr": 0.03}
    assert repr(one) == before


@pytest.mark.parametrize(
    "damage",
    [
        {"search": 3},
        {"parameters": ["optimizer.lr"]},
        {"parameters": {"optimizer.lr": 3}},
        {"set": {}},
        {"rungs": []},
        {"rungs": [[9]]},
        {"rungs": [3]},
        {"trials": True},
        {"accuracy": "high"},
        {"recipes": [3]},
        {"seeds": "1000"},
    ],
)
def test_a_mark_that_is_not_as_we_write_it_is_none(damage):
    one = record("max", 0.03, True)
    assert mark(one.config) is not None
    config = {**one.config, "tuned": {**one.config["tuned"], **damage}}
    assert mark(config) is None
    views([dataclasses.replace(one, config=config)])


def test_trials_are_told_from_cells_that_read_the_test_set():
    assert reads_test(record("max"))
    assert reads_test(record("max", trainer__test=True))
    assert not reads_test(record("max", trainer__test=False))
