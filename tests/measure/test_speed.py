"""Timings of operators: what is computed from them, not how long anything takes."""

import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench.measure.speed import Setting, Timing, _summary, settings, time_operators

SMALL = Setting((4, 8, 16, 16))


@pytest.fixture(scope="module")
def results():
    class Wasteful(nn.Module):
        def forward(self, x):
            ten = torch.cat([x] * 10)  # ten maps at once, and as many in the backward pass
            return F.avg_pool2d(ten.unflatten(0, (10, -1)).mean(0), 2)

    def broken(x):
        raise RuntimeError("not today")

    operators = {"max": nn.MaxPool2d(2), "average": lambda x: F.avg_pool2d(x, 2), "wasteful": Wasteful()}
    return time_operators({**operators, "broken": broken}, SMALL, rounds=3, seconds=0.001)


def test_each_operator_has_every_figure(results):
    for name in ("max", "average", "wasteful"):
        row = results[name]
        assert row["forward_ms"] > 0
        assert row["backward_ms"] > 0
        low, high = row["quartiles_ms"]
        assert low <= row["total_ms"] <= high
        assert row["multiple_quartiles"][0] <= row["multiple"] <= row["multiple_quartiles"][1]
        assert row["floors"] > 0


def test_an_operator_that_fails_is_told_and_stops_no_other(results):
    assert results["broken"] == {"error": "RuntimeError: not today"}
    assert "error" not in results["wasteful"]


def test_extra_memory_is_what_is_held_beyond_input_output_and_their_gradients(results):
    assert results["average"]["extra_memory"] == 0
    assert results["max"]["extra_memory"] == pytest.approx(0.5, abs=0.01)  # positions: 8 bytes for each fourth float
    assert 10 <= results["wasteful"]["extra_memory"] <= 25


def test_medians_multiples_and_floors_follow_from_the_timings():
    timing = Timing(forward=[1.0, 2.0, 3.0], backward=[1.0, 2.0, 9.0], unit=[1.0, 2.0, 4.0], copy=[0.5, 0.5, 0.5])

    class Case:
        output_bytes = 256

    map = torch.zeros(1, 1, 16, 16)  # 1,024 bytes; copied, 2,048 are moved
    row = _summary(timing, Case(), map)
    assert row["total_ms"] == 4000
    assert row["multiple"] == 2  # 2, 2, 3
    assert row["floors"] == pytest.approx(statistics.median([2, 4, 12]) / (0.5 * 2 * (1024 + 256) / 2048))


def test_all_combinations_are_timed_once_the_largest_first():
    chosen = list(settings([(1, 2, 4, 4), (8, 2, 4, 4)], ["channels_last", "contiguous"], [1, 2]))
    assert len(chosen) == len(set(chosen)) == 8
    assert chosen[0].shape == (8, 2, 4, 4)
    assert "2 threads" in str(chosen[1])
