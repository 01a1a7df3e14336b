import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64).view(1, 1, 2, 2)
WINDOWS = 200_000


def _expected(cells):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``."""
    cells = cells.clamp(min=0)
    total = cells.sum(-1)
    return torch.where(total > 0, (cells**2).sum(-1) / torch.where(total > 0, total, 1), 0)


@given(case=geometries_and_maps())
def test_evaluation_gives_the_expected_value_of_the_cells_inside_the_map(case):
    options, x = case
    x.requires_grad_()
    y = create_pool("stochastic", channels=x.shape[1], **options).eval()(x)
    expected = by_loop(x, _expected, **options)
    torch.testing.assert_close(y, expected)
    # A cell of 0 lies on a kink, from which the pool, like a ReLU, sees the side without gradient.
    weight = torch.randn_like(y)
    slope, known = (torch.autograd.grad(one, x, weight)[0] for one in (y, expected))
    torch.testing.assert_close(slope, known * (x > 0))


def test_the_known_value_and_gradient_of_one_to_four():
    x = ONE_TO_FOUR.clone().requires_grad_()
    y = create_pool("stochastic", channels=1).eval()(x)
    assert y.item() == pytest.approx(3)
    y.backward()
    # (2 x - y) / 10: to raise a cell below half of the result takes weight from the larger ones.
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([-0.1, 0.1, 0.3, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"evaluation": "draw"}], ids=str)
def test_cells_are_drawn_as_often_as_they_are_strong(options):
    x = ONE_TO_FOUR.float().repeat(1, 1, 1, WINDOWS)
    y = create_pool("stochastic", channels=1, **options).train(not options)(x).flatten()
    for value in (1, 2, 3, 4):
        p = value / 10
        share = (y == value).double().mean().item()
        assert abs(share - p) < 6 * (p * (1 - p) / WINDOWS) ** 0.5  # more in 2 of 10^9 runs


def test_every_window_image_and_channel_draws_for_itself():
    x = ONE_TO_FOUR.float().expand(200, 5, 2, 2).repeat(1, 1, 1, 20)
    y = create_pool("stochastic", channels=5).train()(x)
    for axis in (0, 1, 3):
        first, second = y.narrow(axis, 0, y.shape[axis] - 1), y.narrow(axis, 1, y.shape[axis] - 1)
        # Two independent draws are equal with probability 0.3.
        assert abs((first == second).double().mean().item() - 0.3) < 6 * (0.3 * 0.7 / first.numel()) ** 0.5 * 2


@given(case=geometries_and_maps())
def test_training_draws_an_active_cell_of_each_window_that_has_one_and_gives_it_the_gradient(case):
    options, x = case
    x.requires_grad_()
    y = create_pool("stochastic", channels=x.shape[1], **options).train()(x)
    assert by_loop(x, lambda cells: cells.clamp(min=0).amax(-1) > 0, **options).equal(y > 0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.sum() == (y > 0).sum()
    torch.testing.assert_close((slope * x).sum(), y.sum())
    assert (slope[x <= 0] == 0).all()


@given(maps(2, 2))
def test_what_is_negative_counts_as_zero(x):
    for mode in (True, False):
        for evaluation in ("weighted", "max"):
            pool = create_pool("stochastic", channels=x.shape[1], evaluation=evaluation).train(mode)
            results = []
            for one in (x, x.relu()):
                torch.manual_seed(0)
                results.append(pool(one))
            assert torch.equal(*results)


@given(maps(2, 2))
def test_average_weighted_and_maximum_rise_in_this_order(x):
    x = x.relu()
    average = create_pool("average", channels=x.shape[1])(x)
    weighted, largest = (
        create_pool("stochastic", channels=x.shape[1], evaluation=one).eval()(x) for one in ("weighted", "max")
    )
    assert (weighted >= average - 1e-12).all()
    assert (weighted <= largest + 1e-12).all()
    assert torch.equal(largest, create_pool("max", channels=x.shape[1])(x))


def test_the_same_seed_draws_the_same_in_both_memory_formats():
    x, pool = torch.rand(4, 3, 8, 8), create_pool("stochastic", channels=3).train()
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        pool.generator = torch.Generator().manual_seed(3)
        results.append(pool(x.contiguous(memory_format=memory_format)))
    assert torch.equal(*results)


def test_a_window_of_zeros_gives_zero_and_no_gradient():
    for training in (True, False):
        x = torch.zeros(1, 2, 4, 4, requires_grad=True)
        y = create_pool("stochastic", channels=2).train(training)(x)
        y.sum().backward()
        assert not y.any()
        assert not x.grad.any()


def test_errors_name_the_option():
    words = "StochasticPool2d: evaluation must be 'weighted', 'draw' or 'max', got 'mean'"
    with pytest.raises(ValueError, match=words):
        create_pool("stochastic", channels=3, evaluation="mean")


def test_flops_are_those_of_the_formula():
    # Comparisons with 0, squares, two sums, a division.
    assert create_pool("stochastic", channels=5).flops((8, 6)) == 5 * 4 * 3 * (4 + 4 + 3 + 3 + 1)
    assert create_pool("stochastic", channels=5, evaluation="max").flops((8, 6)) == 5 * 4 * 3 * 4
