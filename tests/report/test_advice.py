"""What records say for a net not tried: on made records, of which the answer is known."""

import json
import math

import numpy as np
import pytest

from poolbench.records.read import read_records
from poolbench.records.speeds import read_speeds
from poolbench.report import write_report
from poolbench.report.advice import evidence, surely_worse
from tests.report.synthetic import make_config, speeds_of, write_cell

NETS = ("convnet", "resnet", "vgg", "nin", "allcnn", "separable")


def make(runs, gains, nets=NETS, seeds=3, targets=None, **changes):
    """Cells of each net: ``gains`` has the true gain of each pool, one for all nets or a list, ``targets`` what some
    are made of."""
    draw = np.random.default_rng(len(nets))
    for place, net in enumerate(nets):
        for seed in range(seeds):
            for pool, gain in gains.items():
                own = gain[place] if isinstance(gain, list) else gain
                accuracy = round(0.7 + 0.02 * place + own + draw.normal(0, 0.0005), 4)
                config = make_config(pool, seed, names__model=net, model__widths=[8 + NETS.index(net)], **changes)
                config["pool"] |= {"_target_": targets[pool]} if targets and pool in targets else {}
                write_cell(runs, config, test_accuracy=accuracy, test_samples=None)
    return runs


def asked(runs, control="max", speeds=()):
    found = evidence(read_records(runs)[0], speeds, control)
    return found, {one.pool: one for one in found.pools}


def test_a_gain_that_all_nets_share_is_found_and_expected_in_another(tmp_path):
    found, pools = asked(make(tmp_path, {"max": 0.0, "lp": 0.01, "average": -0.02}))
    assert (found.settings, found.nets, found.blocks, found.left) == (6, 6, 18, 0)
    assert [one.pool for one in found.pools] == ["lp", "max", "average"]
    lp = pools["lp"]
    assert (lp.settings, lp.nets, lp.blocks) == (6, 6, 18)
    assert lp.gain == pytest.approx(0.01, abs=0.0005)
    assert lp.low < 0.01 < lp.high
    assert 0 < lp.net_low < lp.gain < lp.net_high < 0.02
    assert lp.above > 0.99
    assert pools["average"].above < 0.01
    assert pools["max"].gain == 0
    assert math.isnan(pools["max"].above)


def test_a_gain_that_changes_its_sign_from_net_to_net_is_as_likely_as_not(tmp_path):
    _, pools = asked(make(tmp_path, {"max": 0.0, "lp": [0.03, -0.03, 0.02, -0.02, 0.01, -0.01]}))
    lp = pools["lp"]
    assert lp.above == pytest.approx(0.5, abs=0.05)
    assert lp.net_low < -0.03 < 0.03 < lp.net_high
    assert lp.high - lp.low < lp.net_high - lp.net_low


def test_the_mean_is_that_of_the_report_over_nets(tmp_path):
    make(tmp_path / "runs", {"max": 0.0, "lp": [0.01, 0.02, 0.0, -0.01, 0.03, 0.01]})
    _, pools = asked(tmp_path / "runs")
    row = write_report(tmp_path / "runs", tmp_path / "out").over.set_index("pool").loc["lp"]
    lp = pools["lp"]
    assert (lp.gain, lp.low, lp.high) == (row["difference"], row["difference_low"], row["difference_high"])
    assert (lp.net_low, lp.net_high) == (row["net_low"], row["net_high"])


def test_two_blocks_of_a_setting_count_and_one_does_not(tmp_path):
    make(tmp_path, {"max": 0.0, "lp": 0.01, "average": 0.02}, nets=NETS[:3], seeds=2)
    make(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[3:4], seeds=1)
    found, pools = asked(tmp_path)
    assert (found.settings, found.left) == (3, 1)
    assert (pools["lp"].settings, pools["lp"].blocks) == (3, 6)
    make(tmp_path, {"max": 0.0, "average": 0.02}, nets=NETS[4:5], seeds=3)
    make(tmp_path, {"lp": 0.01}, nets=NETS[4:5], seeds=1)  # its spread is told by the others
    _, pools = asked(tmp_path)
    assert pools["average"].settings == 4
    assert (pools["lp"].settings, pools["lp"].blocks) == (3, 6)


