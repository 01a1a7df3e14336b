import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model
from poolbench.models.sites import is_site, map_sizes
from poolbench.pooling import FractionalMaxPool2d
from poolbench.pooling.fractional_max import average_over_draws

SMALL = {"width": 2}
CIFAR = {"depth": 12, "ratio": 2 ** (1 / 3)}
# Sides after the field, each convolution and each pool, from the paper's figures.
MNIST_SIDES = [36, 35, 25, 24, 17, 16, 11, 10, 7, 6, 4, 3, 2, 1]
CIFAR_SIDES = [94, 93, 74, 73, 58, 57, 45, 44, 35, 34, 27, 26, 21, 20, 16, 15, 12, 11, 9, 8, 6, 5, 4, 3, 2, 1]


def _parameters(model):
    return sum(p.numel() for p in model.parameters())


def _formula(k, depth, colours, classes=10):
    """2x2 filters up to the last but one layer, 1x1 in the last, and the classifier."""
    channels = [colours, *(k * n for n in range(1, depth + 3))]
    sides = [2] * (depth + 1) + [1]
    layers = sum(s * s * a * b + b for s, (a, b) in zip(sides, pairwise(channels), strict=True))
    return layers + (channels[-1] + 1) * classes


@pytest.mark.parametrize(
    ("options", "millions"),
    [({"width": 32, **CIFAR}, 3.2), ({"width": 64, **CIFAR}, 12.7), ({"width": 32}, 0.52)],
    ids=str,
)
def test_parameters_of_the_published_nets(options, millions):
    expected = _formula(options["width"], options.get("depth", 6), colours=3)
    assert _parameters(create_model("fractional_net", **options)) == expected
    assert expected / 1e6 == pytest.approx(millions, rel=0.01)


def test_parameters_of_the_large_nets_and_of_grey_images():
    assert _formula(160, 12, colours=3) / 1e6 == pytest.approx(79.2, rel=0.001)
    assert _formula(96, 12, colours=3) / 1e6 == pytest.approx(28.5, rel=0.002)
    assert _formula(32, 6, colours=3) - _formula(32, 6, colours=1) == 2 * 4 * 32  # what colour costs


def _sides(model, size):
    """Sides of the maps after the field, each convolution and each pool."""
    sides = []
    handles = [
        module.register_forward_hook(lambda module, args, output: sides.append(output.shape[-1]))
        for name, module in model.features.named_modules()
        if name == "field" or isinstance(module, nn.Conv2d) or is_site(module)
    ]
    model.eval()(torch.zeros(1, 3, *size))
    for handle in handles:
        handle.remove()
    return sides


@pytest.mark.parametrize(("options", "sides"), [({}, MNIST_SIDES), (CIFAR, CIFAR_SIDES)], ids=["MNIST", "CIFAR"])
def test_maps_shrink_as_the_paper_says(options, sides):
    model = create_model("fractional_net", **SMALL, **options)
    assert _sides(model, (32, 32)) == [*sides, 1]  # the last convolution is 1x1
    pools = [module for module in model.modules() if is_site(module)]
    assert all(type(one) is FractionalMaxPool2d and one.ratio == options.get("ratio", math.sqrt(2)) for one in pools)
    assert all(one.overlapping and one.sequence == "pseudorandom" for one in pools)
    named = create_model("fractional_net", pool=lambda channels: FractionalMaxPool2d(channels, pools[0].ratio), **SMALL,
                         **options)  # fmt: skip
    assert _sides(named, (32, 32)) == [*sides, 1]


@pytest.mark.parametrize(
    ("options", "layers"), [({}, ["layer2", "layer4", "layer6"]), (CIFAR, ["layer2", "layer5", "layer8", "layer11"])]
)
def test_a_pool_of_ratio_2_stands_after_every_second_or_third_convolution(options, layers):
    model = create_model("fractional_net", pool="max", **SMALL, **options)
    *steps, last = map_sizes(model.features, (32, 32))
    assert [name for name, _ in steps] == [f"{layer}.pool1" for layer in layers]
    assert last == ("last map", (1, 1))


