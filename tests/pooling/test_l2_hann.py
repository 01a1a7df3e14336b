import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from poolbench.pooling.l2_hann import hann
from tests.pooling.reference import maps


@pytest.mark.parametrize("size", range(1, 8))
def test_the_taps_are_numpys_window_without_its_ends(size):
    window = np.hanning(size + 2)[1:-1]
    assert hann(size) == pytest.approx(window / window.sum())


@pytest.mark.parametrize("border", ["zero", "reflect", "replicate"])
@given(x=maps(2, 3), stride=st.integers(1, 3), filter_size=st.integers(1, 7))
def test_it_is_the_root_of_weighted_squares(border, x, stride, filter_size):
    height, width = x.shape[2] // stride, x.shape[3] // stride
    taps = torch.from_numpy(np.hanning(filter_size + 2)[1:-1])
    taps = taps / taps.sum()
    start = (filter_size - 1) // 2
    total = torch.zeros(*x.shape[:2], height, width, dtype=torch.float64)
    rows, columns = (
        [_places(side, n, stride, start, filter_size, border) for n in range(out)]
        for side, out in ((x.shape[2], height), (x.shape[3], width))
    )
    if border == "reflect":
        rows, columns = (
            _places_reflected(side, out, stride, start, filter_size)
            for side, out in ((x.shape[2], height), (x.shape[3], width))
        )
    for i in range(height):
        for j in range(width):
            for p, row in enumerate(rows[i]):
                for q, column in enumerate(columns[j]):
                    if row is not None and column is not None:
                        total[..., i, j] += taps[p] * taps[q] * x[..., row, column] ** 2
    pool = create_pool("l2_hann", channels=x.shape[1], stride=stride, filter_size=filter_size, border=border)
    torch.testing.assert_close(pool(x), (total + 1e-12).sqrt())


def _places(side, n, stride, start, filter_size, border):
    found = [n * stride - start + p for p in range(filter_size)]
    if border == "zero":
        return [one if 0 <= one < side else None for one in found]
    return [min(max(one, 0), side - 1) for one in found]


def _places_reflected(side, out, stride, start, filter_size):
    found = [[n * stride - start + p for p in range(filter_size)] for n in range(out)]
    if max(start, found[-1][-1] - side + 1) >= side:  # too small to be reflected
        return [[min(max(one, 0), side - 1) for one in row] for row in found]
    return [[abs(one) if abs(one) < side else 2 * (side - 1) - abs(one) for one in row] for row in found]


def test_it_is_the_formula_of_the_perceptual_metric():
    """A convolution of the squares by the outer product of the window, padded by one, and the root."""
    x = torch.randn(2, 3, 12, 10)
    window = torch.from_numpy(np.hanning(5)[1:-1]).float()
    both = window[:, None] * window
    weight = (both / both.sum()).expand(3, 1, 3, 3)
    expected = (F.conv2d(x**2, weight, stride=2, padding=1, groups=3) + 1e-12).sqrt()
    torch.testing.assert_close(create_pool("l2_hann", channels=3)(x), expected)


def test_a_map_of_zeros_has_a_finite_gradient():
    x = torch.zeros(1, 2, 8, 8, requires_grad=True)
    create_pool("l2_hann", channels=2)(x).sum().backward()
    assert x.grad.eq(0).all()


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_the_gradients_are_right(border):
    pool = create_pool("l2_hann", channels=2, border=border, eps=1e-6)
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


def test_squares_in_half_precision_do_not_overflow():
    x = torch.full((1, 1, 8, 8), 1000.0, dtype=torch.float16)
    pool = create_pool("l2_hann", channels=1, border="replicate")
    assert torch.equal(pool(x), torch.full((1, 1, 4, 4), 1000.0, dtype=torch.float16))
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(pool(x.float()), torch.full((1, 1, 4, 4), 1000.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter_size": 8}, r"filter_size must be a whole number from 1 to 7, or two of them .*, got 8"),
        ({"border": "circular"}, "border must be 'reflect', 'replicate' or 'zero', got 'circular'"),
        ({"eps": 0}, "eps must be a number above 0, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("l2_hann", channels=3, **options)
    assert "L2HannPool2d" in str(caught.value)


def test_it_has_no_parameters_and_costs_little():
    pool = create_pool("l2_hann", channels=5)
    assert list(pool.parameters()) == []
    # Four squares, 3 taps along three rows' worth of values, an addition and a root.
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (4 + 2 * 3 * 3 + 2)
