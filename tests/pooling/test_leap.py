import pytest
import torch
from hypothesis import given
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import both, by_loop, cells_of, geometries_and_maps, maps


@pytest.mark.parametrize("per", ["channel", "layer"])
@given(case=geometries_and_maps())
def test_it_starts_as_the_average(per, case):
    options, x = case
    pool = create_pool("leap", channels=x.shape[1], per=per, **options).double()
    with torch.no_grad():
        pool.weight.fill_(1 / cells_of(options))  # what it starts with, in float64
    torch.testing.assert_close(pool(x), by_loop(x, lambda cells: cells.mean(-1), **options))


@pytest.mark.parametrize("per", ["channel", "layer"])
@given(case=geometries_and_maps())
def test_at_the_border_the_sum_of_the_cells_inside_is_scaled_to_all_of_them(per, case):
    options, x = case
    (high, wide), (down, right), (top, left) = map(both, options.values())
    pool = create_pool("leap", channels=x.shape[1], per=per, **options).double()
    nn.init.normal_(pool.weight)
    x = x.clone().requires_grad_()
    around = nn.functional.pad(x, (left, wide + right, top, high + down))  # zeros, more than any window reaches

    def whole(i, j):
        rows, columns = slice(i * down, i * down + high), slice(j * right, j * right + wide)
        return (around[..., rows, columns] * pool.weight[:, 0]).sum((2, 3))

    inside = by_loop(torch.ones_like(x), lambda cells: cells.sum(-1), **options)
    height, width = inside.shape[2:]
    sums = torch.stack([torch.stack([whole(i, j) for j in range(width)], -1) for i in range(height)], -2)
    y, expected = pool(x), sums * (high * wide / inside)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, known = (torch.autograd.grad(one, (x, pool.weight), weight) for one in (y, expected))
    torch.testing.assert_close(found[0], known[0])
    torch.testing.assert_close(found[1], known[1])


@pytest.mark.parametrize("per", ["channel", "layer"])
@given(x=maps(3, 3))
def test_it_is_the_weighted_sum_with_its_gradients(per, x):
    x = x.clone().requires_grad_()
    pool = create_pool("leap", channels=x.shape[1], kernel_size=3, stride=None, per=per).double()
    nn.init.normal_(pool.weight)
    expected = by_loop(x, lambda cells: (cells * pool.weight.flatten(1)).sum(-1), kernel_size=3, stride=3)
    y = pool(x)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, known = (torch.autograd.grad(one, (x, pool.weight), weight) for one in (y, expected))
    torch.testing.assert_close(found[0], known[0])
    torch.testing.assert_close(found[1], known[1])


def test_it_is_a_depthwise_convolution_with_a_stride():
    x, conv = torch.randn(2, 5, 8, 8), nn.Conv2d(5, 5, 2, 2, groups=5, bias=False)
    pool = create_pool("leap", channels=5)
    pool.load_state_dict(conv.state_dict())
    torch.testing.assert_close(pool(x), conv(x))


def test_with_one_weight_it_is_subsampling():
    x, pool = torch.randn(2, 3, 8, 8), create_pool("leap", channels=3)
    with torch.no_grad():
        pool.weight.zero_()[..., 0, 0] = 1
    torch.testing.assert_close(pool(x), create_pool("subsample", channels=3)(x))


def test_at_the_border_the_weights_inside_are_scaled_up():
    x, pool = torch.arange(16.0).view(1, 1, 4, 4), create_pool("leap", channels=1, kernel_size=3, padding=1)
    with torch.no_grad():
        pool.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    inside = 4 * 0 + 5 * 1 + 7 * 4 + 8 * 5  # weights of the four cells in the map, times these
    assert pool(x)[0, 0, 0, 0].item() == pytest.approx(inside * 9 / 4)


@pytest.mark.parametrize(("per", "count"), [("channel", 45), ("layer", 9)])
def test_its_weights_learn_and_come_back(per, count):
    pool = create_pool("leap", channels=5, kernel_size=3, per=per)
    assert sum(p.numel() for p in pool.parameters()) == count
    assert (pool.weight == torch.tensor(1 / 9)).all()
    pool(torch.rand(2, 5, 8, 8)).sum().backward()
    assert (pool.weight.grad > 0).all()
    nn.init.normal_(pool.weight)
    pool.reset_parameters()
    assert (pool.weight == torch.tensor(1 / 9)).all()


def test_errors_name_the_option():
    with pytest.raises(ValueError, match="per must be 'channel' or 'layer'") as caught:
        create_pool("leap", channels=3, per="net")
    assert "LeapPool2d" in str(caught.value)


def test_flops_are_multiply_adds():
    assert create_pool("leap", channels=5).flops((8, 6)) == 5 * 4 * 3 * 2 * 4
