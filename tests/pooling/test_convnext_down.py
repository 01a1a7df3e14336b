import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, maps


@given(maps(2, 2))
def test_it_normalises_each_pixel_over_its_channels_then_convolves(x):
    pool = create_pool("convnext_down", channels=x.shape[1]).double()
    with torch.no_grad():
        pool.norm.weight.uniform_(0.5, 2)
        pool.norm.bias.normal_()

    def of_window(cells):  # (N, C, 4)
        mean = cells.mean(1, keepdim=True)
        deviation = (cells.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        normal = (cells - mean) / deviation * pool.norm.weight[:, None] + pool.norm.bias[:, None]
        return torch.einsum("nik,oik->no", normal, pool.conv.weight.flatten(2)) + pool.conv.bias

    torch.testing.assert_close(pool(x), by_loop(x, of_window, 2, 2))


def test_one_channel_alone_is_normalised_away():
    pool = create_pool("convnext_down", channels=1)
    x = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(pool(x), pool(torch.zeros_like(x)))


def test_parameters_and_flops():
    pool = create_pool("convnext_down", channels=5)
    assert sum(p.numel() for p in pool.parameters()) == 4 * 5 * 5 + 5 + 2 * 5
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (4 * (2 * 5 + 8) + 1)


def test_eps_must_be_positive():
    with pytest.raises(ValueError, match="eps must be a number above 0, got 0"):
        create_pool("convnext_down", channels=5, eps=0)
