"""Sorting networks: what they must do whatever the weights."""

from itertools import product

import pytest
import torch

from poolbench import create_pool
from poolbench.pooling.parts.ranks import _needed, _network


def run(pairs, cells):
    cells = list(cells)
    for i, j in pairs:
        cells[i], cells[j] = max(cells[i], cells[j]), min(cells[i], cells[j])
    return cells


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12])
def test_the_network_sorts(count):
    """It does so for all cells if it does for all zeros and ones (Knuth's 0-1 principle)."""
    for cells in product((0, 1), repeat=count):
        assert run(_network(count), cells) == sorted(cells, reverse=True)


@pytest.mark.parametrize("weights", list(product((0.0, 0.25, 0.5), repeat=4)))
def test_the_shortened_network_gives_the_same_sum(weights):
    for cells in product((0, 1), repeat=4):
        known = sum(w * one for w, one in zip(weights, sorted(cells, reverse=True), strict=True))
        assert sum(w * one for w, one in zip(weights, run(_needed(4, weights), cells), strict=True)) == known


def test_known_lengths():
    """Of Batcher's networks, Knuth volume 3, 5.3.4; equal weights need no sorting."""
    assert [len(_network(n)) for n in (2, 3, 4, 8, 9, 16)] == [1, 3, 5, 19, 26, 63]
    assert _needed(9, (1 / 9,) * 9) == ()


@pytest.mark.parametrize(
    ("name", "options"),
    [("median", {}), ("rank", {"mode": "weighted"}), ("rank", {"kernel_size": 3, "padding": 1}), ("ordinal", {})],
)
def test_equal_cells_share_the_gradient_in_one_way_on_every_path(name, options):
    pool = create_pool(name, channels=3, **options)
    x = torch.randint(0, 3, (2, 3, 6, 6)).float()
    weight = torch.randn_like(pool(x)).detach()
    by_function = torch.func.grad(lambda x: (pool(x) * weight).sum())(x)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        one = x.clone(memory_format=memory_format).requires_grad_()
        (slope,) = torch.autograd.grad(pool(one), one, weight)
        torch.testing.assert_close(slope, by_function)
