from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = [[[[1.0, 2.0], [3.0, 4.0]]]]


def _smooth(cells, r):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``; ``r`` a number or ``(1 or C, 1)``."""
    return (cells * r).exp().mean(-1, keepdim=True).log().div(r).squeeze(-1)


@given(case=geometries_and_maps(), r=st.sampled_from([0.3, 1.0, 4.0]))
def test_it_is_the_logarithm_of_the_mean_exponential_with_its_gradient(case, r):
    options, x = case
    x = x.clone().requires_grad_()
    expected = by_loop(x, partial(_smooth, r=r), **options)
    y = create_pool("log_sum_exp", channels=x.shape[1], sharpness=r, **options)(x)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("per", ["layer", "channel"])
@given(case=geometries_and_maps())
def test_a_learned_sharpness_has_the_gradients_of_the_formula(per, case):
    options, x = case
    pool = create_pool("log_sum_exp", channels=x.shape[1], sharpness=2.0, learnable=per, **options).double()
    x, r = x.clone().requires_grad_(), pool.log_sharpness
    y = pool(x)
    expected = by_loop(x, lambda cells: _smooth(cells, r.exp()[:, None]), **options)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, (x, r), weight) for one in (y, expected))
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize(("r", "expected"), [(1.0, 3.053895), (10.0, 3.861375)])
def test_known_values(r, expected):
    y = create_pool("log_sum_exp", channels=1, sharpness=r)(torch.tensor(ONE_TO_FOUR))
    assert y.item() == pytest.approx(expected, abs=1e-5)


def test_it_does_not_overflow():
    x = torch.tensor([50.0, 100.0]).expand(1, 1, 2, 2)
    assert create_pool("log_sum_exp", channels=1)(x).item() == pytest.approx(99.30685, abs=1e-4)


@given(maps(2, 2))
def test_it_lies_between_average_and_maximum_and_tends_to_both(x):
    average, largest = (create_pool(name, channels=x.shape[1])(x) for name in ("average", "max"))
    soft, low, high = (create_pool("log_sum_exp", channels=x.shape[1], sharpness=r)(x) for r in (1.0, 1e-5, 1e4))
    assert (average - 1e-9 <= soft).all()
    assert (soft <= largest + 1e-9).all()
    torch.testing.assert_close(low, average, rtol=0, atol=1e-3)
    torch.testing.assert_close(high, largest, rtol=0, atol=1e-3)


@given(maps(2, 2))
def test_its_gradient_is_the_softmax(x):
    x = x.clone().requires_grad_()
    y = create_pool("log_sum_exp", channels=x.shape[1])(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert (gradient >= 0).all()
    torch.testing.assert_close(gradient.sum((2, 3)), torch.full(x.shape[:2], float(y[0, 0].numel())).double())


def test_a_learned_sharpness_moves_and_comes_back():
    pool = create_pool("log_sum_exp", channels=3, sharpness=5.0, learnable="channel")
    pool(torch.rand(2, 3, 8, 8)).sum().backward()
    assert (pool.log_sharpness.grad > 0).all()  # sharper is larger
    with torch.no_grad():
        pool.log_sharpness.sub_(1)
    pool.reset_parameters()
    torch.testing.assert_close(pool.log_sharpness.exp(), torch.full((3,), 5.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"sharpness": 0.0}, "sharpness must be"), ({"learnable": True}, "learnable must be")],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("log_sum_exp", channels=3, **options)
    assert "LogSumExpPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    # Comparisons, differences, products, exponentials, additions; two divisions, a logarithm, a sum.
    assert create_pool("log_sum_exp", channels=5).flops((8, 6)) == 5 * 4 * 3 * (3 + 4 + 4 + 4 + 3 + 4)
