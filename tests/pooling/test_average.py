import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps


@given(geometries_and_maps())
def test_it_is_the_average_of_the_cells_inside_the_map(case):
    options, x = case
    expected = by_loop(x, lambda cells: cells.mean(-1), **options)
    torch.testing.assert_close(create_pool("average", channels=x.shape[1], **options)(x), expected)


@given(geometries_and_maps())
def test_a_constant_map_stays_constant_at_the_border_too(case):
    options, x = case
    y = create_pool("average", channels=x.shape[1], **options)(torch.full_like(x, 0.3))
    torch.testing.assert_close(y, torch.full_like(y, 0.3))


@pytest.mark.parametrize("channels", [1, 4])
def test_it_equals_a_depthwise_convolution_with_equal_weights(channels):
    x = torch.randn(2, channels, 8, 10)
    weight = torch.full((channels, 1, 2, 2), 1 / 4)
    expected = F.conv2d(x, weight, stride=2, groups=channels)
    torch.testing.assert_close(create_pool("average", channels=channels)(x), expected)


def test_the_last_window_is_divided_by_its_own_cells():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = create_pool("average", channels=1, kernel_size=3, stride=2)(x)
    assert y.flatten().tolist() == [5, 6.5, 11, 12.5]


def test_flops_are_additions_and_one_division():
    assert create_pool("average", channels=5).flops((8, 6)) == 5 * 4 * 3 * (3 + 1)
