"""Every pool in many nets, on made records of which the answer is known."""

import math

import numpy as np
import pytest

from poolbench.records.read import read_records
from poolbench.report.advice import evidence
from poolbench.report.atlas import LOG_ERROR, make_atlas
from tests.report.test_advice import NETS, make

GAINS = {"max": 0.0, "lp": 0.01, "average": -0.02, "soft": 0.005, "blur_max": 0.02, "rank": -0.01}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return read_records(make(tmp_path_factory.mktemp("runs"), GAINS))[0]


@pytest.fixture(scope="module")
def atlas(records):
    return make_atlas(records, repeats=10, properties=["test_loss"])


def test_it_says_of_each_pool_what_advise_says(atlas, records):
    told = {one.pool: one for one in evidence(records, [], "max").pools if one.pool != "max"}
    assert atlas.over.keys() == told.keys()
    assert len(atlas.nets) == len(NETS)
    for pool, one in atlas.over.items():
        assert (one.mean, one.low, one.high) == pytest.approx(
            (told[pool].gain, told[pool].net_low, told[pool].net_high)
        )
        assert one.above == told[pool].above
    assert atlas.among == {"blur_max"}
    assert atlas.asked == set(GAINS)


def test_every_gain_is_predicted_by_the_other_nets_and_counted(atlas):
    assert len(atlas.cases) == 5 * len(NETS) == atlas.kept.cases
    assert atlas.kept.inside == sum(case.inside for case in atlas.cases)
    assert atlas.kept.share > 0.9
    for case in atlas.cases:
        assert case.shown == atlas.gains[case.arm][case.net].mean


def test_nets_of_one_order_agree_and_so_do_their_blocks(atlas):
    assert atlas.agreement.tau > 0.95
    assert atlas.repeated > 0.95
    assert atlas.agreement.settings == len(NETS)


def test_gains_in_logarithms_of_the_error_grow_where_there_is_less_of_it(records):
    points, logs = (make_atlas(records, scale=scale, repeats=1) for scale in ("points", LOG_ERROR))
    net = points.nets[0]
    one = logs.gains["lp"][net]
    blocks = [
        (record.numbers["test_accuracy"], record.config["seed"], record.config["names"]["pool"])
        for record in records
        if record.config["names"]["model"] == net[0]
    ]
    values = {(pool, seed): -math.log(1 - accuracy) for accuracy, seed, pool in blocks}
    assert one.mean == pytest.approx(np.mean([values["lp", seed] - values["max", seed] for seed in range(3)]))
    by_error = [logs.gains["lp"][(name, net[1])].mean for name in NETS]
    assert by_error == sorted(by_error)  # made nets err less and less, at one gain in points
    assert points.over["lp"].between < 0.2 * points.over["lp"].mean


def test_the_least_spread_of_a_logarithm_is_that_of_the_accuracy_by_the_error(tmp_path):
    records = read_records(make(tmp_path, {"max": 0.0, "lp": 0.01}))[0]
    for record in records:
        record.result["test_samples"] = 100  # so few that their noise is more than what seeds differ by
    points, logs = (make_atlas(records, scale=scale, repeats=1) for scale in ("points", LOG_ERROR))
    for net in points.nets:
        error = np.mean([1 - one.numbers["test_accuracy"] for one in records if one.config["names"]["model"] == net[0]])
        assert logs.gains["lp"][net].error == pytest.approx(points.gains["lp"][net].error / error, rel=0.03)


def test_what_cannot_be_asked_is_refused(records):
    with pytest.raises(ValueError, match=r"scale must be one of points, log error, got 'percent'"):
        make_atlas(records, scale="percent")
    with pytest.raises(ValueError, match=r"--control: there is no pool 'mx' here"):
        make_atlas(records, control="mx")


def test_a_feature_of_nets_that_explains_their_differences_is_found(tmp_path):
    grey = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    gains = {"max": 0.0, "lp": [0.02 * one for one in grey], "average": [-0.03 * one for one in grey]}
    records = read_records(make(tmp_path, gains))[0]
    nets = make_atlas(records, repeats=1).nets
    places = {net: NETS.index(net[0]) for net in nets}
    features = {
        "grey": {net: grey[place] for net, place in places.items()},
        "even": {net: float(place % 2) for net, place in places.items()},
    }
    found = {one.name: one for one in make_atlas(records, features=features, repeats=1).features}
    assert found["grey"].strength > 0.95
    assert found["even"].strength < 0.3
    assert found["grey"].p < 0.15  # two of the twenty ways to choose three of six nets


def test_a_property_is_the_pools_mean_over_nets_less_the_controls(tmp_path):
    records = read_records(make(tmp_path, GAINS))[0]
    for record in records:
        shift = GAINS[record.config["names"]["pool"]]
        record.result["consistency"] = 0.5 + 3 * shift + 0.1 * NETS.index(record.config["names"]["model"])
    (one,) = make_atlas(records, properties=["consistency"], repeats=1).properties
    assert one.name == "consistency"
    assert one.units == 5
    assert one.strength == pytest.approx(1.0)
