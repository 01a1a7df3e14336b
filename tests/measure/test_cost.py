import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model, create_pool
from poolbench.measure.cost import cost, seen_flops
from poolbench.models.sites import is_site
from poolbench.pooling import POOLS

WIDTHS = (4, 6)


def make(**options):
    return create_model("convnet", widths=WIDTHS, depths=(1, 1), **options)


def convolutions(height, width):
    """Of that model, by hand: two operations for a multiply-add."""
    first = 2 * 9 * 3 * 4 * height * width
    return first + 2 * 9 * 4 * 6 * (height // 2) * (width // 2)


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_everything_is_counted_once(size):
    height, width = size
    pools = 3 * 4 * (height // 2) * (width // 2) + 3 * 6 * (height // 4) * (width // 4)
    head = 6 * (height // 4) * (width // 4)
    costs = cost(make(), size)
    assert costs["pool_flops"] == pools + head
    assert costs["forward_flops"] == convolutions(height, width) + pools + head + 2 * 6 * 10
    assert costs["parameters"] == sum((9 * 3 * 4, 2 * 4, 9 * 4 * 6, 2 * 6, 6 * 10 + 10))


@pytest.mark.parametrize("pool", POOLS.table)
def test_a_pool_is_counted_by_its_own_formula_alone(pool):
    """Whatever a counter sees in it, as the convolution of strided_conv."""
    if create_pool(pool, channels=4).ratio != 2:
        pytest.skip("it stands at other sites, so the maps between are of other sizes")
    plain, other = cost(make(), (16, 16)), cost(make(pool=pool), (16, 16))

    def formula(name):
        return sum(create_pool(name, channels=c).flops((side, side)) for c, side in ((4, 16), (6, 8)))

    assert other["forward_flops"] - plain["forward_flops"] == formula(pool) - formula("max")
    assert other["pool_flops"] - plain["pool_flops"] == formula(pool) - formula("max")


class Convolution(nn.Module):
    """A pool that says nothing of its cost."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2, stride=2, bias=False)

    def forward(self, x):
        return F.max_pool2d(self.conv(F.pad(x, (0, 1, 0, 1))), 1)


def test_a_net_with_a_pool_without_a_formula_is_not_counted_and_what_is_seen_is_told_apart():
    nothing = cost(make(pool=lambda channels: nn.MaxPool2d(2)), (16, 16))
    seen = cost(make(pool=Convolution), (16, 16))
    for costs in (nothing, seen):  # else the first would look cheaper than max
        assert (costs["forward_flops"], costs["pool_flops"]) == (None, None)
    filters = 2 * 4 * 4 * 4 * 8 * 8 + 2 * 4 * 6 * 6 * 4 * 4
    assert seen_flops(seen) == seen_flops(nothing) + filters
    assert seen_flops(nothing) < seen_flops(cost(make(), (16, 16)))
    assert seen["parameters"] == nothing["parameters"] + 4 * (4 * 4 + 6 * 6)


def test_one_pool_without_a_formula_among_others_is_enough():
    mixed = cost(make(pool=["max", lambda channels: nn.MaxPool2d(2)]), (16, 16))
    assert mixed["forward_flops"] is None
    assert set(cost(make(), (16, 16))) == {"parameters", "forward_flops", "pool_flops"}


def test_a_head_without_a_formula_counts_as_a_counter_sees_it():
    def head(channels, num_classes, size):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))

    ours, plain = cost(make(), (16, 16)), cost(make(head=head), (16, 16))
    assert ours["forward_flops"] - plain["forward_flops"] == 6 * 4 * 4
    assert ours["parameters"] == plain["parameters"]


def test_parameters_that_are_not_trained_do_not_count():
    model = make()
    model.head.requires_grad_(False)
    assert cost(make(), (16, 16))["parameters"] - cost(model, (16, 16))["parameters"] == 6 * 10 + 10


def test_measuring_changes_nothing():
    model = make(pool="strided_conv")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    first = cost(model, (16, 16))
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert cost(model.eval(), (16, 16)) == first
    assert not model.training


def test_half_precision_and_memory_format_cost_the_same():
    first = cost(make(), (16, 16))
    assert cost(make().to(torch.bfloat16, memory_format=torch.channels_last), (16, 16)) == first
    assert sum(map(is_site, make().modules())) == 2
