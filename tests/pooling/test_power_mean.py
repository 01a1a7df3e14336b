import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

EXPONENTS = [-math.inf, -4.0, -2.0, -1.0, -0.5, -0.05, -1e-12, 0.0, 0.05, 0.5, 1.0, 2.0, 2.5, 3.0, 20.0, math.inf]
ONE_TO_FOUR = [[[[1.0, 2.0], [3.0, 4.0]]]]


def _mean(cells, p, eps):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    cells = cells.clamp(min=eps)
    if math.isinf(p):
        return cells.amax(-1) if p > 0 else cells.amin(-1)
    return cells.log().mean(-1).exp() if abs(p) < 1e-9 else (cells**p).mean(-1) ** (1 / p)


@pytest.mark.parametrize("p", EXPONENTS)
@given(case=geometries_and_maps(), eps=st.sampled_from([1e-6, 0.1]))
def test_it_is_the_power_mean_of_the_cells_inside_the_map(p, case, eps):
    options, x = case
    x = x.clone().requires_grad_()
    expected = by_loop(x, partial(_mean, p=p, eps=eps), **options)
    y = create_pool("power_mean", channels=x.shape[1], p=p, eps=eps, **options)(x)
    torch.testing.assert_close(y, expected)
    if math.isfinite(p):  # of equal extremes the first gets the gradient, not all their share
        weight = torch.rand_like(y)
        found, right = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
        torch.testing.assert_close(found * (x != eps), right * (x != eps))


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("p", [-4.0, -0.3, 0.0, 1e-7, 0.05, 3.0])
@given(case=geometries_and_maps())
def test_a_learned_p_starts_as_the_fixed_one(p, per, case):
    options, x = case
    fixed, learned = (
        create_pool("power_mean", channels=x.shape[1], p=p, eps=1e-3, learnable=learnable, **options).double()
        for learnable in (False, per)
    )
    torch.testing.assert_close(learned(x), fixed(x), rtol=1e-5, atol=1e-8)  # p itself was made in float32
    x = x.clone().requires_grad_()
    found, right = (torch.autograd.grad(pool(x).sum(), x)[0] for pool in (learned, fixed))
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("per", ["layer", "channel"])
@given(case=geometries_and_maps(), p=st.sampled_from([-3.0, -0.3, 0.2, 1.0, 3.5]))
def test_a_learned_p_has_the_gradients_of_the_definition_at_borders_and_for_each_channel(per, case, p):
    options, x = case
    x = x.clone().requires_grad_()
    pool = create_pool("power_mean", channels=x.shape[1], p=p, eps=1e-3, learnable=per, **options).double()
    if per == "channel":
        with torch.no_grad():
            pool.p.mul_(torch.linspace(1, 2, x.shape[1]))
    exponent = pool.p[:, None]
    expected = by_loop(
        x,
        lambda cells: ((cells.clamp(min=1e-3) ** exponent).mean(-1, keepdim=True) ** (1 / exponent))[..., 0],
        **options,
    )
    y = pool(x)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, (x, pool.p), weight) for one in (y, expected))
    torch.testing.assert_close(found[0], right[0])
    torch.testing.assert_close(found[1], right[1])


@pytest.mark.parametrize("learnable", [False, "layer"])
def test_known_gradients(learnable):
    x = torch.tensor(ONE_TO_FOUR, requires_grad=True)
    pool = create_pool("power_mean", channels=1, learnable=learnable)
    pool(x).backward()
    torch.testing.assert_close(
        x.grad.flatten(), torch.tensor([0.029240, 0.116961, 0.263162, 0.467843]), rtol=0, atol=1e-6
    )
    if learnable:
        assert pool.p.grad.item() == pytest.approx(0.1621337, abs=1e-5)


@pytest.mark.parametrize(("p", "name"), [(1.0, "average"), (math.inf, "max")])
@given(case=geometries_and_maps())
def test_of_positive_maps_it_meets_the_average_and_the_maximum(p, name, case):
    options, x = case
    x = x.abs() + 1e-3
    expected = create_pool(name, channels=x.shape[1], **options)(x)
    assert torch.equal(create_pool("power_mean", channels=x.shape[1], p=p, **options)(x), expected)
    if p == 1:
        learned = create_pool("power_mean", channels=x.shape[1], p=p, learnable="layer", **options).double()
        torch.testing.assert_close(learned(x), expected)


@pytest.mark.parametrize(
    ("p", "expected"),
    [(-math.inf, 1), (-1, 1.92), (0, 24**0.25), (1, 2.5), (2, 2.738613), (3, 2.924018), (20, 3.732723), (math.inf, 4)],
)
def test_known_values(p, expected):
    y = create_pool("power_mean", channels=1, p=p)(torch.tensor(ONE_TO_FOUR))
    assert y.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("alpha", [-5.0, -1.0, 0.5, 1.0, 3.0])
def test_alpha_integration_is_p_from_alpha(alpha):
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64) + 0.1
    if alpha == 1:
        expected = by_loop(x, lambda cells: cells.log().mean(-1).exp(), kernel_size=2, stride=2)
    else:  # f^-1 of the mean of f(x), f(x) = x^((1 - alpha) / 2)
        half = (1 - alpha) / 2
        expected = by_loop(x, lambda cells: (cells**half).mean(-1) ** (1 / half), kernel_size=2, stride=2)
    torch.testing.assert_close(create_pool("power_mean", channels=3, p=(1 - alpha) / 2)(x), expected)


