import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps

X = torch.randn(3, 4, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(channels, **options):
    """A pool whose normalisations have something to do."""
    pool = create_pool("global_guided", channels=channels, **options).double()
    for norm in (m for m in pool.modules() if isinstance(m, nn.BatchNorm1d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return pool


@given(case=geometries_and_maps(), activation=st.sampled_from(["sigmoid", "softplus"]))
def test_each_channel_of_an_image_has_its_own_softmax(case, activation):
    options, x = case
    x.requires_grad_()
    pool = made(x.shape[1], activation=activation, **options).eval()
    (level,) = pool.guide(x)
    factor = (1 / (1 + (-level).exp()) if activation == "sigmoid" else (1 + level.exp()).log())[:, :, 0]
    y = pool(x)
    expected = by_loop(x, lambda cells: ((cells * factor).softmax(-1) * cells).sum(-1), **options)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    for one in (x, *pool.parameters()):
        slope, known = (torch.autograd.grad(z, one, weight, retain_graph=True)[0] for z in (y, expected))
        torch.testing.assert_close(slope, known, atol=1e-6, rtol=1e-5)


def fixed(level, activation):
    """A pool whose factor is the activation of ``level``, whatever the map."""
    pool = made(4, activation=activation).eval()
    with torch.no_grad():
        pool.guide.norms[0].weight.zero_()
        pool.guide.norms[0].bias.fill_(level)
    return pool


def test_it_reaches_from_the_average_over_soft_to_the_maximum():
    torch.testing.assert_close(fixed(-100.0, "sigmoid")(X), F.avg_pool2d(X, 2))
    torch.testing.assert_close(fixed(100.0, "sigmoid")(X), create_pool("soft", channels=4)(X))
    torch.testing.assert_close(fixed(1e9, "softplus")(X), F.max_pool2d(X, 2))


def test_factors_are_read_off_all_channels_of_the_image():
    pool, other = made(4).eval(), X.clone()
    other[0, 1] += 5  # moves the mean of one channel of one image
    moved = (pool(other) - pool(X)).abs().amax((2, 3)) > 1e-9
    assert moved[0].all()
    assert not moved[1:].any()


@pytest.mark.parametrize("training", [True, False])
def test_the_gradients_are_right(training):
    pool = made(2, kernel_size=3, padding=1).train(training)
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


def test_a_single_image_trains():
    x, pool = X[:1].clone().requires_grad_(), made(4).train()
    pool(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "relu"}, "activation must be 'sigmoid' or 'softplus', got 'relu'"),
        ({"hidden": 0}, "hidden must be null or a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("global_guided", channels=3, **options)
    assert "GlobalGuidedPool2d" in str(caught.value)


@pytest.mark.parametrize(("channels", "hidden"), [(6, 3), (1, 1)])
def test_parameters_and_flops(channels, hidden):
    pool = create_pool("global_guided", channels=channels)
    assert sum(p.numel() for p in pool.parameters()) == 2 * channels * hidden + 2 * hidden + 2 * channels
    means, layers = channels * 8 * 6, hidden * (2 * channels + 3) + channels * (2 * hidden + 2)
    assert pool.flops((8, 6)) == channels * (4 * 3 * 26 + 3) + means + layers
