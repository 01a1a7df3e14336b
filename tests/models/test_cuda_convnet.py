import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model
from poolbench.models.cuda_convnet import LocallyConnected2d, ResponseNorm
from poolbench.models.sites import is_site, map_sizes

SIDES = {"80sec": 32, "18pct": 32, "13pct": 24, "11pct": 24}
every_variant = pytest.mark.parametrize("variant", SIDES)


def _make(variant, **options):
    side = SIDES[variant]
    return create_model("cuda_convnet", input_size=(side, side), variant=variant, **options)


@pytest.mark.parametrize(
    ("variant", "parameters"), [("80sec", 145_578), ("18pct", 89_578), ("13pct", 1_116_490), ("11pct", 2_112_970)]
)
def test_parameters(variant, parameters):
    assert sum(p.numel() for p in _make(variant).parameters()) == parameters


def _average(x):
    """3x3 windows every 2 pixels, clipped at the border, divided by their cells inside."""
    rows = []
    for i in range(0, x.shape[2] - 1, 2):
        rows.append([x[:, :, i : i + 3, j : j + 3].mean((2, 3)) for j in range(0, x.shape[3] - 1, 2)])
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _maximum(x):
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def _within(x):
    squares = F.pad(x.square(), (1, 1, 1, 1))
    height, width = x.shape[2:]
    total = sum(squares[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return x / (1 + 5e-5 / 9 * total) ** 0.75


def _across(x):
    maps = [x[:, c] / (1 + 0.001 / 9 * x[:, max(0, c - 4) : c + 5].square().sum(1)) ** 0.75 for c in range(x.shape[1])]
    return torch.stack(maps, 1)


RELU = torch.relu
STEPS = {  # after each convolution or locally connected layer, as the files have it
    "80sec": [(_maximum, RELU), (RELU, _average), (RELU, _average)],
    "18pct": [(_maximum, RELU, _within), (RELU, _average, _within), (RELU, _average)],
    "13pct": [(RELU, _maximum), (RELU, _maximum), (RELU,), (RELU,)],
    "11pct": [(RELU, _maximum, _across), (RELU, _across, _maximum), (RELU,), (RELU,)],
}


@every_variant
def test_it_is_the_net_of_its_file(variant):
    model, side = _make(variant, seed=1).eval(), SIDES[variant]
    maps = x = 5 * torch.randn(2, 3, side, side)
    layers = [m for m in model.features.modules() if isinstance(m, nn.Conv2d | LocallyConnected2d) and not is_site(m)]
    for layer, steps in zip(layers, STEPS[variant], strict=True):
        maps = layer(maps)
        for step in steps:
            maps = step(maps)
    torch.testing.assert_close(model.features(x), maps, rtol=1e-4, atol=1e-4)
    linear = [m for m in model.head.modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in linear] == ([64, 10] if variant == "80sec" else [10])
    sizes = [size[0] for _, size in map_sizes(model.features, (side, side))]
    assert sizes == ([16, 8, 4, 4] if side == 32 else [12, 6, 6])


@every_variant
def test_the_first_pool_is_seen_before_the_relu_where_the_file_has_it_so(variant):
    negative = []

    class Watching(nn.Module):
        ratio = 2.0

        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            negative.append(bool((x < 0).any()))
            return x[..., ::2, ::2]

    model = _make(variant, pool=Watching)
    negative.clear()
    model(torch.randn(2, 3, SIDES[variant], SIDES[variant]))
    assert negative[0] == (variant in ("80sec", "18pct"))
    assert not any(negative[1:])


@every_variant
def test_the_paper_draws_with_the_deviations_of_its_files(variant):
    model = _make(variant, init="paper")
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | LocallyConnected2d | nn.Linear)]
    convolutions = [64e-4, 0.01, 0.01] if variant in ("80sec", "18pct") else [64e-4, 0.01, 0.04, 0.04]
    expected = [*convolutions, *([0.1, 0.1] if variant == "80sec" else [0.01])]
    for layer, std in zip(layers, expected, strict=True):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
        assert (layer.bias == 0).all()


@every_variant
def test_by_default_signals_keep_their_strength_through_the_layers(variant):
    model, strengths = _make(variant), []
    for layer in model.features.modules():
        if isinstance(layer, nn.Conv2d | LocallyConnected2d):
            layer.register_forward_hook(lambda module, args, output: strengths.append(output.std().item()))
    model(torch.randn(8, 3, SIDES[variant], SIDES[variant]))
    assert all(0.3 < strength < 4 for strength in strengths)


def test_another_head_draws_its_own_way():
    draws = [_make("80sec", head="global_average", init=init) for init in ("paper", "he")]
    assert torch.equal(*(model.head.classifier[0].weight for model in draws))


@pytest.mark.parametrize("size", [(4, 3), (1, 2), (5, 5)])
def test_a_locally_connected_layer_has_a_filter_of_its_own_at_every_position(size):
    torch.manual_seed(0)
    layer, x = LocallyConnected2d(3, 4, size).double(), torch.randn(2, 3, *size, dtype=torch.double)
    nn.init.normal_(layer.bias)
    padded, y = F.pad(x, (1, 1, 1, 1)), layer(x)
    assert y.shape == (2, 4, *size)
    for position in range(size[0] * size[1]):
        i, j = divmod(position, size[1])
        patch = padded[:, :, i : i + 3, j : j + 3].flatten(1)
        bias = layer.bias[4 * position : 4 * position + 4]
        torch.testing.assert_close(y[:, :, i, j], patch @ layer.weight[position] + bias)


def test_with_one_filter_at_all_positions_it_is_a_convolution():
    layer, x = LocallyConnected2d(3, 4, (5, 6)), torch.randn(2, 3, 5, 6)
    filters = torch.randn(4, 3, 3, 3)
    layer.weight.data[:] = filters.flatten(1).T
    torch.testing.assert_close(layer(x), F.conv2d(x, filters, padding=1))
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


def test_gradients_are_those_of_the_function():
    layer = LocallyConnected2d(2, 3, (3, 2)).double()
    x = torch.randn(2, 2, 3, 2, dtype=torch.double, requires_grad=True)

    def function(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, (x, layer.weight, layer.bias))
    for across in (False, True):
        norm = ResponseNorm(2, size=3, scale=0.5, across=across).double()
        assert torch.autograd.gradcheck(norm, (x,))


def test_a_map_of_another_size_is_refused_with_both_sizes():
    model = create_model("cuda_convnet", variant="11pct", head="global_average", input_size=(24, 16))
    assert model(torch.zeros(1, 3, 24, 16)).shape == (1, 10)
    with pytest.raises(ValueError, match="built for maps of 6x4 pixels and got 6x6"):
        model(torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize("channels", [3, 20])
def test_across_the_maps_it_is_torchs_own_normalisation(channels):
    x = 3 * torch.randn(2, channels, 4, 5)
    norm = ResponseNorm(channels, size=9, scale=0.7, across=True)
    torch.testing.assert_close(norm(x), F.local_response_norm(x, 9, alpha=0.7, beta=0.75, k=1.0))
    assert not norm.state_dict()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "19pct"}, "variant must be '80sec', '18pct', '13pct' or '11pct', got '19pct'"),
        ({"init": "kaiming"}, "init must be 'he' or 'paper', got 'kaiming'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=f"model cuda_convnet: {words}"):
        create_model("cuda_convnet", **options)
