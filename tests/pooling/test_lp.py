import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ORDERS = [1.0, 1.5, 2.0, 3.0, 50.0, math.inf]
ONE_TO_FOUR = [[[[1.0, 2.0], [3.0, 4.0]]]]


def _norm(cells, p, norm):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    cells = cells.abs()
    if p == math.inf:
        return cells.amax(-1)
    total = (cells**p).mean(-1) if norm == "mean" else (cells**p).sum(-1)
    return total ** (1 / p)


def _learned(p, channels=1, per="layer", **options):
    return create_pool("lp", channels=channels, p=p, learnable=per, **options).double()


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("p", ORDERS)
@given(case=geometries_and_maps())
def test_it_is_the_norm_of_the_cells_inside_the_map(p, norm, case):
    options, x = case
    expected = by_loop(x, partial(_norm, p=p, norm=norm), **options)
    pool = create_pool("lp", channels=x.shape[1], p=p, norm=norm, **options)
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("norm", ["mean", "sum"])
@given(case=geometries_and_maps())
def test_a_learned_p_starts_as_the_fixed_one(norm, per, case):
    options, x = case
    fixed = create_pool("lp", channels=x.shape[1], p=2.5, norm=norm, **options)
    torch.testing.assert_close(_learned(2.5, x.shape[1], per, norm=norm, **options)(x), fixed(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "p", "expected"),
    [
        ("mean", 1, 2.5),
        ("mean", 2, 2.738613),
        ("mean", 3, 2.924018),
        ("mean", 4, 3.067156),
        ("mean", 20, 3.732723),
        ("sum", 2, 5.477226),
        ("sum", 3, 4.641589),
    ],
)
def test_known_values(norm, p, expected):
    y = create_pool("lp", channels=1, p=p, norm=norm)(torch.tensor(ONE_TO_FOUR))
    assert y.item() == pytest.approx(expected, abs=1e-5)


def test_the_gradient_of_the_sum_form_is_the_unit_vector():
    x = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]], requires_grad=True)
    y = create_pool("lp", channels=1, norm="sum")(x)
    y.backward()
    assert y.item() == 5
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([0.6, 0, 0, 0.8]))


@given(maps(2, 2))
def test_l1_of_non_negative_maps_is_the_average(x):
    x = x.abs()
    average = create_pool("average", channels=x.shape[1])(x)
    torch.testing.assert_close(create_pool("lp", channels=x.shape[1], p=1)(x), average)
    torch.testing.assert_close(create_pool("lp", channels=x.shape[1], p=1, norm="sum")(x), 4 * average)


@given(maps(3, 2), st.floats(1, 60), st.floats(1, 60))
def test_the_mean_form_rises_with_p_and_the_sum_form_falls(x, p, q):
    low, high = sorted((p, q))
    less, more = (create_pool("lp", channels=x.shape[1], kernel_size=3, p=p)(x) for p in (low, high))
    assert (less <= more + 1e-12).all()
    more, less = (create_pool("lp", channels=x.shape[1], kernel_size=3, p=p, norm="sum")(x) for p in (low, high))
    assert (less <= more + 1e-12).all()


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("learnable", [False, "layer"])
def test_a_large_p_tends_to_the_maximum_without_overflow(norm, learnable):
    x = torch.rand(2, 3, 8, 8) * 1e3
    y = create_pool("lp", channels=3, p=100.0, norm=norm, learnable=learnable)(x)
    largest = create_pool("max", channels=3)(x)
    torch.testing.assert_close(y, largest, rtol=4 ** (1 / 100) - 1, atol=0)
    assert torch.equal(create_pool("lp", channels=3, p=math.inf, norm=norm)(x), largest)


