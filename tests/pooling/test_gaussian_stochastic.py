import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps


def made(channels, **options):
    """A pool whose normalisations have something to do."""
    pool = create_pool("gaussian_stochastic", channels=channels, **options).double()
    for norm in (m for m in pool.modules() if isinstance(m, nn.BatchNorm1d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return pool


@given(case=geometries_and_maps())
def test_evaluation_adds_a_multiple_of_the_deviation_to_the_mean(case):
    options, x = case
    x.requires_grad_()
    pool = made(x.shape[1], **options).eval()
    level, _ = pool.guide(x)
    share = (1 + level[:, :, 0, 0].exp()).log()

    def of_window(cells):
        variance = (cells**2).mean(-1) - cells.mean(-1) ** 2  # as the author's code has it
        return cells.mean(-1) + share * variance.clamp(min=1e-6).sqrt()

    y, expected = pool(x), by_loop(x, of_window, **options)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    for one in (x, *pool.guide.parameters()):
        slope, known = (
            torch.autograd.grad(z, one, weight, retain_graph=True, allow_unused=True)[0] for z in (y, expected)
        )
        if known is None:
            assert slope is None
        else:
            torch.testing.assert_close(slope, known, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("draw", "shape"), [("channel", (5, 1, 1, 4)), ("window", (5, 4, 3, 4))])
def test_training_draws_the_multiple(draw, shape):
    x, pool = torch.randn(5, 4, 8, 6, dtype=torch.float64), made(4, draw=draw).train()
    torch.manual_seed(3)
    y = pool(x)
    torch.manual_seed(3)
    noise = torch.randn(shape, dtype=torch.float64).movedim(-1, 1)
    level, spread = pool.guide(x)
    mean = F.avg_pool2d(x, 2)
    deviation = (F.avg_pool2d(x**2, 2) - mean**2).clamp(min=1e-6).sqrt()
    torch.testing.assert_close(y, mean + F.softplus(level + spread.sigmoid() * noise) * deviation)


@pytest.mark.parametrize("draw", ["channel", "window"])
def test_the_numbers_are_normal_and_one_for_each_that_draws(draw):
    pool = create_pool("gaussian_stochastic", channels=40, draw=draw)
    noise = pool._drawn(torch.randn(200, 40, 8, 8))
    assert noise.shape[2:] == ((1, 1) if draw == "channel" else (4, 4))
    assert abs(noise.mean().item()) < 6 / noise.numel() ** 0.5
    assert abs(noise.var().item() - 1) < 6 * (2 / noise.numel()) ** 0.5
    assert noise.flatten().unique().numel() > 0.99 * noise.numel()


def test_of_two_values_the_mean_and_the_deviation_are_the_maximum():
    x, pool = torch.randn(2, 1, 1, 8, dtype=torch.float64).repeat(1, 1, 2, 1), made(1).eval()
    (norm, _) = pool.guide.norms
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(torch.tensor(1.0).expm1().log())  # softplus of it is 1
    torch.testing.assert_close(pool(x), F.max_pool2d(x, 2))
    with torch.no_grad():
        norm.bias.fill_(-100)
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 2))


def test_a_single_image_trains():
    x, pool = torch.randn(1, 4, 8, 8, dtype=torch.float64, requires_grad=True), made(4).train()
    pool(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("options", [{}, {"draw": "window", "kernel_size": 3, "padding": 1}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_the_gradients_are_right(options, training):
    pool = made(2, **options).train(training)
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64, requires_grad=True)

    def drawn_alike(x):
        pool.generator = torch.Generator().manual_seed(1)
        return pool(x)

    assert torch.autograd.gradcheck(drawn_alike, x)


@pytest.mark.parametrize("roughness", [0, 1e-4])  # below the least deviation
def test_a_flat_window_has_no_gradient_by_its_deviation(roughness):
    x = (3 + roughness * torch.randn(1, 2, 4, 4, dtype=torch.float64)).requires_grad_()
    pool = made(2).eval()
    with torch.no_grad():
        for norm in pool.guide.norms:
            norm.weight.zero_()  # the map moves no multiple
    y = pool(x)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], torch.full_like(x, 0.25))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draw": "image"}, "draw must be 'channel' or 'window', got 'image'"),
        ({"hidden": 0}, "hidden must be null or a whole number of at least 1, got 0"),
        ({"eps": 0.0}, "eps must be a number above 0, got 0.0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("gaussian_stochastic", channels=3, **options)
    assert "GaussianStochasticPool2d" in str(caught.value)


@pytest.mark.parametrize(("channels", "hidden"), [(6, 3), (1, 1)])
def test_parameters_and_flops(channels, hidden):
    pool = create_pool("gaussian_stochastic", channels=channels)
    assert sum(p.numel() for p in pool.parameters()) == 3 * channels * hidden + 2 * hidden + 4 * channels
    means, layers = channels * 8 * 6, hidden * (2 * channels + 3) + 2 * channels * (2 * hidden + 2)
    assert pool.flops((8, 6)) == channels * (4 * 3 * 20 + 3) + means + layers
