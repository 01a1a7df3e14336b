from itertools import pairwise

import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.heads import Capsule, Flatten
from poolbench.models.sites import is_site, map_sizes

SMALL = {"width": 8, "types": 2}


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def _capsules(colours, types, positions, width=256, kernel=9):
    """Parameters of the first convolution, of the one that gives capsules of 8 numbers, and the matrices of 8x16."""
    first = kernel**2 * colours * width + width
    return first + kernel**2 * width * 8 * types + 8 * types + positions * types * 10 * 8 * 16


def _baseline(colours, positions, widths=(256, 256, 128)):
    convolutions = sum(25 * a * b + b for a, b in pairwise([colours, *widths]))
    return convolutions + sum(a * b + b for a, b in pairwise([positions * widths[-1], 328, 192, 10]))


def test_parameters_of_the_net_for_cifar():
    expected = _capsules(colours=3, types=64, positions=12 * 12)
    assert expected == 62_464 + 10_617_344 + 11_796_480 == 22_476_288
    assert _parameters(create_model("capsnet", input_size=(24, 24))) == expected


def test_parameters_of_the_net_for_mnist_but_for_its_colour():
    assert _capsules(colours=1, types=32, positions=6 * 6) == 6_804_224
    model = create_model("capsnet", padding="valid", types=32, leaky=False, input_size=(28, 28))
    assert _parameters(model) == _capsules(colours=3, types=32, positions=6 * 6) == 6_804_224 + 2 * 81 * 256
    decoded = create_model("capsnet", padding="valid", types=32, reconstruction=0.0005, input_size=(28, 28))
    decoder = sum(a * b + b for a, b in pairwise([160, 512, 1024, 3 * 28 * 28]))
    assert _parameters(decoded) == _parameters(model) + decoder


def test_parameters_of_the_baseline_but_for_its_colour():
    assert _baseline(colours=1, positions=28 * 28) == 35_445_522
    small = create_model("capsnet", variant="baseline", width=8, input_size=(28, 28))
    assert _parameters(small) == _baseline(colours=3, positions=28 * 28, widths=(8, 8, 4))


def test_the_native_net_shrinks_by_a_stride_alone():
    model = create_model("capsnet", padding="valid", input_size=(28, 28), **SMALL)
    assert map_sizes(model.features, (28, 28)) == [("last map", (20, 20))]
    assert type(model.head) is Capsule
    assert (model.head.primary.stride, model.head.leaky, model.head.shared) == ((2, 2), True, False)
    assert model.head.primary(torch.zeros(1, 8, 20, 20)).shape[2:] == (6, 6)


@pytest.mark.parametrize(("padding", "kernel"), [("valid", 9), ("valid", 5), ("same", 9), ("same", 3)])
@pytest.mark.parametrize("size", [(24, 24), (28, 32)])
def test_with_a_pool_there_are_as_many_capsules_as_with_the_stride(padding, kernel, size):
    options = {**SMALL, "padding": padding, "kernel": kernel, "input_size": size}
    native, pooled = create_model("capsnet", **options), create_model("capsnet", pool="max", **options)
    assert pooled.head.primary.stride == (1, 1)
    assert pooled.head.matrices.shape == native.head.matrices.shape
    assert torch.equal(pooled.head.primary.weight, native.head.primary.weight)
    assert [name for name, module in pooled.named_modules() if is_site(module)] == ["features.stage1.pool1"]
    assert pooled(torch.rand(2, 3, *size)).shape == (2, 10)


def test_other_heads_see_the_map():
    model = create_model("capsnet", head="global_average", **SMALL)
    assert map_sizes(model.features, (32, 32))[-1] == ("last map", (32, 32))
    pooled = create_model("capsnet", head="global_average", pool="max", **SMALL)
    assert map_sizes(pooled.features, (32, 32))[-1] == ("last map", (16, 16))


def test_layers_of_the_baseline():
    model = create_model("capsnet", variant="baseline", width=4, hidden=(6, 5), dropout=0.3, input_size=(12, 12))
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [(one.kernel_size[0], one.stride[0], one.out_channels) for one in convolutions] == [
        *((5, 1, 4), (5, 1, 4), (5, 1, 2))
    ]
    assert map_sizes(model.features, (12, 12)) == [("last map", (12, 12))]
    assert type(model.head) is Flatten
    assert [type(one) for one in model.head.classifier] == [
        *(nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear)
    ]
    assert model.head.classifier[-2].p == 0.3
    pooled = create_model("capsnet", variant="baseline", width=4, pool="average", hidden=(6,))
    assert [size for _, size in map_sizes(pooled.features, (32, 32))] == [(16, 16), (8, 8), (4, 4), (4, 4)]


@pytest.mark.parametrize("options", [{}, {"reconstruction": 0.0005}, {"variant": "baseline"}], ids=str)
def test_it_learns_a_handful_of_images(options):
    torch.manual_seed(0)
    model = create_model(
        "capsnet", width=8, kernel=3, types=2, hidden=(16,), dropout=0.0, num_classes=2, input_size=(8, 8), **options
    ).train()
    y = torch.arange(8) % 2
    x = torch.randn(8, 3, 8, 8) + torch.where(y == 0, 0.5, -0.5)[:, None, None, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        loss, logits = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(1) == y).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "cnn"}, "model capsnet: variant must be 'capsules' or 'baseline', got 'cnn'"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"variant": "baseline", "width": 1}, "width must be a whole number of at least 2, got 1"),
        ({"kernel": 4}, "kernel must be odd, got 4"),
        ({"kernel": 0}, "kernel must be a whole number"),
        ({"padding": 4}, "padding must be 'same' or 'valid', got 4"),
        ({"types": 0}, "types must be"),
        ({"iterations": 0}, "iterations must be"),
        ({"leaky": None}, "leaky must be true or false"),
        ({"reconstruction": -1.0}, "reconstruction must be a number of at least 0, got -1.0"),
        ({"hidden": ()}, "hidden must be a list of numbers of at least 1"),
        ({"dropout": 1.0}, "dropout must be a number in \\[0, 1\\)"),
        ({"input_size": (7, 7), "padding": "valid"}, "images of 7x7 do not fit"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("capsnet", **options)
