from functools import partial

import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps


def _straight(x, start, end):
    """0 up to ``start``, 1 from ``end`` on, straight between."""
    return ((x - start) / (end - start)).clamp(0, 1)


def _fuzzy(cells, maximum):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    m = maximum
    small = 1 - _straight(cells, m / 6, m / 2)
    medium = torch.minimum(_straight(cells, m / 4, m / 2), 1 - _straight(cells, m / 2, 3 * m / 4))
    large = _straight(cells, m / 2, 3 * m / 4)
    sets = torch.stack([small, medium, large])
    chosen = sets.sum(-1).argmax(0)
    used = sets.gather(0, chosen[None, ..., None].expand(1, *cells.shape))[0]
    return (used * cells).sum(-1) / used.sum(-1)


@pytest.mark.parametrize("maximum", [6.0, 2.0, 0.5])
@given(case=geometries_and_maps())
def test_it_is_the_average_in_the_set_to_which_the_cells_inside_the_map_belong_most(maximum, case):
    options, x = case
    x = (2 * x).requires_grad_()
    expected = by_loop(x, partial(_fuzzy, maximum=maximum), **options)
    y = create_pool("fuzzy", channels=x.shape[1], maximum=maximum, **options)(x)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1.0, 2, 3, 4], 3.0),
        ([0.0, 0, 0, 4], 0.0),  # a peak alone vanishes
        ([5.0, 6, 5, 1], 16 / 3),  # and so does a hole
        ([0.0, 0, 0, 0], 0.0),
        ([-1.0, -2, 0, 0], -0.75),
        ([3.0, 3, 3, 3], 3.0),
        ([9.0, 7, 0, 5], 7.0),
    ],
)
def test_known_values(x, expected):
    y = create_pool("fuzzy", channels=1)(torch.tensor(x, dtype=torch.float64).view(1, 1, 2, 2))
    assert y.item() == pytest.approx(expected)


@given(maps(3, 2))
def test_far_below_and_far_above_it_is_the_average(x):
    for maximum in (6 * x.abs().max().item() + 1, 1e-3):
        x = x if maximum > 1 else x.abs() + 1
        y = create_pool("fuzzy", channels=x.shape[1], maximum=maximum, kernel_size=3)(x)
        torch.testing.assert_close(y, create_pool("average", channels=x.shape[1], kernel_size=3, stride=2)(x))


def test_of_two_sets_that_are_equal_the_smaller_one_is_taken():
    # In single precision exactly: memberships 1, 0 and 0 and 0, 0 and 1.
    x = torch.tensor([0.0, 0.0, 6.0, 6.0]).view(1, 1, 2, 2)
    assert create_pool("fuzzy", channels=1)(x).item() == 0


@pytest.mark.parametrize("maximum", [0, -1.0, "6", True])
def test_errors_name_the_option(maximum):
    with pytest.raises(ValueError, match=f"FuzzyPool2d: maximum must be a number above 0, got {maximum!r}"):
        create_pool("fuzzy", channels=3, maximum=maximum)


def test_flops_are_those_of_the_formula():
    # Of a cell its place and three memberships; of each set three sums and a product; two comparisons, a division.
    each = 4 * 2 + 4 * (2 + 3 + 2) + 3 * (4 + 3 + 3) + 2 + 1
    assert create_pool("fuzzy", channels=5).flops((8, 6)) == 5 * 4 * 3 * each
