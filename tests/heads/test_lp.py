import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head

ORDERS = [1.0, 1.5, 2.0, 3.0, 50.0, math.inf]


def make(channels=3, **options):
    return create_head("lp", channels=channels, num_classes=2, **options)


def by_definition(x, p, norm):
    cells = x.flatten(2).abs()
    if p == math.inf:
        return cells.amax(2)
    total = (cells**p).mean(2) if norm == "mean" else (cells**p).sum(2)
    return total ** (1 / p)


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("p", ORDERS)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.random_module())
def test_each_channel_gives_its_norm(p, norm, height, width, seed):
    x = torch.randn(2, 3, height, width)
    expected = by_definition(x.double(), p, norm).float()  # 0.1 to the power of 50 is 0 in float32
    torch.testing.assert_close(make(p=p, norm=norm).pool(x), expected)


@pytest.mark.parametrize(("p", "expected"), [(1, 2.5), (2, 2.738613), (3, 2.924018), (20, 3.732723), (math.inf, 4)])
def test_known_values(p, expected):
    y = make(channels=1, p=p).pool(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert y.item() == pytest.approx(expected, abs=1e-5)


def test_it_lies_between_the_global_average_and_the_global_maximum():
    x = torch.rand(2, 3, 5, 4)
    average, most = (create_head(name, channels=3, num_classes=2).pool(x) for name in ("global_average", "global_max"))
    torch.testing.assert_close(make(p=1.0).pool(x), average)
    assert torch.equal(make(p=math.inf).pool(x), most)
    steps = [make(p=p).pool(x) for p in ORDERS]
    assert all((less <= more + 1e-6).all() for less, more in pairwise(steps))
    torch.testing.assert_close(make(p=1000.0).pool(x), most, rtol=20 ** (1 / 1000) - 1, atol=0)


def test_only_the_mean_form_keeps_its_level_at_another_size():
    x = torch.rand(2, 3, 4, 4)
    larger = x.repeat(1, 1, 2, 2)
    torch.testing.assert_close(make(p=3.0).pool(larger), make(p=3.0).pool(x))
    torch.testing.assert_close(make(p=3.0, norm="sum").pool(larger), make(p=3.0, norm="sum").pool(x) * 4 ** (1 / 3))


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("p", ORDERS)
def test_a_map_of_zeros_gives_zero_and_no_gradient(p, norm):
    x = torch.rand(1, 3, 4, 4)
    x[:, 1] = 0
    x.requires_grad_()
    y = make(p=p, norm=norm).pool(x)
    y.sum().backward()
    assert y[0, 1] == 0
    assert x.grad.isfinite().all()
    assert (x.grad[:, 1] == 0).all()
    assert x.grad[:, 0].abs().sum() > 0


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_powers_neither_overflow_nor_vanish(p, scale):
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    scaled = (x.detach() * scale).requires_grad_()
    head = make(p=p)
    y, expected = head.pool(scaled), head.pool(x)
    torch.testing.assert_close(y / scale, expected)
    y.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(scaled.grad, x.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_half_precision_neither_overflows_nor_vanishes(dtype, scale):
    x = (torch.rand(2, 3, 4, 4) * scale).to(dtype)
    y = make(p=3.0).pool(x)
    assert y.dtype == dtype
    assert torch.equal(y, make(p=3.0).pool(x.float()).to(dtype))


def test_nan_is_not_hidden():
    x = torch.ones(1, 2, 4, 4)
    x[0, 0, 0, 1] = torch.nan
    for p in ORDERS:
        assert make(channels=2, p=p).pool(x).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 0.5}, "GlobalLp: p must be a number of at least 1, got 0.5"),
        ({"p": math.nan}, "p must be"),
        ({"p": "2"}, "p must be"),
        ({"p": True}, "p must be"),
        ({"norm": "l2"}, "GlobalLp: norm must be 'mean' or 'sum', got 'l2'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({"p": 1.0}, 20 + 19 + 1),  # absolute values, additions, division
        ({"p": 1.0, "norm": "sum"}, 20 + 19),
        ({"p": math.inf}, 20 + 19),
        ({}, 20 + 19 + 20 + 20 + 19 + 3),  # and comparisons, divisions by the peak, powers; division, root, scale
        ({"norm": "sum"}, 20 + 19 + 20 + 20 + 19 + 2),
    ],
    ids=str,
)
def test_flops(options, each):
    assert make(**options).flops((4, 5)) == 3 * each
