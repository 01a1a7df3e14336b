import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[3.0, 1.0], [4.0, 2.0]]]])


def _ordinal(cells, weights):
    """The definition, for one window, ``(N, C, cells) -> (N, C)``: the cells in falling order are a staircase over
    [0, 1], and so are the weights; the result is the integral of their product."""
    cells, (n, k) = cells.sort(-1, descending=True).values, (cells.shape[-1], weights.shape[-1])
    overlaps = [[max(0.0, min((q + 1) / n, (r + 1) / k) - max(q / n, r / k)) for r in range(k)] for q in range(n)]
    return (cells * (weights @ torch.tensor(overlaps, dtype=weights.dtype).T * k)).sum(-1)


@pytest.mark.parametrize("per", ["layer", "channel"])
@given(case=geometries_and_maps(), seed=st.integers(0, 99))
def test_it_is_the_weighted_sum_of_the_sorted_cells(per, case, seed):
    options, x = case
    pool = create_pool("ordinal", channels=x.shape[1], learnable=per, **options).double()
    torch.manual_seed(seed)
    with torch.no_grad():
        pool.weight.copy_(torch.randn_like(pool.weight))
    torch.testing.assert_close(pool(x), by_loop(x, lambda cells: _ordinal(cells, pool.weight), **options))
    x = (x + 1e-3 * torch.randn_like(x)).requires_grad_()  # of equal cells, which has the gradient is left open
    y, expected = pool(x), by_loop(x, lambda cells: _ordinal(cells, pool.weight), **options)
    weight = torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, (x, pool.weight), weight) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, 3.4),  # Kumar's start
        ([1.0, 0, 0, 0], 4),
        ([0.25, 0.25, 0.25, 0.25], 2.5),
        ([0.0, 0.5, 0.5, 0], 2.5),
        ([0.0, 0, 0, 1], 1),
        ([2.0, 0, 0, -1], 7),
    ],
)
def test_known_values(weights, expected):
    pool = create_pool("ordinal", channels=1)
    if weights is not None:
        pool.weight.data[:] = torch.tensor(weights)
    assert pool(ONE_TO_FOUR).item() == pytest.approx(expected)


@pytest.mark.parametrize(("init", "name"), [("max", "max"), ("average", "average")])
@pytest.mark.parametrize("constraint", [False, True])
@given(case=geometries_and_maps())
def test_it_starts_as_maximum_or_average_at_the_border_too(init, name, constraint, case):
    options, x = case
    y = create_pool("ordinal", channels=x.shape[1], init=init, constraint=constraint, **options).double()(x)
    torch.testing.assert_close(y, create_pool(name, channels=x.shape[1], **options)(x))


@given(maps(2, 2))
def test_the_median_is_one_of_its_cases(x):
    pool = create_pool("ordinal", channels=x.shape[1]).double()
    pool.weight.data[:] = torch.tensor([0, 0.5, 0.5, 0])
    torch.testing.assert_close(pool(x), create_pool("median", channels=x.shape[1])(x))


@pytest.mark.parametrize(("per", "rows"), [("layer", 1), ("channel", 5)])
def test_the_starts(per, rows):
    pool = create_pool("ordinal", channels=5, learnable=per)
    assert [tuple(one.shape) for one in pool.parameters()] == [(rows, 4)]
    torch.testing.assert_close(pool.weight.detach(), torch.tensor([[0.6, 0.25, 0.1, 0.05]]).expand(rows, 4))
    larger = create_pool("ordinal", channels=5, learnable=per, kernel_size=3).weight.detach()
    torch.testing.assert_close(larger.sum(1), torch.ones(rows))
    torch.testing.assert_close(larger[:, 1:] / larger[:, :-1], torch.full((rows, 8), 0.4))
    drawn = create_pool("ordinal", channels=5, learnable=per, init="random")
    before = drawn.weight.detach().clone()
    torch.testing.assert_close(before.sum(1), torch.ones(rows))
    drawn.reset_parameters()
    assert not torch.equal(drawn.weight, before)


def test_what_is_not_learnable_is_no_parameter_but_saved():
    pool = create_pool("ordinal", channels=5, learnable=False)
    assert list(pool.parameters()) == []
    assert "weight" in pool.state_dict()


def test_constrained_weights_stay_an_average_and_come_back_from_below_zero():
    pool = create_pool("ordinal", channels=2, constraint=True, init="max")
    with torch.no_grad():
        pool.weight[1] = torch.tensor([3.0, -1.0, 0.0, 0.0])
    torch.testing.assert_close(pool.weights, torch.tensor([[1.0, 0, 0, 0], [0.75, 0.25, 0, 0]]))
    pool(torch.randn(4, 2, 4, 4)).square().sum().backward()
    assert (pool.weight.grad[0, 1:] != 0).all()  # those at 0 learn
    assert pool.weight.grad[1, 1] != 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learnable": True}, "learnable must be false, 'layer' or 'channel', got True"),
        ({"constraint": "simplex"}, "constraint must be true or false, got 'simplex'"),
        ({"init": "ones"}, "init must be 'falling', 'average', 'max' or 'random', got 'ones'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("ordinal", channels=3, **options)
    assert "OrdinalPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    each = 2 * 5 + 4 + 3  # five pairs compared; products, additions
    assert create_pool("ordinal", channels=5).flops((8, 6)) == 5 * 4 * 3 * each