@given(maps(3, 2), st.floats(-30, 30), st.floats(-30, 30))
def test_it_rises_with_p(x, p, q):
    low, high = sorted((p, q))
    less, more = (create_pool("power_mean", channels=x.shape[1], kernel_size=3, p=p, eps=0.01)(x) for p in (low, high))
    assert (less <= more * (1 + 1e-9)).all()


@given(maps(2, 2), st.sampled_from([2.0, 2.5, 3.0]))
def test_of_positive_maps_it_is_the_mean_norm(x, p):
    x = x.abs() + 1e-3
    norm = create_pool("lp", channels=x.shape[1], p=p)(x)
    torch.testing.assert_close(create_pool("power_mean", channels=x.shape[1], p=p)(x), norm)


@pytest.mark.parametrize("p", [-100.0, 100.0])
@pytest.mark.parametrize("learnable", [False, "layer"])
def test_a_large_exponent_tends_to_the_extreme_without_overflow(p, learnable):
    x = torch.rand(2, 3, 8, 8) * 1e3 + 1e-2
    y = create_pool("power_mean", channels=3, p=p, learnable=learnable)(x)
    extreme = create_pool("power_mean", channels=3, p=math.copysign(math.inf, p))(x)
    torch.testing.assert_close(y, extreme, rtol=4 ** (1 / 100) - 1 + 1e-4, atol=0)


@pytest.mark.parametrize("p", [-3.0, -0.01, -1e-9, 0.0, 1e-9, 0.01, 3.0])
def test_a_learned_p_has_the_gradient_of_the_formula(p):
    x = torch.rand(1, 1, 2, 2, dtype=torch.float64) + 0.2
    pool = create_pool("power_mean", channels=1, p=p, learnable="layer").double()
    (gradient,) = torch.autograd.grad(pool(x).sum(), pool.p)
    # Finite differences, wide enough to be exact near 0 too
    above, below = (_mean(x.flatten(2), p + step, 1e-6) for step in (1e-3, -1e-3))
    assert gradient.item() == pytest.approx(((above - below) / 2e-3).item(), rel=1e-4)


@pytest.mark.parametrize("p", [-1e-7, 0.0, 1e-7])
@given(case=geometries_and_maps())
def test_at_zero_a_learned_p_is_drawn_by_half_the_variance_of_the_logarithms(p, case):
    options, x = case
    pool = create_pool("power_mean", channels=x.shape[1], p=p, eps=1e-3, learnable="channel", **options).double()

    def slope(cells):
        logs = cells.clamp(min=1e-3).log()
        return logs.mean(-1).exp() * logs.var(-1, correction=0) / 2

    y = pool(x)
    weight = torch.rand_like(y)
    (found,) = torch.autograd.grad(y, pool.p, weight)
    torch.testing.assert_close(found, (by_loop(x, slope, **options) * weight).sum((0, 2, 3)), rtol=1e-4, atol=1e-8)


def test_a_learned_p_crosses_zero_smoothly():
    x = torch.rand(1, 1, 2, 2) + 0.2
    pool = create_pool("power_mean", channels=1, learnable="layer")
    values, slopes = [], []
    for p in torch.linspace(-0.02, 0.02, 201):
        with torch.no_grad():
            pool.p.fill_(p)
        y = pool(x)
        values.append(y.item())
        slopes.append(torch.autograd.grad(y.sum(), pool.p)[0].item())
    steps = torch.tensor(values).diff()
    assert (steps > -1e-5).all()
    assert steps.max() < 1e-4
    assert max(slopes) - min(slopes) < 0.05 * max(slopes)


def test_cells_below_eps_count_as_eps_and_get_no_gradient():
    x = torch.tensor([[[[-3.0, 0.0], [0.0, 2.0]]]], requires_grad=True)
    y = create_pool("power_mean", channels=1, p=1.5)(x)
    y.backward()
    assert y.item() == pytest.approx(2 * 4 ** (-1 / 1.5), rel=1e-5)
    assert x.grad.flatten()[:3].tolist() == [0, 0, 0]
    assert x.grad[..., 1, 1] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": math.nan}, "p must be a number"),
        ({"p": "3"}, "p must be a number"),
        ({"eps": 0.0}, "eps must be"),
        ({"learnable": True}, "learnable must be"),
        ({"p": math.inf, "learnable": "layer"}, "must start at a finite number"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("power_mean", channels=3, **options)
    assert "PowerMeanPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "per_window"),
    [
        ({}, 4 + 3 + 4 + 4 + 4 + 3),  # comparisons with eps and for the peak, divisions, powers, additions; the root
        ({"p": 0.0}, 4 + 4 + 3 + 2),  # comparisons, logarithms, additions; a division, an exponential
        ({"p": 1.0}, 4 + 3 + 1),
        ({"p": math.inf}, 4 + 3),
        ({"learnable": "layer"}, 4 + 4 + 3 + 1 + 4 + 4 + 3 + 4 + 4 + 3 + 1 + 1 + 1 + 1 + 1 + 1),
    ],
    ids=str,
)
def test_flops_are_those_of_the_formula_in_use(options, per_window):
    assert create_pool("power_mean", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * per_window
