"""Shifts of images: what they are, and what nets with known answers make of them."""

import math

import pytest
import torch
from torch import nn

from poolbench.measure.invariance import translated
from poolbench.measure.shifts import along_with, moved, read_consistency, read_site_shifts
from poolbench.measure.subject import Subject
from poolbench.pooling import create_pool

BORDERS = ("reflect", "zeros", "wrap")


def images(n=24, side=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, side, side, generator=draw), torch.randint(4, (n,), generator=draw)


def subject(model, n=24, side=16, batch=10, **more):
    x, y = images(n, side)
    return Subject(
        model.eval(), lambda: zip(x.split(batch), y.split(batch), strict=True), (0.0,) * 3, (1.0,) * 3, **more
    )


class Circular(nn.Conv2d):
    def __init__(self, channels, out):
        super().__init__(channels, out, 3, padding=1, padding_mode="circular")


def net(pool, channels=8, seed=1):
    """A net with two sites that commutes with circular shifts as far as its pools do."""
    torch.manual_seed(seed)
    pools = [create_pool(pool, channels=channels) for _ in range(2)]
    for one in pools:
        one.is_pooling_site = True
    layers = [Circular(3, channels), nn.ReLU(), pools[0], Circular(channels, channels), nn.ReLU(), pools[1]]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)).eval()


@torch.no_grad()
def several(pool):
    """The net, with biases by which images are of several classes."""
    model = net(pool)
    model[8].bias -= model(images(40)[0]).mean(0)
    return model


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (0.5, 0), (-1.5, 2.5), (4, 4), (0.25, -1.7)])
def test_an_image_moves_as_a_batch_does(border, shift):
    x, _ = images(3)
    down, right = shift
    ours = moved(x, torch.tensor([shift] * 3, dtype=torch.float64), border)
    torch.testing.assert_close(ours, translated(x, right=right, down=down, border=border), atol=1e-5, rtol=0)


def test_each_image_has_a_shift_of_its_own_and_whole_pixels_are_exact():
    x, _ = images(2)
    x[0, 0, 5, 5] = math.inf  # nothing of it may leak into a neighbour
    y = moved(x, torch.tensor([[1.0, 0.0], [0.0, -2.0]]), "wrap")
    assert torch.equal(y[0], x[0].roll(1, 1))
    assert torch.equal(y[1], x[1].roll(-2, 2))


def test_a_polyphase_net_is_consistent_under_circular_shifts_and_a_strided_one_is_not():
    model = several("polyphase")
    exact = read_consistency(subject(model, n=40), [3, 1])
    assert exact["circular_consistency"] == exact["circular_consistency_3"] == exact["circular_consistency_1"] == 1.0
    assert exact["consistency_3"] < 1.0  # a border that is not circular changes the image
    assert read_consistency(subject(several("subsample"), n=40), [3])["circular_consistency"] < 0.95
    assert set(exact) == {
        f"{word}{amount}" for word in ("consistency", "circular_consistency") for amount in ("", "_3", "_1")
    }


def test_a_constant_classifier_is_consistent():
    constant = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    nn.init.zeros_(constant[2].weight)
    assert set(read_consistency(subject(constant), [2.5]).values()) == {1.0}


def test_images_have_the_same_shifts_however_they_are_batched():
    model = several("subsample")
    one, other = (read_consistency(subject(model, n=40, batch=batch), [3, 2.5]) for batch in (40, 7))
    assert one == other
    assert one["consistency"] < 1


def test_no_shift_is_no_change_and_a_shift_by_the_period_moves_along():
    found = read_site_shifts(subject(net("subsample")), [2, 4, 1])
    # By the stride of all pools so far the output moves by whole places.
    for place, amount in ((1, 2), (1, 4), (2, 4)):
        assert found[f"site_{place}_equivariance_error_{amount}"] == pytest.approx(0, abs=1e-8)
    assert found["site_1_equivariance_error_1"] > 0.05
    assert found["site_1_moved_before_1"] > 0.1


def test_a_long_blur_is_nearly_equivariant_where_subsampling_is_not():
    errors = {}
    for pool in ("subsample", "average", "blur_max"):
        errors[pool] = read_site_shifts(subject(net(pool, seed=5)), [1])["site_1_equivariance_error_1"]
    assert errors["average"] < errors["subsample"]
    assert errors["blur_max"] < errors["subsample"]


def test_a_pool_that_averages_everything_away_removes_all_of_a_shift():
    model = net("average")
    whole = nn.AdaptiveAvgPool2d(1)
    whole.is_pooling_site = True
    model[5] = whole
    found = read_site_shifts(subject(model), [1])
    # What reaches it moves by places of a pool of 2: only a shift by its period is removed whole.
    assert found["site_2_removed_1"] <= 1
    even = read_site_shifts(subject(model), [2])
    assert even["site_2_removed_2"] == pytest.approx(1, abs=1e-6)
    assert even["site_2_moved_after_2"] == pytest.approx(0, abs=1e-8)


def test_the_untrained_net_is_told_beside():
    trained = net("max")
    found = read_site_shifts(subject(trained, untrained=lambda: net("max", seed=9)), [1])
    plain = {name for name in found if not name.startswith("untrained")}
    assert {f"untrained_{name}" for name in plain} == set(found) - plain
    same = read_site_shifts(subject(trained, untrained=lambda: net("max")), [1])
    assert all(same[f"untrained_{name}"] == same[name] for name in plain)


def test_a_map_moved_along_with_whole_places_is_rolled_and_halves_twice_are_one():
    x, _ = images(2, side=8)
    torch.testing.assert_close(along_with(x, 3.0), x.roll(3, 3))
    smooth = torch.cos(2 * math.pi * torch.arange(8) / 8).expand(1, 1, 8, 8)
    half = along_with(smooth, 0.5)
    torch.testing.assert_close(half[0, 0, 0], torch.cos(2 * math.pi * (torch.arange(8) - 0.5) / 8))
    torch.testing.assert_close(along_with(half, 0.5), smooth.roll(1, 3))


def test_nets_without_pools_and_images_that_are_all_alike_give_nothing():
    assert read_site_shifts(subject(nn.Sequential(nn.Flatten(), nn.Linear(768, 4))), [1]) == {}
    x = torch.zeros(4, 3, 16, 16)
    still = Subject(net("max"), lambda: [(x, torch.zeros(4, dtype=torch.long))], (0.0,) * 3, (1.0,) * 3)
    assert read_site_shifts(still, [1]) == {}
