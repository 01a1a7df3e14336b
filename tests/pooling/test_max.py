import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps


@given(geometries_and_maps())
def test_it_is_the_maximum_of_each_window_inside_the_map(case):
    options, x = case
    expected = by_loop(x, lambda cells: cells.amax(-1), **options)
    torch.testing.assert_close(create_pool("max", channels=x.shape[1], **options)(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("padding", [0, 1])
def test_padding_never_wins(padding):
    x = -torch.ones(1, 1, 5, 5)
    for kernel_size in (2, 3, 5):  # 5 at stride 1 passes the border by more than torch clips by itself
        y = create_pool("max", channels=1, kernel_size=kernel_size, stride=1, padding=padding)(x)
        assert (y == -1).all()


def test_it_commutes_with_a_monotone_activation():
    x, pool = torch.randn(2, 3, 9, 9), create_pool("max", channels=3, kernel_size=3)
    assert torch.equal(pool(x).relu(), pool(x.relu()))


def test_among_equals_the_first_cell_takes_the_whole_gradient():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    create_pool("max", channels=1)(x).sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


def test_nan_is_not_hidden():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 1] = torch.nan
    assert create_pool("max", channels=1)(x).isnan().flatten().tolist() == [True, False, False, False]


def test_flops_are_comparisons():
    assert create_pool("max", channels=5).flops((8, 6)) == 5 * 4 * 3 * 3
    assert create_pool("max", channels=5, kernel_size=3, stride=2).flops((9, 6)) == 5 * 4 * 3 * 8
