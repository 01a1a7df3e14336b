import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps


def _median(cells, middle):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    cells, n = cells.sort(-1).values, cells.shape[-1]
    lower, upper = cells[..., (n - 1) // 2], cells[..., n // 2]
    return lower if middle == "lower" else (lower + upper) / 2


@pytest.mark.parametrize("middle", ["mean", "lower"])
@given(case=geometries_and_maps())
def test_it_is_the_median_of_the_cells_inside_the_map(middle, case):
    options, x = case
    pool = create_pool("median", channels=x.shape[1], middle=middle, **options)
    torch.testing.assert_close(pool(x), by_loop(x, lambda cells: _median(cells, middle), **options))
    x = (x + 1e-3 * torch.randn_like(x)).requires_grad_()  # of equal cells, which has the gradient is left open
    y, expected = pool(x), by_loop(x, lambda cells: _median(cells, middle), **options)
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@given(maps(2, 2))
def test_the_lower_one_is_that_of_torch(x):
    y = create_pool("median", channels=x.shape[1], middle="lower")(x)
    torch.testing.assert_close(y, by_loop(x, lambda cells: cells.median(-1).values, 2, 2))


@pytest.mark.parametrize(
    ("x", "middle", "expected"),
    [
        ([1.0, 2, 3, 4], "mean", 2.5),
        ([1.0, 2, 3, 4], "lower", 2),
        ([0.0, 0, 0, 9], "mean", 0),  # a peak alone vanishes
        ([9.0, 0, 9, 9], "mean", 9),  # and so does a hole
        ([-1.0, -4, -2, 8], "mean", -1.5),
    ],
)
def test_known_values(x, middle, expected):
    assert create_pool("median", channels=1, middle=middle)(torch.tensor(x).view(1, 1, 2, 2)).item() == expected


def test_an_outlier_does_not_move_it_whatever_its_size():
    x = torch.rand(1, 1, 3, 3)
    x[0, 0, 1, 1] = 2
    pool = create_pool("median", channels=1, kernel_size=3, stride=3)
    y = pool(x)
    x[0, 0, 1, 1] = 1e30
    assert torch.equal(pool(x), y)


def test_nan_is_not_hidden():
    x = torch.ones(1, 1, 4, 4)
    x[0, 0, 0, 1] = torch.nan
    assert create_pool("median", channels=1)(x).isnan().flatten().tolist() == [True, False, False, False]


def test_the_gradient_of_a_window_sums_to_one_even_where_cells_are_equal():
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    create_pool("median", channels=3)(x).sum().backward()
    sums = torch.nn.functional.avg_pool2d(x.grad, 2, divisor_override=1)
    torch.testing.assert_close(sums, torch.ones(2, 3, 2, 2))


@pytest.mark.parametrize("middle", ["upper", True])
def test_errors_name_the_option(middle):
    with pytest.raises(ValueError, match=f"MedianPool2d: middle must be 'mean' or 'lower', got {middle!r}"):
        create_pool("median", channels=3, middle=middle)


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({}, 2 * 4 + 2),  # the two middle ones need not be compared; their mean
        ({"middle": "lower"}, 2 * 5),
        ({"kernel_size": 1, "stride": 2}, 0),
    ],
)
def test_flops_are_those_of_the_comparisons(options, each):
    assert create_pool("median", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * each
