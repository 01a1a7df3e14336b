from functools import partial

import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def _soft(cells, temperature):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    weights = ((cells - cells.amax(-1, keepdim=True)) / temperature).exp()
    return (weights * cells).sum(-1) / weights.sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
@given(case=geometries_and_maps())
def test_it_is_the_average_weighted_by_the_softmax_of_the_cells_inside_the_map(temperature, case):
    options, x = case
    x.requires_grad_()
    expected = by_loop(x, partial(_soft, temperature=temperature), **options)
    y = create_pool("soft", channels=x.shape[1], temperature=temperature, **options)(x)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@pytest.mark.parametrize(
    ("x", "expected"), [([1.0, 2, 3, 4], 3.4926529), ([-1.0, -2, -3, -4], -1.5073473), ([0.0, 0, 0, 4], 3.7916601)]
)
def test_known_values(x, expected):
    y = create_pool("soft", channels=1)(torch.tensor(x, dtype=torch.float64).view(1, 1, 2, 2))
    assert y.item() == pytest.approx(expected, abs=1e-6)


@given(maps(3, 2))
def test_it_tends_to_the_maximum_as_temperature_falls_and_to_the_average_as_it_grows(x):
    cold, warm = (create_pool("soft", channels=x.shape[1], temperature=t, kernel_size=3)(x) for t in (1e-6, 1e6))
    torch.testing.assert_close(cold, create_pool("max", channels=x.shape[1], kernel_size=3)(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(warm, create_pool("average", channels=x.shape[1], kernel_size=3)(x), rtol=0, atol=1e-4)


@given(case=geometries_and_maps())
def test_it_is_lip_with_the_map_itself_as_logits(case):
    options, x = case
    y = create_pool("lip", channels=x.shape[1], logits="identity", **options)(x)
    torch.testing.assert_close(create_pool("soft", channels=x.shape[1], **options)(x), y)


def test_lowering_a_cell_far_below_the_result_raises_it():
    x = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]], requires_grad=True)
    create_pool("soft", channels=1)(x).backward()
    assert (x.grad.flatten()[:3] < 0).all()
    torch.testing.assert_close(x.grad.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("channel", 5)])
def test_a_learned_temperature_starts_as_the_fixed_one_and_stays_above_zero(per, count):
    pool = create_pool("soft", channels=5, temperature=0.5, learnable=per)
    assert [tuple(parameter.shape) for parameter in pool.parameters()] == [(count,)]
    x = torch.randn(4, 5, 8, 8)
    torch.testing.assert_close(pool(x), create_pool("soft", channels=5, temperature=0.5)(x))
    with torch.no_grad():
        pool.log_temperature.fill_(-60)  # far down
    torch.testing.assert_close(pool(x), create_pool("max", channels=5)(x))
    pool.reset_parameters()
    torch.testing.assert_close(pool.log_temperature.exp(), torch.full((count,), 0.5))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_learned_temperature_has_the_gradient_of_the_formula(temperature):
    """dy/dT = -(variance of the cells under the weights) / T^2."""
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    pool = create_pool("soft", channels=3, temperature=temperature, learnable="channel").double()

    def slope(cells):
        weights = (cells / temperature).softmax(-1)
        mean = (weights * cells).sum(-1, keepdim=True)
        return -(weights * (cells - mean) ** 2).sum(-1) / temperature**2

    expected = by_loop(x, slope, kernel_size=2, stride=2).sum((0, 2, 3))
    (gradient,) = torch.autograd.grad(pool(x).sum(), pool.log_temperature)
    torch.testing.assert_close(gradient / temperature, expected)


def test_the_published_gradient_is_the_weight_of_a_cell_and_the_exact_one_the_derivative():
    x = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]], requires_grad=True)
    for gradient, expected in (
        ("published", [0.015, 0.041, 0.112, 0.831]),
        ("exact", [-0.039, -0.066, -0.066, 1.172]),
    ):
        y = create_pool("soft", channels=1, gradient=gradient)(x)
        (slope,) = torch.autograd.grad(y, x)
        torch.testing.assert_close(slope.flatten(), torch.tensor(expected), atol=6e-4, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@given(case=geometries_and_maps())
def test_the_published_gradient_is_that_of_the_formula_with_its_weights_frozen(temperature, case):
    options, x = case
    x.requires_grad_()

    def frozen(cells):
        return ((cells.detach() / temperature).softmax(-1) * cells).sum(-1)

    expected = by_loop(x, frozen, **options)
    pool = create_pool("soft", channels=x.shape[1], temperature=temperature, gradient="published", **options)
    y = pool(x)
    torch.testing.assert_close(y, expected)
    (known,) = torch.autograd.grad(expected, x, torch.ones_like(y))
    (slope,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)  # the plain formula
    (fast,) = torch.autograd.grad(pool(x), x, torch.ones_like(y))
    torch.testing.assert_close(slope, known)
    torch.testing.assert_close(fast, known)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0}, "temperature must be a number above 0, got 0"),
        ({"temperature": "1"}, "temperature must be"),
        ({"gradient": "other"}, "gradient must be 'exact' or 'published', got 'other'"),
        ({"gradient": "published", "learnable": "layer"}, "no temperature could be learned, got learnable='layer'"),
        ({"learnable": True}, "learnable must be false, 'layer' or 'channel', got True"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("soft", channels=3, **options)
    assert "SoftPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    # Shift by the maximum, division by T, exponential, product, two sums; a division.
    each = 3 + 4 + 4 + 4 + 4 + 3 + 3 + 1
    assert create_pool("soft", channels=5).flops((8, 6)) == 5 * 4 * 3 * each
