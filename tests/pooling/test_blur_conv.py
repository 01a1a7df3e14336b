import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool
from tests.pooling.blurring import blurred
from tests.pooling.reference import maps


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", [False, True])
@given(x=maps(3, 3), stride=st.integers(1, 3), filter_size=st.integers(1, 7), kernel_size=st.sampled_from([1, 3, 5]))
def test_it_convolves_every_pixel_then_blurs(norm, activation, x, stride, filter_size, kernel_size):
    options = {"stride": stride, "filter_size": filter_size, "kernel_size": kernel_size}
    pool = create_pool("blur_conv", channels=x.shape[1], norm=norm, activation=activation, **options).double().eval()
    height, width = x.shape[2] // stride, x.shape[3] // stride
    around = kernel_size // 2
    padded = F.pad(x[..., : height * stride, : width * stride], (around,) * 4)
    windows = padded.unfold(2, kernel_size, 1).unfold(3, kernel_size, 1)
    y = torch.einsum("nihwjk,oijk->nohw", windows, pool.conv.weight)
    y = y / (1 + pool.norm.eps) ** 0.5 if norm else y + pool.conv.bias[:, None, None]
    y = y.relu() if activation else y
    torch.testing.assert_close(pool(x), blurred(y, filter_size, stride, (height, width), "reflect"))


@pytest.mark.parametrize("border", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("filter_size", range(1, 8))
def test_it_gives_what_the_authors_package_gives(filter_size, border):
    package = pytest.importorskip("antialiased_cnns")
    x, pool = torch.randn(4, 3, 12, 10), create_pool("blur_conv", channels=3, filter_size=filter_size, border=border)
    blur = package.BlurPool(3, filt_size=filter_size, pad_type=border)
    y = pool(x)  # in training, so that the normalisation does something
    torch.testing.assert_close(y, nn.Sequential(pool.conv, pool.norm, nn.ReLU(), blur)(x))


@pytest.mark.parametrize("filter_size", [3, 5, 7])  # at even sizes it starts a pixel earlier
def test_it_gives_what_timm_gives(filter_size):
    timm = pytest.importorskip("timm")
    x, pool = torch.randn(4, 3, 12, 10), create_pool("blur_conv", channels=3, filter_size=filter_size)
    blur = timm.layers.BlurPool2d(3, filt_size=filter_size)
    torch.testing.assert_close(pool(x), nn.Sequential(pool.conv, pool.norm, nn.ReLU(), blur)(x))


@pytest.mark.parametrize("norm", [False, True])
@given(x=maps(3, 3), stride=st.integers(1, 3), filter_size=st.integers(1, 7), kernel_size=st.sampled_from([1, 3, 5]))
def test_in_the_other_order_a_strided_convolution_sees_the_blurred_map(norm, x, stride, filter_size, kernel_size):
    options = {"stride": stride, "filter_size": filter_size, "kernel_size": kernel_size, "order": "before"}
    pool = create_pool("blur_conv", channels=x.shape[1], norm=norm, **options).double().eval()
    height, width = x.shape[2] // stride, x.shape[3] // stride
    size = (height * stride, width * stride)
    still = blurred(x[..., : size[0], : size[1]], filter_size, 1, size, "reflect")
    windows = F.pad(still, (kernel_size // 2,) * 4).unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)
    y = torch.einsum("nihwjk,oijk->nohw", windows, pool.conv.weight)
    y = y / (1 + pool.norm.eps) ** 0.5 if norm else y + pool.conv.bias[:, None, None]
    torch.testing.assert_close(pool(x), y.relu())


def test_in_the_other_order_it_gives_what_composers_formula_gives():
    x, pool = (
        torch.randn(4, 3, 12, 10),
        create_pool("blur_conv", channels=3, filter_size=3, border="zero", order="before"),
    )
    taps = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    still = F.conv2d(x, taps.expand(3, 1, 3, 3), padding=1, groups=3)
    y = F.conv2d(still, pool.conv.weight, stride=2, padding=1)
    torch.testing.assert_close(pool(x), nn.BatchNorm2d(3)(y).relu())


def test_both_orders_have_the_same_weights_and_draws():
    states = []
    for order in ("after", "before"):
        torch.manual_seed(0)
        states.append(create_pool("blur_conv", channels=3, order=order).state_dict())
    assert (
        states[0].keys()
        == states[1].keys()
        == {"conv.weight", *(f"norm.{name}" for name in nn.BatchNorm2d(3).state_dict())}
    )
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("order", ["after", "before"])
def test_the_gradients_are_right(order):
    pool = create_pool("blur_conv", channels=2, order=order, norm=False, activation=False).double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


@pytest.mark.parametrize("order", ["after", "before"])
@given(x=maps(2, 2), norm=st.booleans(), activation=st.booleans())
def test_one_tap_is_a_strided_convolution(order, x, norm, activation):
    channels = x.shape[1]
    options = {"norm": norm, "activation": activation}
    pool = create_pool("blur_conv", channels=channels, filter_size=1, order=order, **options)
    strided = create_pool("strided_conv", channels=channels, **options)
    strided.load_state_dict(pool.state_dict())
    torch.testing.assert_close(pool.double().eval()(x), strided.double().eval()(x))


def test_before_the_relu_the_blur_would_only_blur_the_input():
    x = torch.zeros(1, 2, 24, 24)
    x[..., 8:16, 8:16] = torch.randn(1, 2, 8, 8)  # far from the border
    pool = create_pool("blur_conv", channels=2, norm=False, activation=False, filter_size=3)
    still = create_pool("blur_average", channels=2, filter_size=3, stride=1)
    torch.testing.assert_close(pool(x), pool.conv(still(x))[..., ::2, ::2])
    pool.activation = nn.ReLU()
    assert not torch.allclose(pool(x), pool.conv(still(x)).relu()[..., ::2, ::2], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd, so that the map keeps its size, got 4"),
        ({"filter_size": 8}, "filter_size must be a whole number from 1 to 7, or two of them .*, got 8"),
        ({"border": "circular"}, "border must be 'reflect', 'replicate' or 'zero', got 'circular'"),
        ({"norm": 1}, "norm must be true or false, got 1"),
        ({"activation": "relu"}, "activation must be true or false, got 'relu'"),
        ({"order": "first"}, "order must be 'after' or 'before', got 'first'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("blur_conv", channels=3, **options)
    assert "BlurConv2d" in str(caught.value)


@pytest.mark.parametrize(("norm", "activation", "beside"), [(True, True, 3), (False, True, 2), (False, False, 1)])
def test_parameters_and_flops_are_those_of_a_convolution_of_every_pixel(norm, activation, beside):
    pool = create_pool("blur_conv", channels=5, norm=norm, activation=activation)
    assert sum(p.numel() for p in pool.parameters()) == 9 * 5 * 5 + (2 * 5 if norm else 5)
    # Four pixels a value, each of 9 * 5 multiply-adds; 4 taps along three rows' worth of values.
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (4 * (2 * 9 * 5 + beside) + 2 * 4 * 3)


def test_blurring_before_costs_a_quarter_of_the_convolution():
    pool = create_pool("blur_conv", channels=5, order="before")
    # 9 * 5 multiply-adds, a normalisation and a comparison; 4 taps along rows and columns of four pixels.
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (2 * 9 * 5 + 3 + 4 * 2 * 2 * 4)
