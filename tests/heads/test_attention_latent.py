from functools import partial

import pytest
import torch
from torch import nn

from poolbench import create_head
from poolbench.measure.cost import _count


def make(channels=6, **options):
    return create_head("attention_latent", channels=channels, num_classes=3, **options)


def stir(head):
    """Other weights than those at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def of_timm(head, ratio):
    """timm's, with the same weights; a bias of the keys, whatever it is, cancels."""
    attention_pool = pytest.importorskip("timm.layers.attention_pool")
    channels, latents = head.channels, len(head.latents)
    theirs = attention_pool.AttentionPoolLatent(
        channels,
        num_heads=head.heads,
        latent_len=latents,
        mlp_ratio=ratio,
        pool_type="token" if latents == 1 else "avg",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    ).double()
    layers = {"q": "query", "proj": "out", "norm": "norm", "mlp.fc1": "wider", "mlp.fc2": "back"}
    ours = head.state_dict()
    state = {f"{t}.{part}": ours[f"{o}.{part}"] for t, o in layers.items() for part in ("weight", "bias")}
    state["latent"] = head.latents.detach()[None]
    state["kv.weight"] = torch.cat([ours["key.weight"], ours["value.weight"]])
    state["kv.bias"] = torch.cat([torch.randn(channels).double(), ours["value.bias"]])
    theirs.load_state_dict(state)
    return theirs, layers


@pytest.mark.parametrize(("latents", "heads", "ratio"), [(1, 1, 4), (1, 3, 4), (2, 2, 1)])
def test_it_is_that_of_timm_and_so_are_its_gradients(latents, heads, ratio):
    head = stir(make(latents=latents, heads=heads, mlp_ratio=ratio)).double()
    theirs, layers = of_timm(head, ratio)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    found, expected = head.pool(x), theirs(x.flatten(2).transpose(1, 2))
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(found)
    by_ours, by_theirs = [], []
    for y, gradients in ((found, by_ours), (expected, by_theirs)):
        gradients.append(torch.autograd.grad(y, x, slope, retain_graph=True)[0])
    found.backward(slope)
    expected.backward(slope)
    by_ours += [head.latents.grad, torch.cat([head.key.weight.grad, head.value.weight.grad]), head.value.bias.grad]
    by_theirs += [theirs.latent.grad[0], theirs.kv.weight.grad, theirs.kv.bias.grad[6:]]
    for t, o in layers.items():
        for part in ("weight", "bias"):
            by_ours.append(head.get_parameter(f"{o}.{part}").grad)
            by_theirs.append(theirs.get_parameter(f"{t}.{part}").grad)
    for one, other in zip(by_ours, by_theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("channels", "heads"), [(64, 8), (6, 6), (5, 5), (12, 6), (7, 7), (22, 2), (1, 1)])
def test_there_are_eight_heads_or_as_many_below_as_divide(channels, heads):
    assert make(channels).heads == heads


def test_results_of_several_latents_are_averaged():
    head, x = stir(make(latents=2)), torch.randn(2, 6, 5, 4)
    alone = []
    for latent in head.latents.detach():
        one = make()
        one.load_state_dict({**head.state_dict(), "latents": latent[None]})
        alone.append(one.pool(x))
    torch.testing.assert_close(head.pool(x), sum(alone) / 2, rtol=1e-4, atol=1e-4)


def test_positions_do_not_matter_nor_how_often_the_map_is_repeated():
    head, x = stir(make()), torch.randn(2, 6, 5, 4)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    torch.testing.assert_close(head(moved), head(x), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(head(x.repeat(1, 1, 2, 3)), head(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("channels", "latents", "ratio"), [(6, 1, 4), (64, 2, 3)])
def test_weights_are_the_matrices_of_the_formula(channels, latents, ratio):
    head = make(channels, latents=latents, mlp_ratio=ratio)
    own = sum(p.numel() for name, p in head.named_parameters() if not name.startswith("classifier"))
    # query, key, value, output and the two of the network; biases but the key's; normalisation; latents
    assert own == (4 + 2 * ratio) * channels**2 + (3 + ratio + 1) * channels + 2 * channels + latents * channels


def test_flops_are_what_a_counter_does_not_see():
    head = make(heads=2, latents=3)
    softmax = 19 + 20 + 20 + 19 + 20
    # the query's scale, biases, normalisation, GELU, the sum, the average
    each = 6 + (4 * 6 + 24) + (7 * 6 + 4) + 24 + 6 + 6
    assert head.flops((5, 4)) == 3 * (2 * softmax + each)
    once = 2 * 6 * 6 * (1 + 1 + 1 + 1 + 8)  # query, keys, values, output, the network
    assert _count(head, torch.randn(1, 6, 5, 4)) == 3 * (once + 2 * 2 * (2 * 20 * 6)) + 2 * 6 * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 4}, "AttentionLatent: heads must divide channels=6, got 4"),
        ({"heads": 0}, "heads must be null or a whole number of at least 1, got 0"),
        ({"latents": 0}, "latents must be a whole number of at least 1, got 0"),
        ({"latents": None}, "latents must be"),
        ({"mlp_ratio": 0.5}, "mlp_ratio must be a whole number of at least 1, got 0.5"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)
