import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from poolbench import create_pool
from poolbench.pooling.lip import softmax_average
from tests.pooling.reference import by_loop, geometries_and_maps

LEARNED = ["projection", "bottleneck", "conv1x1"]


def _lip(cells):
    """The definition, for one window of pairs of map and logits, ``(N, C, 2, cells) -> (N, C)``."""
    x, logits = cells.unbind(2)
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    return (weights * x).sum(-1) / weights.sum(-1)


def _by_loop(x, logits, **options):
    return by_loop(
        torch.stack([x, logits.expand_as(x)], 2).flatten(1, 2), lambda c: _lip(c.unflatten(1, (-1, 2))), **options
    )


def _trained(logits, channels, **options):
    pool = create_pool("lip", channels=channels, logits=logits, width=3, **options).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.add_(torch.randn_like(parameter))
    return pool


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("gate", [None, 3.0])
@given(case=geometries_and_maps())
def test_the_weights_are_the_softmax_of_the_logits_inside_the_map(gate, shared, case):
    options, x = case
    x.requires_grad_()
    scores = torch.randn_like(x[:, :1] if shared else x).requires_grad_()
    pool = create_pool("average", channels=x.shape[1], **options)
    y = softmax_average(pool, x, scores, gate)
    expected = _by_loop(x, scores if gate is None else gate / (1 + (-scores).exp()), **options)
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, (x, scores), weight) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


def test_a_pixel_of_three_times_the_importance_counts_three_times():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    logits = torch.tensor([[[[0.0, 0.0], [0.0, math.log(3)]]]])
    y = softmax_average(create_pool("average", channels=1), x, logits)
    assert y.item() == pytest.approx((1 + 2 + 3 + 3 * 4) / 6)


@pytest.mark.parametrize("logits", LEARNED)
@given(case=geometries_and_maps())
def test_it_starts_as_the_average(logits, case):
    options, x = case
    y = create_pool("lip", channels=x.shape[1], logits=logits, width=3, **options).double()(x)
    torch.testing.assert_close(y, create_pool("average", channels=x.shape[1], **options)(x))


def test_steep_logits_give_the_maximum():
    x = torch.arange(64.0).flip(0).view(1, 1, 8, 8)
    y = softmax_average(create_pool("average", channels=1), x, 20 * x)
    torch.testing.assert_close(y, F.max_pool2d(x, 2))


@pytest.mark.parametrize("logits", LEARNED)
def test_its_logits_are_those_of_the_paper(logits):
    pool, x = _trained(logits, 4), torch.randn(2, 4, 6, 6, dtype=torch.float64)
    parameters = list(pool.parameters())
    g = x
    if logits == "conv1x1":
        g = F.conv2d(x, parameters[0])
    else:
        for i in range(0, len(parameters), 3):
            weight, scale, shift = parameters[i : i + 3]
            g = F.conv2d(g.relu() if i else g, weight, padding=weight.shape[-1] // 2)
            g = F.instance_norm(g, weight=scale, bias=shift)
        g = 12 * g.sigmoid()
    torch.testing.assert_close(pool(x), _by_loop(x, g, kernel_size=2, stride=2))


@pytest.mark.parametrize("logits", ["projection", "bottleneck"])
def test_the_gate_bounds_how_much_a_pixel_may_outweigh_another(logits):
    pool = _trained(logits, 2, gate=0.5)
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    scores = pool._scores(x)
    slope = torch.autograd.functional.jacobian(lambda x: softmax_average(pool, x, scores, pool.gate), x)
    weights = slope[0, 0, 0, 0, 0, 0, :2, :2]
    assert weights.max() / weights.min() <= math.exp(0.5) + 1e-9
    torch.testing.assert_close(weights.sum().item(), 1.0)


@pytest.mark.parametrize("logits", ["projection", "bottleneck"])
def test_a_map_of_one_pixel_is_not_normalised(logits):
    pool = _trained(logits, 3, kernel_size=1, stride=1)
    x = torch.randn(1, 3, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(pool.train()(x), x)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 9 * 64 + 2 * 8),
        ({"logits": "bottleneck"}, 2 * 8 * 128 + 9 * 128**2 + 4 * 128 + 2 * 8),
        ({"logits": "conv1x1"}, 64),
        ({"logits": "identity"}, 0),
    ],
    ids=str,
)
def test_it_has_as_many_parameters_as_the_paper_says(options, count):
    pool = create_pool("lip", channels=8, **options)
    assert sum(parameter.numel() for parameter in pool.parameters()) == count


@pytest.mark.parametrize("logits", LEARNED)
def test_starting_anew_makes_it_the_average_again(logits):
    pool = _trained(logits, 3)
    for module in pool.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    pool.reset_parameters()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"logits": "linear"}, "logits must be 'projection', 'bottleneck', 'conv1x1' or 'identity', got 'linear'"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"gate": 0}, "gate must be a number above 0, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("lip", channels=3, **options)
    assert "LipPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "per_window"),
    [
        ({"logits": "identity"}, 22),  # the weighted average: 4 cells of 6, less the first of two sums, a division
        ({"logits": "conv1x1"}, 4 * 2 * 5 + 22),
        ({}, 4 * (2 * 9 * 5 + 12) + 22),
        ({"logits": "bottleneck", "width": 5}, 4 * ((2 * 5 + 9) + (2 * 9 * 5 + 9) + (2 * 5 + 12)) + 22),
    ],
    ids=str,
)
def test_flops_count_the_logits_at_full_size(options, per_window):
    assert create_pool("lip", channels=5, **options).flops((8, 6)) == 5 * 4 * 3 * per_window
