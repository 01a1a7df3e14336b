import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from poolbench.pooling.space_to_depth import stack_cells
from tests.pooling.reference import by_loop, maps


def linear(pool):
    """Without normalisation (as at the start in evaluation, up to its epsilon) and activation."""
    pool.norm, pool.activation = torch.nn.Identity(), torch.nn.Identity()
    return pool.double()


@pytest.mark.parametrize("stride", [2, 3])
@given(x=maps(3, 3))
def test_it_is_a_linear_map_of_the_cells_of_each_window_then_relu(stride, x):
    pool = linear(create_pool("space_to_depth", channels=x.shape[1], stride=stride))
    weight = pool.conv.weight[:, :, 0, 0]

    def of_window(cells):  # row by row; the weights have them column by column
        columns = cells.unflatten(-1, (stride, stride)).permute(0, 3, 2, 1)  # (N, column, row, C)
        return columns.flatten(1) @ weight.T

    torch.testing.assert_close(pool(x), by_loop(x, of_window, stride, stride))


@given(maps(2, 2), st.sampled_from([2, 3]))
def test_stacking_loses_nothing(x, stride):
    if min(x.shape[-2:]) < stride:
        return
    pool = create_pool("space_to_depth", channels=x.shape[1], stride=stride)
    cells = stack_cells(x, pool)
    height, width = cells.shape[-2:]
    kept = x[..., : height * stride, : width * stride]
    assert torch.equal(cells.flatten().sort().values, kept.flatten().sort().values)
    # The usual operation of torch orders the same numbers by channel, then row by row.
    by_channel = cells.unflatten(1, (stride, stride, x.shape[1])).permute(0, 3, 2, 1, 4, 5).flatten(1, 3)
    assert torch.equal(by_channel, F.pixel_unshuffle(kept, stride))


def test_the_order_of_the_cells_is_that_of_the_paper():
    x = torch.tensor([[[[0.0, 1.0], [10.0, 11.0]]]])
    assert stack_cells(x, create_pool("space_to_depth", channels=1)).flatten().tolist() == [0, 10, 1, 11]


def test_as_in_the_papers_code_the_normalisation_may_come_first():
    x = torch.randn(2, 3, 6, 6)
    pool = create_pool("space_to_depth", channels=3, order="norm_first")
    expected = pool.conv(pool.norm(stack_cells(x, pool)).relu())
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize(("order", "norm"), [("conv_first", 2 * 5), ("norm_first", 2 * 20 + 5)])
def test_parameters_and_flops_are_those_of_the_convolution_and_what_is_beside_it(order, norm):
    pool = create_pool("space_to_depth", channels=5, order=order)
    assert sum(p.numel() for p in pool.parameters()) == 4 * 5 * 5 + norm
    beside = 3 if order == "conv_first" else 3 * 4 + 1
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (2 * 4 * 5 + beside)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order must be 'conv_first' or 'norm_first', got 'bn'"):
        create_pool("space_to_depth", channels=3, order="bn")
