import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import by_loop, maps


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("control", ["max", "average"])
def test_it_is_a_window_of_one_pixel(control, stride):
    x = torch.randn(2, 3, 7, 8)
    expected = create_pool(control, channels=3, kernel_size=1, stride=stride)(x)
    assert torch.equal(create_pool("subsample", channels=3, stride=stride)(x), expected)


def test_it_keeps_the_top_left_pixel():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert create_pool("subsample", channels=1)(x).flatten().tolist() == [0, 2, 8, 10]


def test_after_a_convolution_it_is_that_convolution_with_a_stride():
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3)
    expected = F.conv2d(x, weight, stride=2, padding=1)
    torch.testing.assert_close(create_pool("subsample", channels=5)(F.conv2d(x, weight, padding=1)), expected)


def test_the_dropped_pixels_learn_nothing():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    create_pool("subsample", channels=1)(x).sum().backward()
    assert x.grad.sum() == 4
    assert (x.grad != 0).sum() == 4


def test_it_costs_nothing_and_has_no_parameters():
    pool = create_pool("subsample", channels=3)
    assert pool.flops((8, 8)) == 0
    assert list(pool.parameters()) == []


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("activation", ["tanh", "none"])
@given(x=maps(3, 3))
def test_lenet_squashes_a_trained_sum_of_each_block(activation, stride, x):
    x = x.clone().requires_grad_()
    pool = create_pool("subsample", channels=x.shape[1], stride=stride, mode="lenet", activation=activation).double()
    nn.init.normal_(pool.factor)
    nn.init.normal_(pool.bias)

    def of_window(cells):
        y = pool.bias + pool.factor * cells.sum(-1)
        return y.tanh() if activation == "tanh" else y

    y, expected = pool(x), by_loop(x, of_window, kernel_size=stride, stride=stride)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, (x, pool.factor, pool.bias), weight) for one in (y, expected))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("stride", [2, 3])
def test_lenet_starts_as_the_squashed_average_with_two_parameters_a_channel(stride):
    x = torch.randn(2, 3, 7, 8)
    pool = create_pool("subsample", channels=3, stride=stride, mode="lenet")
    expected = create_pool("average", channels=3, kernel_size=stride, stride=stride)(x).tanh()
    assert sum(p.numel() for p in pool.parameters()) == 2 * 3
    torch.testing.assert_close(pool(x), expected)
    with torch.no_grad():
        pool.factor.add_(1)
        pool.bias.add_(1)
    pool.reset_parameters()
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize(("activation", "per_window"), [("tanh", 3 + 2 + 5), ("none", 3 + 2)])
def test_lenet_costs_additions_factor_bias_and_squashing(activation, per_window):
    pool = create_pool("subsample", channels=5, mode="lenet", activation=activation)
    assert pool.flops((8, 6)) == 5 * 4 * 3 * per_window


@pytest.mark.parametrize(
    ("options", "words"),
    [({"mode": "max"}, "mode must be"), ({"activation": "relu"}, "activation must be 'tanh' or 'none'")],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("subsample", channels=3, **options)
    assert "Subsample2d" in str(caught.value)


def test_a_stride_must_be_said():
    with pytest.raises(ValueError, match="stride must be a whole number"):
        create_pool("subsample", channels=3, stride=None)
