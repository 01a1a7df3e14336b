"""A batch that is worked out in parts, as many images as fit into the cache, is the same as in one piece."""

import pytest
import torch

from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.pooling.parts import images, windows

CASES = [(name, options) for name in POOLS.table for options in ({}, *POOLS.find(name).variants)]


def learnt(name, options, x):
    """What a step of training gives: the output and the gradients by the input and all parameters."""
    torch.manual_seed(1)
    pool = create_pool(name, channels=4, **options).double().train()
    x = x.clone().requires_grad_()
    y = pool(x)
    torch.manual_seed(2)
    given = [x, *pool.parameters()]
    return y, *torch.autograd.grad(y, given, torch.rand_like(y), allow_unused=True)


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda part: str(part))
def test_images_one_by_one_give_the_values_and_gradients_of_all_at_once(name, options, monkeypatch):
    x = torch.randn(5, 4, 12, 12, dtype=torch.float64)
    at_once = learnt(name, options, x)
    for module in (images, windows):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    for whole, parts in zip(at_once, learnt(name, options, x), strict=True):
        torch.testing.assert_close(parts, whole)
