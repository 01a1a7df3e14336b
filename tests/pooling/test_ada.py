from functools import partial

import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, cells_of, geometries_and_maps

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)


def _ada(cells, beta):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    mean = cells.mean(-1, keepdim=True)
    both = cells**2 + mean**2
    likeness = torch.where(both > 0, 2 * (cells * mean).abs() / torch.where(both > 0, both, 1), 0)
    near = (likeness.softmax(-1) * cells).sum(-1)
    large = (cells.softmax(-1) * cells).sum(-1)
    return beta * near + (1 - beta) * large


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@given(case=geometries_and_maps())
def test_it_mixes_the_two_averages_of_the_cells_inside_the_map(beta, case):
    options, x = case
    x.requires_grad_()
    y = create_pool("ada", channels=x.shape[1], beta=beta, learnable=False, **options)(x)
    expected = by_loop(x, partial(_ada, beta=beta), **options)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@given(case=geometries_and_maps())
def test_the_published_gradient_is_that_of_the_formula_with_its_weights_frozen(case):
    options, x = case
    x.requires_grad_()

    def frozen(cells, beta):
        still = cells.detach()
        mean = still.mean(-1, keepdim=True)
        both = still**2 + mean**2
        likeness = torch.where(both > 0, 2 * (still * mean).abs() / torch.where(both > 0, both, 1), 0)
        return ((beta * likeness.softmax(-1) + (1 - beta) * still.softmax(-1)) * cells).sum(-1)

    pool = create_pool("ada", channels=x.shape[1], beta=0.3, gradient="published", **options).double()
    fixed = create_pool("ada", channels=x.shape[1], beta=0.3, learnable=False, gradient="published", **options)
    near, large = (by_loop(x, partial(frozen, beta=beta), **options) for beta in (1, 0))
    beta = pool.logit.sigmoid()
    expected = beta * near + (1 - beta) * large
    along = torch.arange(expected.numel(), dtype=expected.dtype).cos().view_as(expected)
    known = torch.autograd.grad(expected, (x, pool.logit), along)
    torch.testing.assert_close(pool(x), expected)
    torch.testing.assert_close(torch.autograd.grad(pool(x), (x, pool.logit), along), known)
    plain = torch.autograd.grad(pool(x), (x, pool.logit), along, create_graph=True)
    torch.testing.assert_close(plain, known)
    torch.testing.assert_close(torch.autograd.grad(fixed(x), x, along)[0], known[0])


@pytest.mark.parametrize("sized", [False, True])
@given(case=geometries_and_maps())
def test_a_learned_mix_has_the_gradient_of_the_formula(sized, case):
    options, x = case
    size = tuple(x.shape[2:]) if sized else None
    pool = create_pool("ada", channels=x.shape[1], beta=0.3, size=size, **options).double()
    with torch.no_grad():
        pool.logit.add_(torch.randn_like(pool.logit))
    x.requires_grad_()
    near, large = (by_loop(x, partial(_ada, beta=beta), **options) for beta in (1, 0))
    beta = pool.logit.sigmoid()
    expected = beta * near + (1 - beta) * large
    y = pool(x)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, (x, pool.logit), weight, retain_graph=True) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 2.5722501), (0.0, 3.4926529), (0.5, 3.0324515)])
def test_known_values(beta, expected):
    y = create_pool("ada", channels=1, beta=beta, learnable=False)(ONE_TO_FOUR)
    assert y.item() == pytest.approx(expected, abs=1e-6)


def test_without_the_first_part_it_is_soft():
    x = torch.randn(2, 3, 8, 8)
    y = create_pool("ada", channels=3, beta=0.0, learnable=False)(x)
    torch.testing.assert_close(y, create_pool("soft", channels=3)(x))


@given(case=geometries_and_maps())
def test_the_first_part_stays_near_the_average(case):
    """A weight is at least 1 / (1 + e (K - 1)) and at most e / (e + K - 1)."""
    options, x = case
    k2 = cells_of(options)
    near = create_pool("ada", channels=x.shape[1], beta=1.0, learnable=False, **options)(x.abs())
    average = create_pool("average", channels=x.shape[1], **options)(x.abs())
    assert (near <= average * torch.e * k2 / (torch.e + k2 - 1) + 1e-9).all()
    assert (near >= average / (1 + torch.e * (k2 - 1)) - 1e-9).all()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-20, 1e-12, 1e3, 1e12])
def test_the_likeness_of_small_and_large_maps_neither_overflows_nor_divides_by_zero(scale):
    x = (torch.randn(2, 3, 8, 8) * scale).requires_grad_()
    y = create_pool("ada", channels=3)(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_a_window_of_mean_zero_gives_its_average():
    x = torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]])
    assert create_pool("ada", channels=1, beta=1.0, learnable=False)(x).item() == 0


def test_there_is_one_mix_or_one_for_each_pixel_of_the_output_and_both_start_alike():
    one, many = create_pool("ada", channels=5, beta=0.7), create_pool("ada", channels=5, beta=0.7, size=(9, 8))
    assert one.logit.numel() == 1
    assert tuple(many.logit.shape) == (1, 1, 4, 4)
    x = torch.randn(2, 5, 9, 8)
    torch.testing.assert_close(one(x), many(x))
    torch.testing.assert_close(one.logit.sigmoid().item(), 0.7)
    with torch.no_grad():
        one.logit.fill_(5)
    one.reset_parameters()
    torch.testing.assert_close(one.logit.sigmoid().item(), 0.7)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="AdaPool2d: a map of 8x8 pixels, but size says 16x8"):
        create_pool("ada", channels=5, size=(16, 8))(torch.zeros(1, 5, 8, 8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 1.5, "learnable": False}, "beta must be a number from 0 to 1, got 1.5"),
        ({"beta": 1.0}, "beta must be a number between 0 and 1, got 1.0"),
        ({"learnable": "layer"}, "learnable must be true or false, got 'layer'"),
        ({"learnable": False, "size": (8, 8)}, "size is for a beta that is learned"),
        ({"size": (1, 8)}, "a map of 1x8 pixels is smaller than stride 2"),
        ({"size": 8}, "size must be"),
        ({"gradient": None}, "gradient must be 'exact' or 'published', got None"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("ada", channels=3, **options)
    assert "AdaPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    mean, likeness, near, large, mix = 4, 6 * 4 + 1, 4 + 4 + 3 + 3 + 1, 22, 4
    assert create_pool("ada", channels=5).flops((8, 6)) == 5 * 4 * 3 * (mean + likeness + near + large + mix)
