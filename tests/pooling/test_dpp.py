import math
from functools import partial

import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from poolbench.pooling.dpp import LARGEST_ALPHA, LARGEST_LAMBDA
from tests.pooling.reference import both, by_loop, geometries_and_maps, maps

ONE_TO_FOUR, CORNER = [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 4.0]


def _dpp(cells, exponent, alpha, symmetric, center=None):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``; a filter's value comes as the first cell."""
    if center is None:
        center = cells.mean(-1, keepdim=True)
    difference = cells - center
    if not symmetric:
        difference = difference.clamp(min=0)
    q = difference**2 + 1e-3
    weights = alpha[:, None] + (q / q.mean(-1, keepdim=True)) ** (exponent[:, None] / 2)
    return (weights * cells).sum(-1) / weights.sum(-1)


def _pool(x, **options):
    """With a ``lambda`` and an ``alpha`` of its own for each channel, some beyond the largest; and both as they act."""
    pool = create_pool("dpp", channels=x.shape[1], **options).double()
    with torch.no_grad():
        for parameter in (pool.log_lambda, pool.log_alpha):
            parameter.add_(3 * torch.randn_like(parameter))
    most = math.log(LARGEST_LAMBDA), math.log(LARGEST_ALPHA)
    return pool, pool.log_lambda.clamp(max=most[0]).exp(), pool.log_alpha.clamp(max=most[1]).exp()


def _same(y, expected, tensors):
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, tensors, weight, retain_graph=True) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


@pytest.mark.parametrize("symmetric", [True, False])
@given(case=geometries_and_maps())
def test_the_lite_form_weighs_by_the_distance_from_the_mean_of_the_cells_inside_the_map(symmetric, case):
    options, x = case
    x.requires_grad_()
    pool, exponent, alpha = _pool(x, symmetric=symmetric, **options)
    expected = by_loop(x, partial(_dpp, exponent=exponent, alpha=alpha, symmetric=symmetric), **options)
    _same(pool(x), expected, [x, pool.log_lambda, pool.log_alpha])


@pytest.mark.parametrize("symmetric", [True, False])
@given(case=geometries_and_maps())
def test_the_full_form_weighs_by_the_distance_from_a_filter(symmetric, case):
    options, x = case
    x.requires_grad_()
    pool, exponent, alpha = _pool(x, symmetric=symmetric, full=True, **options)
    weight, bias = pool.surroundings.weight, pool.surroundings.bias
    padded, (down, right) = torch.nn.functional.pad(x, (1, 1, 1, 1)), both(options["stride"])
    windows = iter([(i, j) for i in range(x.shape[2] // down) for j in range(x.shape[3] // right)])

    def of_window(cells):
        i, j = next(windows)
        part = padded[..., i * down : i * down + 3, j * right : j * right + 3]
        center = (part * weight[:, 0]).sum((2, 3)) + bias
        return _dpp(cells, exponent, alpha, symmetric, center[..., None])

    _same(pool(x), by_loop(x, of_window, **options), [x, *pool.parameters()])


@pytest.mark.parametrize(
    ("x", "symmetric", "expected"),
    [(ONE_TO_FOUR, True, 2.5), (ONE_TO_FOUR, False, 2.9661646), (CORNER, True, 1.4639231), (CORNER, False, 1.9790316)],
)
def test_known_values(x, symmetric, expected):
    y = create_pool("dpp", channels=1, symmetric=symmetric)(torch.tensor(x, dtype=torch.float64).view(1, 1, 2, 2))
    assert y.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("options", [{"lambda_": 1e-6}, {"alpha": math.exp(10)}], ids=str)
@given(x=maps(3, 2))
def test_without_an_exponent_or_with_a_large_alpha_it_is_the_average(options, x):
    y = create_pool("dpp", channels=x.shape[1], kernel_size=3, **options)(x)
    average = create_pool("average", channels=x.shape[1], kernel_size=3)(x)
    torch.testing.assert_close(y, average, rtol=0, atol=5e-3)


def test_the_asymmetric_form_tends_to_the_maximum_and_the_symmetric_one_to_what_is_farthest_from_the_mean():
    x = torch.tensor([[[[0.0, 5.0], [6.0, 7.0]]]])  # mean 4.5
    options = {"lambda_": 32.0, "alpha": 1e-6}
    for symmetric, expected in ((False, 7.0), (True, 0.0)):
        y = create_pool("dpp", channels=1, symmetric=symmetric, **options)(x)
        assert y.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("far", [100.0, -100.0])
def test_parameters_that_wander_far_off_neither_overflow_nor_divide_by_zero(symmetric, far):
    pool, x = create_pool("dpp", channels=3, kernel_size=3, symmetric=symmetric), torch.randn(2, 3, 8, 8) * 100
    with torch.no_grad():
        pool.log_lambda.fill_(far)
        pool.log_alpha.fill_(far)
    x.requires_grad_()
    y = pool(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert all(one.grad.isfinite().all() for one in (x, *pool.parameters()))


def test_parameters_beyond_the_largest_act_as_the_largest_and_have_no_gradient():
    x = torch.randn(2, 3, 6, 6)
    largest = create_pool("dpp", channels=3, lambda_=LARGEST_LAMBDA, alpha=LARGEST_ALPHA)
    pool = create_pool("dpp", channels=3)
    with torch.no_grad():
        pool.log_lambda.fill_(math.log(LARGEST_LAMBDA) + 0.5)
        pool.log_alpha.fill_(math.log(LARGEST_ALPHA) + 0.5)
    y = pool(x)
    torch.testing.assert_close(y, largest(x))
    y.square().sum().backward()
    assert not pool.log_lambda.grad.any()
    assert not pool.log_alpha.grad.any()


@pytest.mark.parametrize(("full", "count"), [(False, 2 * 5), (True, 12 * 5)])
def test_it_has_as_many_parameters_as_the_authors_code(full, count):
    pool = create_pool("dpp", channels=5, full=full, lambda_=3.0, alpha=0.5)
    assert sum(parameter.numel() for parameter in pool.parameters()) == count
    for _ in range(2):
        torch.testing.assert_close(pool.log_lambda.exp(), torch.full((5,), 3.0))
        torch.testing.assert_close(pool.log_alpha.exp(), torch.full((5,), 0.5))
        with torch.no_grad():
            pool.log_lambda.zero_()
        pool.reset_parameters()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"symmetric": "yes"}, "symmetric must be true or false, got 'yes'"),
        ({"full": 1}, "full must be true or false, got 1"),
        ({"lambda_": 0}, "lambda_ must be a number from 1e-06 to 32, got 0"),
        ({"alpha": -1.0}, "alpha must be a number from 1e-06 to"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("dpp", channels=3, **options)
    assert "DetailPreservingPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "per_window"),
    [
        ({}, 4 + 4 * 10 + 3 + 3),  # mean; ten operations a cell; two sums
        ({"symmetric": False}, 4 + 4 * 11 + 3 + 3),
        ({"full": True}, 18 + 4 * 10 + 3 + 3),
    ],
    ids=str,
)
def test_flops_are_those_of_the_formula(options, per_window):
    # Difference, square, constant, sum, division by the mean, logarithm, product, exponential, alpha, product.
    assert create_pool("dpp", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * per_window
