import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from poolbench import create_pool

PLAIN = {"norm": False, "activation": False}


@given(st.integers(1, 6), st.integers(1, 4), st.integers(4, 13), st.integers(4, 13), st.random_module())
def test_without_norm_and_activation_it_is_a_convolution_cropped_to_size(kernel_size, stride, height, width, seed):
    pool = create_pool("strided_conv", channels=3, kernel_size=kernel_size, stride=stride, **PLAIN).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    before, after = (kernel_size - 1) // 2, kernel_size // 2  # an even filter has no middle
    x_padded = F.pad(x, (before, after, before, after))
    y = F.conv2d(x_padded, pool.conv.weight, pool.conv.bias, stride)
    torch.testing.assert_close(pool(x), y[..., : height // stride, : width // stride])


def test_it_normalises_and_rectifies_by_default():
    pool, x = create_pool("strided_conv", channels=3).eval(), torch.randn(2, 3, 9, 8)
    pool.norm.running_mean.normal_()
    pool.norm.running_var.uniform_(0.5, 2)
    expected = F.conv2d(x, pool.conv.weight, None, 2, 1)[..., :4, :4]
    expected = F.batch_norm(expected, pool.norm.running_mean, pool.norm.running_var)
    torch.testing.assert_close(pool(x), expected.relu())


def test_statistics_are_those_of_the_cropped_map():
    """A last row that no other pool would see must not count in the normalisation either."""
    pool, x = create_pool("strided_conv", channels=2), torch.randn(4, 2, 7, 7)
    pool(x)
    seen = F.conv2d(x, pool.conv.weight, None, 2, 1)[..., :3, :3]
    torch.testing.assert_close(pool.norm.running_mean, 0.1 * seen.mean((0, 2, 3)))


def test_a_centred_delta_subsamples_and_equal_weights_average():
    x = torch.randn(2, 3, 8, 8)
    pool = create_pool("strided_conv", channels=3, **PLAIN)
    with torch.no_grad():
        pool.conv.bias.zero_()
        pool.conv.weight.zero_()
        pool.conv.weight[range(3), range(3), 1, 1] = 1
    torch.testing.assert_close(pool(x), x[..., ::2, ::2])
    with torch.no_grad():
        pool.conv.weight[range(3), range(3)] = 1 / 9
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 3, 2, padding=1))


@pytest.mark.parametrize("channels", [1, 16, 96])
@pytest.mark.parametrize(
    ("options", "per_channel"),
    [({}, 2), ({"norm": False}, 1), ({"activation": False}, 2), ({"norm": False, "activation": False}, 1)],
    ids=str,
)
def test_parameters(channels, options, per_channel):
    """Filters, and a scale and a shift of the normalisation or else a bias."""
    pool = create_pool("strided_conv", channels=channels, **options)
    assert sum(p.numel() for p in pool.parameters()) == 9 * channels**2 + per_channel * channels


def test_flops_are_those_of_the_convolution_and_what_follows():
    pool = create_pool("strided_conv", channels=6, **PLAIN)
    with FlopCounterMode(display=False) as counter:
        pool(torch.zeros(1, 6, 8, 12))
    outputs = 6 * 4 * 6
    assert pool.flops((8, 12)) == counter.get_total_flops() + outputs  # counters leave out the bias
    convolution = outputs * 2 * 9 * 6
    assert pool.flops((8, 12)) == convolution + outputs
    assert create_pool("strided_conv", channels=6).flops((8, 12)) == convolution + outputs * 3
    assert create_pool("strided_conv", channels=6, norm=False).flops((9, 13)) == convolution + outputs * 2


@pytest.mark.parametrize("options", [{"norm": "none"}, {"activation": "relu"}, {"norm": None}], ids=str)
def test_norm_and_activation_are_switches(options):
    (option,) = options
    with pytest.raises(ValueError, match=f"StridedConv2d: {option} must be true or false"):
        create_pool("strided_conv", channels=3, **options)
