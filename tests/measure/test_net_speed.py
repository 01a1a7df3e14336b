"""Costs of whole nets: what is computed and counted, not how long anything takes."""

import subprocess
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.measure import net_speed
from poolbench.measure.net_speed import COSTS, Net, NetSetting, measure_nets, pool_bytes, resident_growth, turns

QUICK = NetSetting(batches=(1, 4), rounds=3, seconds=0.0001)
SIZE = (16, 16)


def made(pool="max", broken=False):
    net = create_model("convnet", pool=pool, num_classes=5, input_size=SIZE, widths=[4, 8], depths=[1, 1])
    if broken:
        net.features.append(Broken())
    return net


class Broken(nn.Module):
    def forward(self, x):
        if len(x) > 1:
            raise RuntimeError("not today\nnor tomorrow")
        return x


def net(label, group="tiny", **options):
    return Net(label, group, partial(made, **options), SIZE, 5)


@pytest.fixture(scope="module")
def rows():
    nets = [net("max"), net("strided", pool="strided_conv"), net("broken", broken=True), net("max", "other")]
    return measure_nets(nets, "max", QUICK, memory=False)


def test_each_net_has_every_figure_of_every_round(rows):
    for row in (rows[0], rows[1], rows[3]):
        assert [one["batch"] for one in row["forward"]] == [1, 4]
        assert row["train"]["batch"] == 4
        for one in (*row["forward"], row["train"]):
            assert len(one["rounds_ms"]) == len(one["ratio_rounds"]) == 3
            assert 0 < one["quartiles_ms"][0] <= one["ms"] <= one["quartiles_ms"][1]
            assert 0 < one["ratio_quartiles"][0] <= one["ratio"] <= one["ratio_quartiles"][1]
        low, high = row["images_per_second_quartiles"]
        assert 0 < low <= row["images_per_second"] <= high
        assert row["memory_bytes"] is row["memory_bytes_ratio"] is None  # it was not asked for


def test_a_baseline_is_once_itself(rows):
    for row in (rows[0], rows[3]):  # one in each group
        assert {ratio for one in (*row["forward"], row["train"]) for ratio in one["ratio_rounds"]} == {1.0}
        assert {row[f"{name}_ratio"] for name in COSTS if name != "memory_bytes"} == {1.0}


def test_ratios_are_of_the_same_round(rows):
    ours, unit = rows[1]["train"], rows[0]["train"]
    expected = [a / b for a, b in zip(ours["rounds_ms"], unit["rounds_ms"], strict=True)]
    assert ours["ratio_rounds"] == pytest.approx(expected)


def test_what_is_counted_is_larger_for_a_pool_that_convolves(rows):
    for name in ("forward_flops", "pool_flops", "parameters"):
        assert rows[1][name] > rows[0][name]
        assert rows[1][f"{name}_ratio"] == pytest.approx(rows[1][name] / rows[0][name])


def test_a_net_that_fails_is_told_and_stops_no_other(rows):
    assert rows[2] == {"error": "RuntimeError: not today"}


def test_a_baseline_that_fails_or_is_missing_ends_it():
    with pytest.raises(ValueError, match=r"baseline 'max' \(tiny\) fails: RuntimeError: not today"):
        measure_nets([net("max", broken=True)], "max", QUICK, memory=False)
    with pytest.raises(ValueError, match="baseline 'lp' is not among the pools of tiny: max, strided"):
        measure_nets([net("max"), net("strided"), net("lp", "other")], "lp", QUICK, memory=False)


def test_a_ratio_to_nothing_is_none():
    assert net_speed._costs(dict.fromkeys(COSTS, 3), dict.fromkeys(COSTS, 0))["pool_flops_ratio"] is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_each_follows_each_equally_often(count):
    rows = [turns(count, number) for number in range(2 * count)]
    assert all(sorted(row) == list(range(count)) for row in rows)
    places = Counter((place, one) for row in rows for place, one in enumerate(row))
    assert set(places.values()) == {2}
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert set(follows.values()) <= {2}
    assert len(follows) == count * (count - 1)


def test_pools_move_what_they_take_in_and_give_out():
    model = made().train()
    assert pool_bytes(model, SIZE) == 4 * (4 * 16 * 16 + 4 * 8 * 8 + 8 * 8 * 8 + 8 * 4 * 4)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_measuring_moves_no_weight():
    models = [made(), made()]
    before = {key: value.clone() for key, value in models[0].named_parameters()}
    nets = [Net(str(i), "tiny", lambda i=i: models[i], SIZE, 5, channels_last=False) for i in range(2)]
    measure_nets(nets, "0", NetSetting(batches=(2,), rounds=1, seconds=0.0001), memory=False)
    assert all(torch.equal(value, before[key]) for key, value in models[0].named_parameters())
    assert all(value.grad is None for value in models[0].parameters())


def test_a_fresh_process_grows_by_the_maps_at_least():
    grown = resident_growth(net("max"), NetSetting(batches=(1, 256)))
    if grown is None:
        pytest.skip("the system does not tell")
    assert 256 * 4 * 16 * 16 * 4 <= grown < 100e6  # one map of the first stage, and far less than torch itself


@pytest.mark.parametrize("printed", [b"", b"killed\n", b"3\n", b'{"bytes": null}\n'])
def test_a_process_that_dies_or_does_not_know_is_none(printed, monkeypatch):
    done = subprocess.CompletedProcess([], 1, printed, b"")
    monkeypatch.setattr(net_speed.subprocess, "run", lambda *args, **more: done)
    assert resident_growth(net("max"), QUICK) is None
