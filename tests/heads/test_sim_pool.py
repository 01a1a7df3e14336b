from functools import partial

import pytest
import torch
from torch import nn

from poolbench import create_head
from poolbench.measure.cost import _count

GAMMAS = pytest.mark.parametrize("gamma", [2.0, 1.25, 0.5, None])


def make(channels=6, **options):
    return create_head("sim_pool", channels=channels, num_classes=3, **options)


def stir(head):
    """Other weights than those at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


@GAMMAS
def test_it_is_that_of_timm_and_so_are_its_gradients(gamma):
    other_pool = pytest.importorskip("timm.layers.other_pool")
    head = stir(make(gamma=gamma)).double()
    theirs = other_pool.SimPool2d(6, gamma=gamma, norm_layer=partial(nn.LayerNorm, eps=1e-6)).double()
    pairs = {
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
        "q.weight": "query.weight",
        "k.weight": "key.weight",
    }
    ours = dict(head.named_parameters())
    theirs.load_state_dict({name: ours[other].detach() for name, other in pairs.items()})
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    found, expected = head.pool(x), theirs(x)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(found)
    by_ours = torch.autograd.grad(found, [x, *(ours[name] for name in pairs.values())], slope)
    by_theirs = torch.autograd.grad(expected, [x, *(theirs.get_parameter(name) for name in pairs)], slope)
    for one, other in zip(by_ours, by_theirs, strict=True):
        torch.testing.assert_close(one, other)


@GAMMAS
def test_it_is_the_formula_one_channel_after_the_other(gamma):
    head, x = stir(make(gamma=gamma)).double(), torch.randn(2, 6, 3, 2, dtype=torch.float64)
    for image, vector in zip(x, head.pool(x), strict=True):
        positions = image.flatten(1).T
        asks = head.query.weight @ positions.mean(0)
        z = []
        for one in positions:
            deviation = ((one - one.mean()).square().mean() + 1e-6).sqrt()
            z.append((one - one.mean()) / deviation * head.norm.weight + head.norm.bias)
        scores = torch.stack([(asks @ (head.key.weight @ one) / 6**0.5).exp() for one in z])
        a, z = scores / scores.sum(), torch.stack(z)
        for c, value in enumerate(vector):
            if gamma is None:
                expected = sum(a * z[:, c])
            else:
                expected = sum(a * (z[:, c] - min(z[:, c]) + 1e-6) ** gamma) ** (1 / gamma)
            torch.testing.assert_close(value, expected)


def test_its_own_weights_are_two_matrices_and_a_normalisation():
    own = {name: tuple(p.shape) for name, p in make().named_parameters() if not name.startswith("classifier")}
    assert own == {"norm.weight": (6,), "norm.bias": (6,), "query.weight": (6, 6), "key.weight": (6, 6)}


@GAMMAS
def test_positions_do_not_matter(gamma):
    head, x = stir(make(gamma=gamma)), torch.randn(2, 6, 5, 4)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    torch.testing.assert_close(head(moved), head(x), rtol=1e-4, atol=1e-4)


def test_one_pixel_is_refused_unless_nothing_is_taken_off():
    with pytest.raises(ValueError, match=r"SimPool: it needs maps of at least 2 pixels, got 1x1: nothing is left"):
        make()(torch.randn(2, 6, 1, 1))
    assert make(gamma=None)(torch.randn(2, 6, 1, 1)).shape == (2, 3)


def test_the_largest_power_neither_vanishes_nor_overflows():
    head = make(gamma=6.0)
    for x in (torch.zeros(2, 6, 3, 3), 1e4 * torch.randn(2, 6, 3, 3), torch.eye(9)[:6].view(1, 6, 3, 3)):
        y = head.pool(x.requires_grad_())
        y.sum().backward()
        assert (y >= 0.9e-6).all()
        assert y.isfinite().all()
        assert x.grad.isfinite().all()


def test_neither_keys_nor_values_of_all_positions_are_formed():
    x, counted = torch.randn(1, 6, 5, 4), _count(make(), torch.randn(1, 6, 5, 4))
    assert counted == 2 * (2 * 6 * 6) + 2 * (2 * 20 * 6) + 2 * 6 * 3  # two matrices once, scores, average, classifier
    assert _count(make(gamma=None), x) == counted


def test_flops_are_what_a_counter_does_not_see():
    # average; normalisation; the query's scale; softmax; the least, differences, powers, a root
    common = 120 + 20 * (7 * 6 + 4) + 6 + (19 + 20 + 20 + 19 + 20)
    assert make(gamma=None).flops((5, 4)) == common
    assert make().flops((5, 4)) == common + 6 * (19 + 1 + 20 + 20 + 1)


@pytest.mark.parametrize("gamma", [0, 0.05, 6.5, "2", True])
def test_errors_name_the_option(gamma):
    with pytest.raises(ValueError, match=f"SimPool: gamma must be null or a number from 0.1 to 6, got {gamma!r}"):
        make(gamma=gamma)