def test_a_small_window_does_not_vanish_beside_a_large_one():
    x = torch.tensor([1e-30, 1e30]).repeat_interleave(2).expand(1, 1, 2, 4).contiguous()
    torch.testing.assert_close(create_pool("lp", channels=1, p=3)(x).flatten(), torch.tensor([1e-30, 1e30]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("options", [{}, {"p": 3.0}, {"p": 3.0, "learnable": "layer"}], ids=str)
def test_half_precision_neither_overflows_nor_vanishes(dtype, scale, options):
    x = torch.rand(2, 3, 8, 8) * scale
    pool = create_pool("lp", channels=3, **options)
    y = pool(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), pool(x), rtol=2e-2, atol=0)


@pytest.mark.parametrize(("p", "learnable"), [(p, False) for p in ORDERS] + [(1.1, "layer"), (3.0, "channel")])
@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_window_of_zeros_gives_zero_and_no_gradient(p, learnable, norm, padding):
    pool = create_pool("lp", channels=2, p=p, norm=norm, learnable=learnable, padding=padding)
    x = torch.rand(1, 2, 4, 4)
    x[:, :, :2, :2] = 0
    x.requires_grad_()
    y = pool(x)
    y.sum().backward()
    assert y[0, :, 0, 0].tolist() == [0, 0]
    assert x.grad.isfinite().all()
    assert (x.grad[..., 0, 0] == 0).all()
    if learnable:
        assert pool.rho.grad.isfinite().all()
        assert pool.rho.grad.abs().sum() > 0  # the other windows still teach


@pytest.mark.parametrize("p", ORDERS)
def test_the_sign_is_lost(p):
    x, pool = torch.randn(2, 3, 6, 6), create_pool("lp", channels=3, p=p)
    assert torch.equal(pool(x), pool(-x))


@pytest.mark.parametrize("options", [{"p": p} for p in ORDERS] + [{"p": 3.0, "learnable": "channel"}], ids=str)
def test_nan_is_not_hidden(options):
    x = torch.ones(1, 1, 4, 4)
    x[0, 0, 0, 1] = torch.nan
    y = create_pool("lp", channels=1, **options)(x)
    assert y.isnan().flatten().tolist() == [True, False, False, False]


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("p", [1.2, 2.0, 3.0, 9.0])
def test_a_learned_p_has_the_gradient_of_the_formula(p, norm):
    """dy/dp = y (-ln S / p^2 + sum |x|^p ln|x| / (p sum |x|^p)), S the mean or the sum of |x|^p."""
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    pool = _learned(p, channels=3, per="channel", norm=norm)
    p = pool.p.detach()[0].item()

    def slope(cells):
        powers = cells.abs() ** p
        total = powers.mean(-1) if norm == "mean" else powers.sum(-1)
        inner = (powers * cells.abs().log()).sum(-1) / (p * powers.sum(-1))
        return total ** (1 / p) * (-total.log() / p**2 + inner)

    expected = by_loop(x, slope, kernel_size=2, stride=2).sum((0, 2, 3))
    order = pool.p
    (gradient,) = torch.autograd.grad(pool(x).sum(), pool.rho)
    (inner,) = torch.autograd.grad(order.sum(), pool.rho)
    torch.testing.assert_close(gradient / inner, expected)


def test_the_gradients_of_one_to_four_are_the_known_ones():
    x = torch.tensor(ONE_TO_FOUR, dtype=torch.float64, requires_grad=True)
    pool = _learned(3.0)
    pool(x).backward()
    known = torch.tensor([0.029240, 0.116961, 0.263162, 0.467843], dtype=torch.float64)
    torch.testing.assert_close(x.grad.flatten(), known, rtol=0, atol=1e-5)
    assert (pool.rho.grad / torch.sigmoid(pool.rho)).item() == pytest.approx(0.1621337, abs=1e-5)


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("channel", 5)])
def test_a_learned_p_is_a_parameter_that_moves_and_stays_at_least_one(per, count):
    pool = create_pool("lp", channels=5, p=3.0, learnable=per)
    assert [tuple(parameter.shape) for parameter in pool.parameters()] == [(count,)]
    assert "rho" in pool.state_dict()
    torch.testing.assert_close(pool.p.detach(), torch.full((count,), 3.0))
    x = torch.rand(4, 5, 8, 8)
    optimizer = torch.optim.SGD(pool.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        pool(x).sum().backward()
        optimizer.step()
    assert ((pool.p - 3).abs() > 1e-4).all()
    for lr in (1e3, -1e3):  # far down, then far up
        optimizer = torch.optim.SGD(pool.parameters(), lr=abs(lr), maximize=lr < 0)
        for _ in range(3):
            optimizer.zero_grad()
            y = pool(x)
            y.sum().backward()
            optimizer.step()
        assert (pool.p >= 1).all()
        assert pool(x).isfinite().all()
    pool.reset_parameters()
    torch.testing.assert_close(pool.p.detach(), torch.full((count,), 3.0))


def test_a_fixed_p_adds_no_parameter():
    assert list(create_pool("lp", channels=5, p=3.0).parameters()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 0.5}, "p must be a number of at least 1, got 0.5"),
        ({"p": math.nan}, "p must be"),
        ({"p": "2"}, "p must be"),
        ({"p": True}, "p must be"),
        ({"norm": "l2"}, "norm must be 'mean' or 'sum', got 'l2'"),
        ({"learnable": True}, "learnable must be false, 'layer' or 'channel', got True"),
        ({"learnable": "site"}, "learnable must be"),
        ({"p": 1.0, "learnable": "layer"}, "must start above 1"),
        ({"p": math.inf, "learnable": "layer"}, "finite"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("lp", channels=3, **options)
    assert "LpPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "per_window"),
    [
        ({"p": 1.0}, 4 + 3 + 1),  # absolute values, additions, division
        ({"p": 1.0, "norm": "sum"}, 4 + 3),
        ({"p": math.inf}, 4 + 3),  # absolute values, comparisons
        ({"p": 2.0}, 4 + 4 + 1 + 1),  # squares, additions to zero, division, root
        ({"p": 2.0, "norm": "sum"}, 4 + 4 + 1),
        ({"p": 3.0}, 4 + 3 + 4 + 4 + 4 + 3),  # and comparisons, divisions by the peak; its factor at the end
        ({"p": 3.0, "norm": "sum"}, 4 + 3 + 4 + 4 + 4 + 2),
        ({"p": 2.0, "learnable": "layer"}, 4 + 3 + 4 + 4 + 4 + 3),
    ],
    ids=str,
)
def test_flops_are_those_of_the_formula_in_use(options, per_window):
    assert create_pool("lp", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * per_window
