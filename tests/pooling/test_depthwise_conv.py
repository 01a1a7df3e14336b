import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import maps


@given(x=maps(2, 2), kernel_size=st.sampled_from([1, 3]), activation=st.booleans())
def test_channels_are_mixed_at_every_pixel_then_each_is_filtered(x, kernel_size, activation):
    channels, height, width = x.shape[1], x.shape[2] // 2, x.shape[3] // 2
    pool = create_pool("depthwise_conv", channels=channels, kernel_size=kernel_size, activation=activation)
    pool.double().eval()
    scale = (1 + pool.norm1.eps) ** -0.5  # of normalisations at their start
    mixed = torch.einsum("nihw,oi->nohw", x[..., : 2 * height, : 2 * width], pool.conv1.weight[:, :, 0, 0]) * scale
    mixed = F.pad(mixed * mixed.sigmoid() if activation else mixed, (kernel_size // 2,) * 4)
    y = torch.empty(x.shape[0], channels, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            cells = mixed[..., 2 * i : 2 * i + kernel_size, 2 * j : 2 * j + kernel_size]
            y[..., i, j] = (cells * pool.conv2.weight[:, 0]).sum((2, 3))
    torch.testing.assert_close(pool(x), y * scale)


def test_both_convolutions_are_followed_by_a_normalisation_of_their_own():
    x, pool = torch.randn(4, 3, 8, 8), create_pool("depthwise_conv", channels=3)
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    torch.testing.assert_close(pool(x), second(pool.conv2(F.silu(first(pool.conv1(x))))))
    torch.testing.assert_close(pool.norm1.running_mean, first.running_mean)
    torch.testing.assert_close(pool.norm2.running_var, second.running_var)


def test_a_row_that_is_left_out_does_not_count_in_the_normalisation():
    x, pool, other = torch.randn(4, 3, 7, 9), *(create_pool("depthwise_conv", channels=3) for _ in range(2))
    other.load_state_dict(pool.state_dict())
    torch.testing.assert_close(pool(x), other(x[..., :6, :8]))
    torch.testing.assert_close(pool.norm1.running_mean, other.norm1.running_mean)


def test_the_gradients_are_right():
    pool = create_pool("depthwise_conv", channels=2).double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd, so that it has a middle, got 4"),
        ({"activation": "relu"}, "activation must be true or false, got 'relu'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("depthwise_conv", channels=3, **options)
    assert "DepthwiseConv2d" in str(caught.value)


@pytest.mark.parametrize(("activation", "beside"), [(True, 6), (False, 2)])
def test_parameters_and_flops(activation, beside):
    pool = create_pool("depthwise_conv", channels=5, activation=activation)
    assert sum(p.numel() for p in pool.parameters()) == 5 * 5 + 9 * 5 + 4 * 5
    # Four pixels a value, each of 5 multiply-adds; 9 taps and a normalisation.
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (4 * (2 * 5 + beside) + 2 * 9 + 2)
