from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, cells_of, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[3.0, 1.0], [4.0, 2.0]]]])


def _average(cells, t):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    return cells.sort(-1, descending=True).values[..., :t].mean(-1)


def _weighted(cells, a):
    cells = cells.sort(-1, descending=True).values
    return sum(a * (1 - a) ** r * cells[..., r] for r in range(cells.shape[-1]))


def _compare(pool, x, of_window, options):
    torch.testing.assert_close(pool(x), by_loop(x, of_window, **options))
    x = (x + 1e-3 * torch.randn_like(x)).requires_grad_()  # of equal cells, which has the gradient is left open
    y, expected = pool(x), by_loop(x, of_window, **options)
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known)


@given(case=geometries_and_maps(), data=st.data())
def test_it_is_the_average_of_the_t_largest_cells_inside_the_map(case, data):
    options, x = case
    t = data.draw(st.integers(1, cells_of(options)))
    _compare(create_pool("rank", channels=x.shape[1], t=t, **options), x, partial(_average, t=t), options)


@pytest.mark.parametrize("a", [0.5, 0.2])
@given(case=geometries_and_maps())
def test_it_is_the_sum_weighted_by_rank_of_the_cells_inside_the_map(a, case):
    options, x = case
    pool = create_pool("rank", channels=x.shape[1], mode="weighted", a=a, **options)
    _compare(pool, x, partial(_weighted, a=a), options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"t": 1}, 4), ({"t": 2}, 3.5), ({}, 3.5), ({"t": 3}, 3), ({"t": 4}, 2.5), ({"mode": "weighted"}, 3.0625)],
    ids=str,
)
def test_known_values(options, expected):
    assert create_pool("rank", channels=1, **options)(ONE_TO_FOUR).item() == pytest.approx(expected)


@given(maps(3, 2))
def test_it_goes_from_the_maximum_to_the_average(x):
    for t, name in [(1, "max"), (9, "average")]:
        y = create_pool("rank", channels=x.shape[1], kernel_size=3, t=t)(x)
        torch.testing.assert_close(y, create_pool(name, channels=x.shape[1], kernel_size=3, stride=2)(x))


def test_a_constant_map_comes_out_smaller_by_the_sum_of_the_weights():
    x = torch.ones(1, 1, 6, 6)
    for kernel_size, expected in [(2, 0.9375), (3, 1 - 0.5**9)]:
        y = create_pool("rank", channels=1, mode="weighted", kernel_size=kernel_size, stride=kernel_size)(x)
        torch.testing.assert_close(y, torch.full_like(y, expected))


@pytest.mark.parametrize("a", [0.5, 0.1])
def test_the_drawn_ranks_are_as_frequent_as_their_weights(a):
    windows = 200_000
    x = ONE_TO_FOUR.expand(1, 1, 2, 2).repeat(1, 1, 1, windows)
    pool = create_pool("rank", channels=1, mode="stochastic", a=a).train()
    y = pool(x).flatten()
    probabilities = torch.tensor([a * (1 - a) ** r for r in range(4)])
    probabilities /= probabilities.sum()
    for rank, p in enumerate(probabilities.tolist()):
        share = (y == 4 - rank).double().mean().item()
        assert abs(share - p) < 6 * (p * (1 - p) / windows) ** 0.5  # more in 2 of 10^9 runs
    torch.testing.assert_close(pool.eval()(x), create_pool("rank", channels=1, mode="weighted", a=a)(x))


def test_at_the_border_only_cells_of_the_map_are_drawn():
    x = (1 + torch.rand(64, 8, 5, 5)).requires_grad_()
    y = create_pool("rank", channels=8, mode="stochastic", kernel_size=3, padding=1, a=0.05).train()(x)
    assert (y >= 1).all()
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert set(slope.unique().tolist()) <= {0, 1, 2, 3, 4}  # a cell lies in up to four windows
    assert slope.sum() == y.numel()


def test_the_gradient_goes_to_the_drawn_cell():
    x = torch.rand(4, 3, 8, 8, requires_grad=True)
    y = create_pool("rank", channels=3, mode="stochastic").train()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y, torch.nn.functional.avg_pool2d(x * slope, 2, divisor_override=1))
    assert set(slope.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "max"}, "mode must be 'average', 'weighted' or 'stochastic', got 'max'"),
        ({"t": 5}, "t must be at most 4, the cells of a window, got 5"),
        ({"t": 0}, "t must be a whole number of at least 1, got 0"),
        ({"a": 1}, "a must be a number between 0 and 1, got 1"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("rank", channels=3, **options)
    assert "RankPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({}, 2 * 5 + 2),  # five pairs compared; an addition, a division
        ({"t": 4}, 4),  # an average needs no order
        ({"mode": "weighted"}, 2 * 5 + 4 + 3),
    ],
    ids=str,
)
def test_flops_are_those_of_the_formula(options, each):
    assert create_pool("rank", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * each
