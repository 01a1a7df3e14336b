import pytest
import torch
import torch.nn.functional as F

from poolbench import create_pool


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


def test_a_stride_must_be_said():
    with pytest.raises(ValueError, match="stride must be a whole number"):
        create_pool("subsample", channels=3, stride=None)
