import math

import pytest

from poolbench.claims.claim import ClaimError
from poolbench.claims.pairing import comparable, matches, pair_notes, pairings
from tests.claims.claimed import make_arms, make_claims, make_record

ARMS = {"max": [0.80, 0.81, 0.79], "overlapping": [0.82, 0.82, 0.81]}
NET = {"_target_": "x.ResNet", "widths": [16, 32]}


def pairs(claim, records):
    return pairings(claim, comparable(records))


@pytest.fixture
def claim(tmp_path):
    return make_claims(tmp_path)[0]


@pytest.mark.parametrize(
    ("pattern", "right"),
    [
        ({}, True),
        ({"pool": "lp"}, True),
        ({"pool": "max"}, False),
        ({"pool": "lp", "pool.kernel_size": 2.0}, True),
        ({"pool.kernel_size": 3}, False),
        ({"pool.kernel_size": True}, False),
        ({"pool.nothing": None}, False),
        ({"model.widths": [32, 64, 128]}, True),
        ({"model.widths": [32, 64]}, False),
        ({"trainer.sizes": None}, True),  # which records made before it was an option do not have
        ({"model": "convnet", "trainer.epochs": 8}, True),
    ],
)
def test_a_match_is_by_choice_and_by_value(pattern, right):
    (cell,) = comparable([make_record("lp(p=3.0)")])
    assert matches(cell, pattern) is right


def test_pools_site_by_site_are_matched_by_all_their_names():
    (cell,) = comparable([make_record("max(kernel_size=3)+average")])
    assert matches(cell, {"pool": "max+average"})
    assert not matches(cell, {"pool": "max"})


def test_arms_are_paired_by_seed_whatever_the_order(claim):
    (found,) = pairs(claim, make_arms(ARMS)[::-1])
    assert found.stratum == ""
    assert found.control.values == {0: 0.80, 1: 0.81, 2: 0.79}
    assert found.treatment.values == {0: 0.82, 1: 0.82, 2: 0.81}
    assert found.control.cells[1].record.run_id.startswith("max-")
    assert pair_notes(claim, found) == []


def test_a_claim_has_a_stratum_for_each_model_that_its_arms_do_not_mention(tmp_path, claim):
    records = make_arms(ARMS) + make_arms(ARMS, names__model="resnet", model=NET)
    assert [found.stratum for found in pairs(claim, records)] == ["model convnet", "model resnet"]
    (only,) = make_claims(tmp_path, {"where": {"model": "resnet"}})
    assert [found.stratum for found in pairs(only, records)] == [""]


def test_what_follows_from_the_model_is_no_part_of_a_stratums_name(claim):
    own = {"names__model": "resnet", "model": NET, "names__optimizer": "muon", "names__schedule": "linear"}
    records = make_arms(ARMS) + make_arms(ARMS, **own)
    assert [found.stratum for found in pairs(claim, records)] == ["model convnet", "model resnet"]
    records += make_arms(ARMS, **own | {"names__optimizer": "adamw", "optimizer__lr": 0.01})
    assert [found.stratum for found in pairs(claim, records)] == [
        "model convnet, optimizer sgd",
        "model resnet, optimizer adamw",
        "model resnet, optimizer muon",
    ]


def test_models_that_the_arms_name_are_compared_with_one_another(tmp_path):
    arms = {"control": {"model": "convnet"}, "treatment": {"model": "resnet"}, "where": {"pool": "max"}}
    (claim,) = make_claims(tmp_path, arms)
    records = make_arms(ARMS) + make_arms(ARMS, names__model="resnet", model=NET)
    (found,) = pairs(claim, records)
    assert found.stratum == ""
    assert all(cell.record.config["names"]["model"] == "resnet" for cell in found.treatment.cells.values())
    assert pair_notes(claim, found) == []


def test_an_arm_of_several_models_is_never_mixed_up_with_another_of_others(claim):
    records = make_arms({"max": [0.8] * 3}) + make_arms({"overlapping": [0.8] * 3}, names__model="resnet", model=NET)
    found = pairs(claim, records)
    assert [(len(own.control.values), len(own.treatment.values)) for own in found] == [(3, 0), (0, 3)]


def test_an_arm_that_matches_two_configs_is_refused_with_what_tells_them_apart(claim):
    records = [*make_arms(ARMS), make_record("max", 0, trainer__epochs=4)]
    with pytest.raises(ClaimError, match=r"'lower_error': control \{pool max\} matches two configs") as error:
        pairs(claim, records)
    ids = [record.run_id for record in records if record.run_id.startswith("max") and record.config["seed"] == 0]
    for word in (*ids, "trainer.epochs"):
        assert word in str(error.value)


def test_other_epochs_with_another_seed_are_two_configs_as_well(claim):
    with pytest.raises(ClaimError, match=r"trainer.epochs \(8 and 4\)"):
        pairs(claim, [*make_arms(ARMS), make_record("max", 7, trainer__epochs=4)])


def test_seeds_of_the_data_that_follow_the_cells_are_one_config(claim):
    records = [
        make_record(pool, seed, 0.8, data={"_target_": "x", "root": "data", "validation": 0.0, "data_seed": seed})
        for pool in ARMS
        for seed in range(3)
    ]
    assert len(pairs(claim, records)[0].control.values) == 3


