import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool


@given(channels=st.integers(2, 5), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.random_module())
def test_half_is_convolved_and_half_is_a_maximum(channels, height, width, seed):
    pool = create_pool("max_conv", channels=channels).double().eval()
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    scale = (1 + pool.norm1.eps) ** -0.5  # of normalisations at their start
    rows, columns, half = height // 2, width // 2, channels // 2
    mixed = torch.einsum("nihw,oi->nohw", x[..., : 2 * rows, : 2 * columns], pool.conv1.weight[:, :, 0, 0]) * scale
    padded = F.pad(F.silu(mixed), (1, 1, 1, 1))
    y = torch.empty(2, channels, rows, columns, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            cells = padded[..., 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            y[:, :half, i, j] = torch.einsum("nihw,oihw->no", cells, pool.conv2.weight)
            largest = x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3))
            y[:, half:, i, j] = largest @ pool.conv3.weight[:, :, 0, 0].T
    torch.testing.assert_close(pool(x), F.silu(y * scale))


def test_every_convolution_has_a_normalisation_of_its_own():
    x, pool = torch.randn(4, 4, 8, 8), create_pool("max_conv", channels=4)
    norms = [nn.BatchNorm2d(2) for _ in range(3)]
    first = F.silu(norms[1](pool.conv2(F.silu(norms[0](pool.conv1(x))))))
    second = F.silu(norms[2](pool.conv3(F.max_pool2d(x, 2))))
    torch.testing.assert_close(pool(x), torch.cat([first, second], 1))


def test_both_branches_see_all_channels():
    x, pool = torch.rand(1, 4, 8, 8), create_pool("max_conv", channels=4).eval()
    for channel in range(4):
        other = x.clone()
        other[:, channel] += torch.rand(8, 8)
        assert ((pool(other) - pool(x)).abs().amax((0, 2, 3)) > 0).all()


def test_the_gradients_are_right():
    pool = create_pool("max_conv", channels=3).double()
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


def test_parameters_and_flops():
    pool = create_pool("max_conv", channels=5)  # 2 of the convolution, 3 of the maximum
    assert sum(p.numel() for p in pool.parameters()) == 5 * 2 + 9 * 2 * 2 + 5 * 3 + 2 * (2 + 2 + 3)
    # Four pixels of 2 channels, then 2 of 18 multiply-adds; 15 comparisons, 3 of 5 multiply-adds; 6 for each value.
    assert pool.flops((8, 6)) == 4 * 3 * (4 * 2 * (10 + 6) + 2 * (2 * 18 + 6) + 15 + 3 * (10 + 6))


def test_one_channel_has_no_halves():
    with pytest.raises(ValueError, match="channels must be at least 2, one for each branch, got 1"):
        create_pool("max_conv", channels=1)
