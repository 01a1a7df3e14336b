import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool


def _place(i, side, padding_mode):
    """Where outside pixel ``i`` is filled from."""
    if padding_mode == "replicate":
        return min(max(i, 0), side - 1)
    i = abs(i)
    return i if i < side else 2 * (side - 1) - i


def _blur(x, sigmas, kernel_size, stride, padding_mode):
    """The definition, pixel by pixel; one ``sigma`` for each channel."""
    start, (height, width) = (kernel_size - 1) // 2, x.shape[2:]
    offsets = torch.arange(kernel_size, dtype=x.dtype) - (kernel_size - 1) / 2
    powers = (-(offsets**2 - offsets.abs().min() ** 2) / (2 * sigmas[:, None] ** 2)).exp()
    taps = powers / powers.sum(1, keepdim=True)
    rows = []
    for i in range(height // stride):
        row = []
        for j in range(width // stride):
            y = 0
            for p in range(kernel_size):
                for q in range(kernel_size):
                    r = _place(i * stride - start + p, height, padding_mode)
                    c = _place(j * stride - start + q, width, padding_mode)
                    y = y + taps[:, p] * taps[:, q] * x[..., r, c]
            row.append(y)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


@pytest.mark.parametrize("learnable", [False, "layer", "channel"])
@given(
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 3),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    sigma=st.floats(0.2, 3),
    padding_mode=st.sampled_from(["reflect", "replicate"]),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.random_module(),
)
def test_it_is_a_blur_by_normalised_taps(
    learnable, kernel_size, stride, height, width, sigma, padding_mode, memory_format, seed
):
    x = torch.randn(2, 3, height, width, dtype=torch.float64).to(memory_format=memory_format)
    options = {"kernel_size": kernel_size, "stride": stride, "padding_mode": padding_mode}
    pool = create_pool("gaussian", channels=3, sigma=sigma, learnable=learnable, **options).double()
    if learnable:
        with torch.no_grad():
            pool.rho.add_(torch.rand_like(pool.rho))
    sigmas = pool.sigma if learnable else torch.tensor([sigma], dtype=torch.float64)
    expected, y = _blur(x, sigmas.expand(3), **options), pool(x)
    torch.testing.assert_close(y, expected)
    if learnable:
        along = torch.randn_like(y)
        (slope,), (known,) = (torch.autograd.grad(one, pool.rho, along, retain_graph=True) for one in (y, expected))
        torch.testing.assert_close(slope, known)


@pytest.mark.parametrize(("kernel_size", "expected"), [(3, "subsample"), (4, "average")])
def test_a_small_sigma_gives_subsampling_or_the_average_of_the_middle(kernel_size, expected):
    x = torch.randn(2, 3, 9, 8)
    y = create_pool("gaussian", channels=3, kernel_size=kernel_size, sigma=0.01)(x)
    torch.testing.assert_close(y, create_pool(expected, channels=3)(x))


@pytest.mark.parametrize(("kernel_size", "padding"), [(3, 1), (4, 1), (5, 2)])
def test_a_large_sigma_gives_the_average_of_the_window(kernel_size, padding):
    x = torch.randn(2, 3, 16, 16)
    y = create_pool("gaussian", channels=3, kernel_size=kernel_size, sigma=1e4)(x)
    average = F.avg_pool2d(x, kernel_size, 2, padding)
    torch.testing.assert_close(y[..., 1:-1, 1:-1], average[..., 1:8, 1:8][..., : y.shape[2] - 2, : y.shape[3] - 2])


def test_the_width_that_gives_the_ratio_of_a_triangle():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3, 3] = 1
    y = create_pool("gaussian", channels=1, sigma=1 / math.sqrt(math.log(3)))(x)
    taps = torch.tensor([0.375, 0.125])  # the pixel lies beside two outputs
    torch.testing.assert_close(y[0, 0, 1:3, 1:3], taps[:, None] * taps)


@pytest.mark.parametrize("side", [2, 3])
def test_a_map_too_small_to_reflect_repeats_its_rim(side):
    x = torch.randn(1, 2, side, 8)
    wide = create_pool("gaussian", channels=2, kernel_size=9)
    narrow = create_pool("gaussian", channels=2, kernel_size=9, padding_mode="replicate")
    torch.testing.assert_close(wide(x), narrow(x))
    large = torch.randn(1, 2, 16, 16)
    assert not torch.allclose(wide(large), narrow(large))


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("channel", 5)])
def test_a_learned_sigma_starts_as_the_fixed_one_and_stays_above_zero(per, count):
    pool = create_pool("gaussian", channels=5, sigma=0.7, learnable=per)
    assert [tuple(parameter.shape) for parameter in pool.parameters()] == [(count,)]
    x = torch.randn(2, 5, 8, 8)
    torch.testing.assert_close(pool(x), create_pool("gaussian", channels=5, sigma=0.7)(x))
    with torch.no_grad():
        pool.rho.fill_(-1e3)
    assert (pool.sigma >= 1e-3).all()
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 2))
    pool.reset_parameters()
    torch.testing.assert_close(pool.sigma.detach(), torch.full((count,), 0.7))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0}, "sigma must be a number of at least 0.001, got 0"),
        ({"sigma": 0.001, "learnable": "layer"}, "sigma must be a number above 0.001, got 0.001"),
        ({"learnable": True}, "learnable must be false, 'layer' or 'channel', got True"),
        ({"padding_mode": "zeros"}, "padding_mode must be 'reflect' or 'replicate', got 'zeros'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("gaussian", channels=3, **options)
    assert "GaussianPool2d" in str(caught.value)


def test_flops_are_a_multiply_add_for_each_pixel_under_the_filter():
    assert create_pool("gaussian", channels=5).flops((8, 6)) == 5 * 4 * 3 * 2 * 16