def test_where_restricts_both_arms(tmp_path):
    (claim,) = make_claims(tmp_path, {"where": {"trainer.epochs": 4}})
    records = make_arms(ARMS) + make_arms(ARMS, trainer__epochs=4)
    (found,) = pairs(claim, records)
    cells = [*found.control.cells.values(), *found.treatment.cells.values()]
    assert {cell.record.config["trainer"]["epochs"] for cell in cells} == {4}


def test_only_finished_cells_count_and_the_others_are_told(claim):
    records = [
        *make_arms(ARMS),
        make_record("overlapping", 3, state="failed"),
        make_record("max", 3),
        make_record("max", 4, state="running", trainer__epochs=4),
    ]
    (found,) = pairs(claim, records)
    assert sorted(found.control.values) == [0, 1, 2, 3]
    assert sorted(found.treatment.values) == [0, 1, 2]
    said = " ".join(pair_notes(claim, found))
    assert "Of the treatment, 1 cell failed: overlapping-convnet-s3" in said
    assert "Of the control, 1 cell not finished" in said
    assert "Left out: seed 3, which the treatment does not have" in said


def test_trials_of_a_search_are_no_evidence(claim):
    records = make_arms(ARMS) + make_arms({"max": [0.1] * 3}, trainer__test=False)
    assert pairs(claim, records)[0].control.values == {0: 0.80, 1: 0.81, 2: 0.79}


def test_cells_at_tuned_values_are_compared_with_one_another(claim):
    from poolbench.records.tuning import recipe

    at_best = []
    for pool, rate in (("max", 0.2), ("overlapping", 0.4)):
        at_best += make_arms({pool: ARMS[pool]}, optimizer__lr=rate, names__optimizer=f"sgd(lr={rate})")
    recipes = sorted({recipe(record.config) for record in at_best})
    for record in at_best:
        record.config["tuned"] = {
            "search": "s",
            "parameters": {"optimizer.lr": "log(0.01,1)"},
            "trials": 9,
            "rungs": [[9, 8]],
            "validation": 0.1,
            "accuracy": 0.7,
            "sampler": "random",
            "seeds": [1000],
            "recipes": recipes,
            "set": {"optimizer.lr": record.config["optimizer"]["lr"]},
        }
    found = pairs(claim, make_arms(ARMS) + at_best)
    assert [(len(own.control.values), len(own.treatment.values)) for own in found] == [(3, 3), (3, 3)]
    assert "tuned" in found[1].stratum
    assert pair_notes(claim, found[1]) == []


def test_what_else_differs_between_the_arms_is_told(tmp_path):
    (claim,) = make_claims(tmp_path, {"treatment": {"pool": "overlapping", "trainer.label_smoothing": 0.1}})
    records = make_arms({"max": [0.8] * 3}, trainer__label_smoothing=0.0)
    records += make_arms({"overlapping": [0.8] * 3}, trainer__label_smoothing=0.1, trainer__epochs=4)
    (found,) = pairs(claim, records)
    assert pair_notes(claim, found) == ["The arms differ in more than the claim names: trainer.epochs (8 and 4)."]


def test_pairs_of_two_environments_are_told(claim):
    records = make_arms(ARMS)
    records[0].environment["fingerprint"] = "other"
    assert "1 of 3 pairs compare cells of two environments." in pair_notes(claim, pairs(claim, records)[0])


def test_a_metric_may_be_a_difference_and_another_one_for_each_arm(tmp_path):
    gap, draws = make_claims(
        tmp_path,
        {"metric": "train_accuracy - test_accuracy"},
        {"metric": {"control": "test_accuracy", "treatment": "test_accuracy_draws_4"}, "treatment": {"pool": "max"}},
    )
    records = make_arms(ARMS, result={"train_accuracy": 0.95, "test_accuracy_draws_4": 0.85})
    assert pairs(gap, records)[0].control.values[0] == pytest.approx(0.15)
    (found,) = pairs(draws, records)
    assert (found.control.values[0], found.treatment.values[0]) == (0.80, 0.85)


def test_a_number_that_no_record_has_is_refused_with_the_nearest(tmp_path):
    (claim,) = make_claims(tmp_path, {"metric": "test_acuracy"})
    with pytest.raises(ClaimError, match=r"'test_acuracy'.*Did you mean 'test_accuracy'"):
        pairs(claim, make_arms(ARMS))


def test_a_cell_without_the_number_is_left_out_and_told(claim):
    records = make_arms({"max": [0.80, 0.81, math.nan, 0.83], "overlapping": {0: 0.82, 1: None, 2: 0.81, 3: 0.84}})
    (found,) = pairs(claim, records)
    assert sorted(found.control.values) == [0, 1, 3]
    assert sorted(found.treatment.values) == [0, 2, 3]
    said = " ".join(pair_notes(claim, found))
    assert "Of the control, 1 cell without a finite number for this metric: max-convnet-s2" in said


def test_an_option_that_no_record_has_is_refused_but_not_while_there_is_none_of_its_pool(tmp_path):
    (claim,) = make_claims(tmp_path, {"treatment": {"pool": "overlapping", "pool.kernelsize": 3}})
    with pytest.raises(ClaimError, match=r"'pool.kernelsize'.*Did you mean 'pool.kernel_size'"):
        pairs(claim, make_arms(ARMS))
    (found,) = pairs(claim, make_arms({"max": ARMS["max"]}))
    assert found.treatment.values == {}


def test_a_record_that_is_there_twice_counts_once(claim):
    assert len(pairs(claim, make_arms(ARMS) * 2)[0].control.values) == 3
