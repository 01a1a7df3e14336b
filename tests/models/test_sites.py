import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from poolbench import create_model, create_pool, swap
from poolbench.models.sites import Sites, derive, initialise, is_site, map_sizes, ratio_of


class Shrink(nn.Module):
    """Tells its ratio and does nothing."""

    def __init__(self, ratio):
        super().__init__()
        self.ratio = ratio

    def forward(self, x):
        return x


def _counts(pool, targets):
    """How many pools stand at each stage."""
    sites = Sites(pool)
    counts = [len(sites.until(target, channels=3)) for target in targets]
    sites.finish()
    return counts


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (2**0.25, [4, 4, 4, 4]),
        (2 ** (2 / 3), [1, 2, 1, 2]),  # one more would go as far beyond as it now falls short: a tie, but for rounding
        (math.sqrt(2), [2, 2, 2, 2]),
        (2, [1, 1, 1, 1]),
        (3, [1, 0, 1, 1]),
        (4, [0, 1, 0, 1]),
        (8, [0, 1, 0, 0]),
        (1, [1, 1, 1, 1]),
    ],
)
def test_the_number_of_sites_follows_the_ratio(ratio, counts):
    assert _counts(lambda channels: Shrink(ratio), [2, 4, 8, 16]) == counts
    named = [lambda channels: Shrink(ratio)] * sum(counts)
    assert _counts(named, [2, 4, 8, 16]) == counts


def test_pools_of_one_list_may_differ_in_ratio():
    def shrink(ratio):
        return lambda channels: Shrink(ratio)

    assert _counts([shrink(2), shrink(math.sqrt(2)), shrink(math.sqrt(2)), shrink(2)], [2, 4, 8]) == [1, 2, 1]
    assert _counts([shrink(4), shrink(2)], [2, 4, 8]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("length", "words"),
    [(2, "a list of 2 pools, but the model has more sites"), (4, "a list of 4 pools, but the model has 3 sites")],
)
def test_a_list_of_the_wrong_length_is_refused(length, words):
    with pytest.raises(ValueError, match=words):
        _counts(["max"] * length, [2, 4, 8])


def test_a_pool_that_shrinks_more_than_the_model_is_refused():
    with pytest.raises(ValueError, match="it shrinks a map 64 times at once, more than the whole model"):
        _counts(lambda channels: nn.AdaptiveAvgPool2d(1), [2, 4, 8])
    with pytest.raises(ValueError, match="the model has no site"):
        _counts("max", [])


def test_what_it_makes_is_marked_as_a_site():
    assert is_site(Sites("max")(3))
    assert not is_site(nn.MaxPool2d(2))


def test_the_weights_of_a_pool_depend_on_seed_and_site_alone():
    def weights(seed):
        torch.rand(3)
        sites = Sites(lambda channels: nn.Conv2d(channels, channels, 2, stride=2), seed)
        return [sites(3).weight for _ in range(2)]

    assert all(map(torch.equal, weights(0), weights(0)))
    assert not any(map(torch.equal, weights(0), weights(1)))
    assert not torch.equal(*weights(0))


@pytest.mark.parametrize(
    ("pool", "ratio"),
    [
        (nn.MaxPool2d(2), 2),
        (nn.AvgPool2d(4), 4),
        (nn.Conv2d(5, 5, 3, stride=2, padding=1), 2),
        (nn.FractionalMaxPool2d(2, output_ratio=1 / math.sqrt(2)), 64 / 45),
        (nn.Identity(), 1),
        (Shrink(1.5), 1.5),
        (nn.Linear(7, 7), 2),  # fails on the map that it is tried on: the check of sizes will say so
        (nn.BatchNorm2d(5), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_ratio_is_told_or_tried(pool, ratio):
    generator, state = torch.get_rng_state(), copy.deepcopy(pool.state_dict())
    assert ratio_of(pool, channels=5) == pytest.approx(ratio)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[key]) for key, value in pool.state_dict().items())
    assert pool.training


@pytest.mark.parametrize("stride", [(2, 1), (1, 2)])
def test_a_pool_that_shrinks_one_side_more_is_refused_before_a_net_is_made(stride):
    words = rf"pool AveragePool2d: stride must be one number .* in a net, .*, got \({stride[0]}, {stride[1]}\)"
    with pytest.raises(ValueError, match=words):
        create_model("convnet", pool=partial(create_pool, "average", stride=stride))
    with pytest.raises(ValueError, match=words):
        create_model("convnet", pool=["max", partial(create_pool, "average", stride=stride), "max"])
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    with pytest.raises(ValueError, match=words):
        swap(net, "average", input_size=(8, 8), stride=stride)
    assert isinstance(net[1], nn.MaxPool2d)


def test_windows_that_are_no_squares_stand_in_a_net():
    net = create_model("convnet", pool=partial(create_pool, "average", kernel_size=(3, 2), stride=[2, 2])).eval()
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_seeds_differ_by_purpose_and_are_the_same_everywhere():
    assert derive(0, "order", 1) == derive(0, "order", 1) == 2_961_819_992_523_135_983
    purposes = [(seed, what, epoch) for seed in range(5) for what in ("order", "operators") for epoch in range(20)]
    seeds = {derive(*purpose) for purpose in purposes}
    assert len(seeds) == len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_layers_are_drawn_by_name():
    def layers(**more):
        net = nn.ModuleDict({**more, "a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
        initialise(net, seed=0)
        return net

    few, many = layers(), layers(before=nn.Conv2d(3, 3, 3), dropout=nn.Dropout())
    assert torch.equal(few["a"].weight, many["a"].weight)
    assert torch.equal(few["b"].weight, many["b"].weight)
    assert not torch.equal(few["a"].weight, few["b"].weight)


def test_sizes_are_told_site_by_site():
    pools = Sites("max")
    features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), pools(4), nn.Conv2d(4, 4, 3), pools(4))
    features.train()
    assert map_sizes(features, (20, 13)) == [("1", (10, 6)), ("3", (4, 2)), ("last map", (4, 2))]
    assert features.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in features.modules())
    with pytest.raises(ValueError, match=r"images of 5x5 do not fit: at a layer .*so far 5x5 -> 2x2"):
        map_sizes(features, (5, 5))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in features.modules())
