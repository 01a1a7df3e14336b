from fractions import Fraction
from itertools import product
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import both, geometries_and_maps, maps


def by_window(x, kernel_size, stride, padding, smoothing):
    """The definition for one map ``(H, W)``, in whole numbers and fractions."""
    kernel_size, stride, padding, smoothing = map(both, (kernel_size, stride, padding, smoothing))
    (high, wide), (down, right), (top, left), (height, width) = kernel_size, stride, padding, x.shape
    size = (height // down, width // right)
    displacements = {}
    for i in range(size[0]):
        for j in range(size[1]):
            cells = {
                (r, c): x[i * down - top + r, j * right - left + c].item()
                for r in range(high)
                for c in range(wide)
                if 0 <= i * down - top + r < height and 0 <= j * right - left + c < width
            }
            flat = len(set(cells.values())) == 1
            place = max(cells, key=lambda one: (cells[one], -one[0], -one[1]))
            displacements[i, j] = [
                Fraction(0) if flat else p - Fraction(k - 1, 2) for p, k in zip(place, kernel_size, strict=True)
            ]
    y = torch.empty(size, dtype=x.dtype)
    near = list(product(*(range(-(side // 2), side // 2 + 1) for side in smoothing)))
    for (i, j), own in displacements.items():
        place = []
        for axis, side in enumerate(x.shape):
            around = [displacements[i + p, j + q][axis] for p, q in near if (i + p, j + q) in displacements]
            mean = sum(around, Fraction(0)) / (smoothing[0] * smoothing[1])
            there = mean + Fraction(kernel_size[axis] - 1, 2)
            nearest = floor(there + Fraction(1, 2))
            if (there + Fraction(1, 2)).denominator == 1 and own[axis] < mean:
                nearest -= 1
            place.append(min(max(nearest + (i, j)[axis] * stride[axis] - padding[axis], 0), side - 1))
        y[i, j] = x[place[0], place[1]]
    return y


@given(case=geometries_and_maps(), smoothing=st.sampled_from([1, 3, 5, (3, 1), (1, 5)]))
def test_it_is_the_cell_at_the_averaged_displacement(case, smoothing):
    options, x = case
    x = x.requires_grad_()
    expected = torch.stack([torch.stack([by_window(one, **options, smoothing=smoothing) for one in c]) for c in x])
    y = create_pool("regularized", channels=x.shape[1], smoothing=smoothing, **options)(x)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@given(geometries_and_maps())
def test_without_smoothing_it_is_the_maximum(case):
    options, x = case
    y = create_pool("regularized", channels=x.shape[1], smoothing=1, **options)(x)
    torch.testing.assert_close(y, create_pool("max", channels=x.shape[1], **options)(x))


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_away_from_the_border_a_shift_that_all_windows_share_is_followed(kernel_size):
    window = torch.rand(1, 1, kernel_size, kernel_size)
    x = window.repeat(1, 1, 6, 6)
    y = create_pool("regularized", channels=1, kernel_size=kernel_size, stride=kernel_size)(x)
    assert (y[..., 1:-1, 1:-1] == window.max()).all()


def test_a_shift_of_one_window_alone_is_not_followed():
    x = torch.zeros(1, 1, 9, 9)
    x[..., 1::3, 1::3] = 1  # in the middle of each window
    x[..., 4, 4], x[..., 3, 3] = 0.5, 2  # but for the one in the middle
    y = create_pool("regularized", channels=1, kernel_size=3, stride=3)(x)
    assert y[0, 0, 1, 1] == 0.5
    assert y.sum() == 8.5


def test_flat_windows_have_no_direction():
    """Were their first cells their maxima, they would draw the window in the middle up and to the left."""
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    y = create_pool("regularized", channels=1, kernel_size=3, stride=3)(x)
    assert y[0, 0, 1, 1] == 1


@given(maps(2, 2))
def test_every_window_gives_one_of_its_cells_the_whole_gradient(x):
    x.requires_grad_()
    y = create_pool("regularized", channels=x.shape[1])(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    whole = slope[..., : y.shape[2] * 2, : y.shape[3] * 2]
    assert set(slope.unique().tolist()) <= {0, 1}
    assert torch.equal(torch.nn.functional.avg_pool2d(whole, 2, divisor_override=1), torch.ones_like(y))


def test_half_precision_picks_the_same_cells_in_large_windows():
    x = torch.randn(1, 2, 34, 34).bfloat16()
    pool = create_pool("regularized", channels=2, kernel_size=17, stride=17)
    assert torch.equal(pool(x), pool(x.float()).bfloat16())


@pytest.mark.parametrize(
    ("smoothing", "words"), [(2, "smoothing must be an odd number of windows, got 2"), (0, "smoothing must be")]
)
def test_errors_name_the_option(smoothing, words):
    with pytest.raises(ValueError, match=f"RegularizedPool2d: {words}"):
        create_pool("regularized", channels=3, smoothing=smoothing)


def test_flops_are_those_of_the_formula():
    # Three comparisons each for largest and smallest; twice: displacement from the centre, sum of nine, mean, rounding.
    assert create_pool("regularized", channels=5).flops((8, 6)) == 5 * 4 * 3 * (3 + 3 + 2 * (2 + 8 + 2))