def test_of_few_nets_the_interval_is_of_what_was_tried_and_nothing_is_said_of_another(tmp_path):
    _, pools = asked(make(tmp_path / "two", {"max": 0.0, "lp": 0.01}, nets=NETS[:2]))
    lp = pools["lp"]
    assert lp.gain == pytest.approx(0.01, abs=0.001)
    assert lp.low < lp.gain < lp.high
    assert all(math.isnan(number) for number in (lp.net_low, lp.net_high, lp.above))
    assert surely_worse(list(pools.values())) == (frozenset(), frozenset())
    _, pools = asked(make(tmp_path / "four", {"max": 0.0, "lp": 0.01}, nets=NETS[:4]))
    assert math.isnan(pools["lp"].net_low)
    assert math.isnan(pools["lp"].above)


def test_settings_of_one_net_are_one_net(tmp_path):
    make(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[:1])
    make(tmp_path, {"max": 0.0, "lp": 0.03}, nets=NETS[:1], trainer__epochs=9)
    found, pools = asked(tmp_path)
    assert (found.settings, found.nets) == (2, 1)
    assert pools["lp"].gain == pytest.approx(0.02, abs=0.001)


def test_settings_without_the_control_are_left_out_and_counted(tmp_path):
    make(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[:1])
    make(tmp_path, {"average": 0.0, "lp": 0.2}, nets=NETS[1:3])
    found, pools = asked(tmp_path)
    assert (found.settings, found.left) == (1, 2)
    assert pools["lp"].gain == pytest.approx(0.01, abs=0.001)
    make(tmp_path, {"max(kernel_size=3)": 0.0, "lp": 0.1}, nets=NETS[:1], trainer__epochs=9)
    found, pools = asked(tmp_path)  # another pool than the control
    assert (found.settings, found.left) == (1, 3)
    assert pools["lp"].gain == pytest.approx(0.01, abs=0.001)
    _, pools = asked(tmp_path, control="average")
    assert pools["lp"].gain == pytest.approx(0.2, abs=0.001)
    with pytest.raises(ValueError, match=r"no pool 'maxx' here. Did you mean 'max'"):
        asked(tmp_path, control="maxx")


def test_what_falls_behind_the_best_in_every_net_is_surely_worse_than_it(tmp_path):
    _, pools = asked(make(tmp_path, {"max": 0.0, "lp": 0.01, "average": -0.02}))
    assert surely_worse(list(pools.values()))[0] == {"max", "average"}
    assert surely_worse([pools["max"], pools["average"]])[0] == {"average"}  # the best of those that are left
    assert surely_worse([pools["average"]])[0] == frozenset()


def test_a_cost_is_of_time_where_nets_were_timed_else_of_flops_else_nothing(tmp_path):
    make(tmp_path / "runs", {"max": 0.0, "lp": 0.01, "average": 0.0}, nets=NETS[:3])
    _, pools = asked(tmp_path / "runs")
    assert (pools["lp"].cost_by, pools["lp"].costs) == ("flops", 3)
    assert pools["lp"].cost == pytest.approx((35e6 + 0.3e6) / (35e6 + 0.1e6))
    content = speeds_of({"max": [10.0, 20.0, 30.0], "lp": [12.0, 24.0, 36.0]}, model__widths=[8])
    (tmp_path / "speeds.json").write_text(json.dumps(content))
    _, pools = asked(tmp_path / "runs", speeds=[read_speeds(tmp_path / "speeds.json")])
    assert (pools["lp"].cost, pools["lp"].cost_by, pools["lp"].costs) == (pytest.approx(1.2), "time", 1)
    assert pools["average"].cost_by == "flops"
    for result in (tmp_path / "runs").glob("*/result.json"):
        result.write_text(json.dumps({**json.loads(result.read_text()), "forward_flops": None}))
    _, pools = asked(tmp_path / "runs")
    assert pools["lp"].cost_by == ""
    assert math.isnan(pools["lp"].cost)
    assert pools["max"].cost == 1.0


def test_a_label_has_all_pools_that_bear_it(tmp_path):
    make(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[:1])
    make(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[1:2], pool__kernel_size=3)
    _, pools = asked(tmp_path)
    assert sorted(block["kernel_size"] for block in pools["lp"].made) == [2, 3]
