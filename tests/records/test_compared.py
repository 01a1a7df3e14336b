"""Records seen as a comparison of something else than pools."""

import dataclasses

import pytest

from poolbench.records.collect import collect
from poolbench.records.compared import POOL, parse_factor, seen_as, usual_baseline_of, usual_factor
from poolbench.records.read import Record
from tests.report.synthetic import make_config


def record(**changes):
    config = make_config(**changes)
    return Record(config["run_id"], "runs", config, {"fingerprint": "abc"}, {"test_accuracy": 0.8, "epochs": 8}, {}, [])


def with_head(name, pool="max", seed=0, **options):
    one = record(pool=pool, seed=seed)
    config = {**one.config, "head": {"_target_": f"poolbench.heads.{name.title()}", **options}}
    config["names"] = {**config["names"], "head": name}
    config["run_id"] = f"{pool}-{name}-{'-'.join(map(str, options.values()))}-{seed}"
    return dataclasses.replace(one, run_id=config["run_id"], config=config)


HEADS = [with_head(name, seed=seed) for name in ("gem", "global_average", "flatten") for seed in (0, 1)]


def test_heads_of_one_pool_are_arms_of_one_group():
    table = collect(seen_as(HEADS, ("head",)))
    assert table["group"].nunique() == 1
    assert sorted(set(table["pool"])) == ["flatten", "gem", "global_average"]
    assert set(table["setting"]) == {"max, convnet, cifar10, 8 epochs"}


def test_other_pools_are_other_settings():
    records = [*HEADS, *(with_head(name, pool="lp") for name in ("gem", "flatten"))]
    table = collect(seen_as(records, ("head",)))
    assert table["group"].nunique() == 2
    assert len(set(table["setting"])) == 2


def test_two_options_of_one_head_have_labels_of_their_own():
    records = [with_head("gem", p=3.0), with_head("gem", p=5.0), with_head("flatten")]
    assert sorted(collect(seen_as(records, ("head",)))["pool"]) == ["flatten", "gem(head.p=3.0)", "gem(head.p=5.0)"]


def test_an_option_that_came_later_makes_no_other_arm():
    new = with_head("global_average")
    new.config["head"] = {"_target_": "poolbench.heads.GlobalAverage", "hidden": [], "class_maps": False}
    old = with_head("global_average", seed=1)
    old.config["head"] = {"_target_": "poolbench.heads.GlobalAverage", "hidden": []}
    table = collect(seen_as([new, old], ("head",)))
    assert (table["group"].nunique(), set(table["pool"])) == (1, {"global_average"})


def test_an_option_and_two_crossed_are_compared():
    records = [record(pool=pool, trainer__epochs=epochs) for pool in ("max", "lp") for epochs in (5, 10)]
    by_epochs = collect(seen_as(records, ("trainer.epochs",)))
    assert sorted(set(by_epochs["pool"])) == ["epochs=10", "epochs=5"]
    assert sorted(set(by_epochs["setting"])) == [
        "lp, convnet, global_average, cifar10",
        "max, convnet, global_average, cifar10",
    ]
    crossed = collect(seen_as(records, ("pool", "trainer.epochs")))
    assert crossed["group"].nunique() == 1
    assert sorted(crossed["pool"]) == ["lp + epochs=10", "lp + epochs=5", "max + epochs=10", "max + epochs=5"]


def test_cells_of_other_data_are_in_no_block_of_these():
    records = [record(), record(data__size=16)]
    table = collect(seen_as(records, ("data",)))
    assert table["group"].nunique() == 1
    assert table["fingerprint"].nunique() == 2


def test_pools_stay_as_they_are():
    records = [record(), record(pool="lp")]
    assert seen_as(records, POOL) == records


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record(pool=pool) for pool in ("max", "lp")], POOL),
        (HEADS, ("head",)),
        ([record(trainer__epochs=epochs) for epochs in (5, 10)], ("trainer.epochs",)),
        ([*HEADS, record(trainer__epochs=3)], POOL),  # two things vary
        ([record(), record(seed=1)], POOL),  # nothing does
        ([record(), record(optimizer__lr=0.2)], ("optimizer",)),
        ([*HEADS, with_head("gem", pool="lp")], POOL),
    ],
)
def test_one_thing_that_alone_varies_is_compared_by_itself(records, expected):
    assert usual_factor(records) == expected


def test_what_cannot_be_compared_is_refused_with_what_can():
    assert parse_factor("pool, head", HEADS) == ("pool", "head")
    assert parse_factor("trainer.batch_size", HEADS) == ("trainer.batch_size",)
    with pytest.raises(ValueError, match=r"no 'trainer.epoch' in these records. Did you mean 'trainer.epochs'"):
        parse_factor("trainer.epoch", HEADS)
    for text in ("", "head,", "head,head", "pool,head,model"):
        with pytest.raises(ValueError, match="one thing, or two different ones"):
            parse_factor(text, HEADS)


def test_the_usual_arm_is_the_baseline_else_the_first_by_number():
    assert usual_baseline_of(["gem", "global_average", "flatten"], ("head",)) == "global_average"
    assert usual_baseline_of(["epochs=10", "epochs=5"], ("trainer.epochs",)) == "epochs=5"
    assert (
        usual_baseline_of(["max + gem", "max + global_average", "lp + global_average"], ("pool", "head"))
        == "max + global_average"
    )
