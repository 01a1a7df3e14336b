"""Random pools that draw in evaluation, and are then what they were."""

import pytest
import torch
from torch import nn

from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.pooling.parts.draws import drawing, random_pools

RANDOM = [
    (name, options)
    for name, options in [
        *((name, {}) for name in POOLS.table),
        ("mixed", {"weight": "random"}),
        ("rank", {"mode": "stochastic"}),
        ("stochastic", {"evaluation": "max"}),
        ("spectral", {"dropout_min": 0.3}),
    ]
    if create_pool(name, channels=4, **options).random
]


def test_the_pools_of_the_papers_are_among_them():
    assert {"fractional_max", "stochastic", "s3", "lps", "mixed", "rank", "spectral"} <= {name for name, _ in RANDOM}


@pytest.mark.parametrize(("name", "options"), RANDOM, ids=lambda value: str(value))
def test_a_random_pool_draws_as_in_training_and_is_put_back(name, options):
    net = nn.Sequential(create_pool(name, channels=4, **options), nn.Dropout(0.9)).eval()
    x = torch.rand(8, 4, 16, 16)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        fixed = net(x)
        with drawing(net) as pools:
            assert pools == [net[0]]
            assert not net[1].training
            # A pool that takes one of two draws for a whole map may take the same one twice.
            assert any(not torch.equal(net(x), net(x)) for _ in range(20))
        assert torch.equal(net(x), fixed)
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_it_is_put_back_after_an_error_too():
    net = nn.Sequential(create_pool("stochastic", channels=4)).eval()
    with pytest.raises(RuntimeError, match="stop"), drawing(net):
        raise RuntimeError("stop")
    assert not net[0].training


def test_layers_inside_a_random_pool_keep_their_mode():
    class Normalised(nn.Module):
        random = True

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(x + torch.rand_like(x) if self.training else x)

    net = Normalised().eval()
    with drawing(net):
        net(torch.rand(2, 4, 3, 3))
    assert net.norm.num_batches_tracked == 0


def test_a_pool_that_draws_nothing_is_not_among_them():
    fixed = (create_pool("max", channels=4), create_pool("fractional_max", channels=4, ratio=2.0))
    assert random_pools(nn.Sequential(*fixed, nn.Dropout(0.5))) == []
