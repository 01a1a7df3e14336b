from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench.pooling.parts import filters
from tests.pooling.blurring import blurred
from tests.pooling.reference import maps


@pytest.mark.parametrize("largest", [0, 64], ids=["convolution", "matrices"])
@pytest.mark.parametrize("border", filters.BORDERS)
@given(x=maps(), filter_size=st.integers(1, 7), stride=st.integers(1, 4))
def test_both_ways_give_the_filter_of_the_definition(largest, border, x, filter_size, stride):
    output = tuple(max(1, side // stride) for side in x.shape[2:])
    with mock.patch.object(filters, "LARGEST_FILTER_MATRIX", largest):
        y = filters.filtered(x, filters.binomial(filter_size), stride, (filter_size - 1) // 2, output, border)
    torch.testing.assert_close(y, blurred(x, filter_size, stride, output, border))


@pytest.mark.parametrize("side", [16, 70], ids=["matrices", "convolution"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_keep_the_memory_format(side, memory_format):
    x = torch.randn(2, 3, side, side + 1).to(memory_format=memory_format).requires_grad_()
    y = filters.filtered(x, filters.binomial(4), 2, 1, (side // 2, side // 2), "reflect")
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.is_contiguous(memory_format=memory_format)
    assert gradient.is_contiguous(memory_format=memory_format)


@given(maps(), st.integers(1, 5), st.integers(1, 5))
def test_rows_and_columns_are_matrix_products_and_so_are_all_gradients(x, height, width):
    rows, columns = (
        torch.randn(n, side, dtype=torch.float64, requires_grad=True)
        for n, side in zip((height, width), x.shape[2:], strict=True)
    )
    x.requires_grad_()
    y, expected = filters.separable(x, rows, columns), torch.einsum("ih,nchw,jw->ncij", rows, x, columns)
    torch.testing.assert_close(y, expected)
    along = torch.randn_like(expected)
    found, known = (torch.autograd.grad(one, (x, rows, columns), along) for one in (y, expected))
    torch.testing.assert_close(found, known)