class Shrink(nn.Module):
    """Averages to the whole number below ``1 / ratio`` of a side, as a window of that step does."""

    def __init__(self, ratio):
        super().__init__()
        self.ratio = ratio

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, [math.floor(side / self.ratio + 1e-9) for side in x.shape[-2:]])


@pytest.mark.parametrize("ratio", [2 ** (1 / 3), math.sqrt(2), 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("options", [{}, CIFAR], ids=["MNIST", "CIFAR"])
def test_every_pool_leaves_a_few_pixels(options, ratio):
    model = create_model("fractional_net", pool=lambda channels: Shrink(ratio), **SMALL, **options)
    assert map_sizes(model.features, (32, 32))[-1][1][0] in range(1, 5)


@pytest.mark.parametrize("size", [(32, 32), (31, 20), (1, 36), (36, 36)])
def test_the_image_lies_in_the_middle_of_zeros(size):
    field = create_model("fractional_net", **SMALL).features.field
    x = torch.rand(2, 3, *size) + 1
    y = field(x)
    assert y.shape == (2, 3, 36, 36)
    assert torch.equal(y[y > 0], x.flatten())
    rows, columns = (y[0, 0] > 0).any(1).nonzero().flatten(), (y[0, 0] > 0).any(0).nonzero().flatten()
    for cells in (rows, columns):
        assert 35 - cells[-1] - cells[0] in (0, 1)  # as much before as after, or a pixel less


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="an image of 40x36 pixels is larger than the field of 36x36"):
        create_model("fractional_net", input_size=(40, 36), **SMALL)
    assert create_model("fractional_net", input_size=(40, 36), field=40, **SMALL)(torch.rand(2, 3, 40, 36)).shape
    with pytest.raises(ValueError, match=r"field must be large enough for 6 layers .* as 36 pixels are, got 20"):
        create_model("fractional_net", field=20, **SMALL)


def test_dropout_rises_in_a_line_and_drops_whole_channels():
    model = create_model("fractional_net", width=20, depth=3, dropout=0.8, field=16, input_size=(16, 16))
    rates = [module.p for module in model.features.modules() if isinstance(module, nn.Dropout2d)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    y = model.features.layer2.dropout.train()(torch.ones(50, 40, 3, 3)).flatten(2)
    assert (y == y[..., :1]).all()
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    # The filters after it allow for it.
    assert model.features.layer4.conv.weight.std().item() == pytest.approx(
        (2 * 0.6 / (1 + 0.333**2) / (60 * 4)) ** 0.5, rel=0.02
    )


def test_the_activation_leaks_and_filters_start_for_it():
    model = create_model("fractional_net", width=64, depth=2, slope=0.25, field=8, input_size=(8, 8))
    assert model.features.layer1.relu(torch.tensor([-4.0, 4.0])).tolist() == [-1, 4]
    weight = model.features.layer2.conv.weight
    assert weight.std().item() == pytest.approx((2 / (1 + 0.25**2) / (64 * 4)) ** 0.5, rel=0.02)


def test_normalisation_takes_the_place_of_biases():
    plain, normalised = (create_model("fractional_net", batch_norm=one, **SMALL) for one in (False, True))
    assert _parameters(normalised) - _parameters(plain) == 2 * sum(range(1, 9))  # a scale for each filter
    assert list(dict(normalised.features.layer1.named_children())) == ["conv", "norm", "relu", "dropout", "pool1"]


def test_repeated_tests_draw_and_one_test_does_not():
    model, x = create_model("fractional_net", width=8).eval(), torch.randn(3, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    torch.manual_seed(0)
    once, again = average_over_draws(model, x, draws=1), average_over_draws(model, x, draws=1)
    assert not torch.equal(once, again)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "model fractional_net: width must be a whole number of at least 1, got 0"),
        ({"depth": 6.0}, "depth must be a whole number"),
        ({"ratio": 1.0}, "ratio must be a number above 1 and at most 2, got 1.0"),
        ({"ratio": 2.5}, "ratio must be"),
        ({"ratio": "2"}, "ratio must be"),
        ({"field": 0}, "field must be a whole number"),
        ({"dropout": 1}, "dropout must be a number in \\[0, 1\\), got 1"),
        ({"slope": -0.1}, "slope must be"),
        ({"batch_norm": None}, "batch_norm must be true or false, got None"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("fractional_net", **options)
