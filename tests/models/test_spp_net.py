from itertools import pairwise

import pytest
import torch
from torch import nn

from poolbench import create_head, create_model
from poolbench.models.sites import map_sizes

SMALL = {"widths": (4, 6, 8), "depth": 1}


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("levels", "expected"), [((4, 2, 1), 2_524_490), ((3, 2, 1), 2_065_738)])
def test_parameters(levels, expected):
    def head(channels, num_classes, size):
        return create_head("spp", channels, num_classes, size, levels=levels, hidden=(256,))

    assert _parameters(create_model("spp_net", batch_norm=False, head=head)) == expected
    if levels == (4, 2, 1):
        assert _parameters(create_model("spp_net", batch_norm=False)) == expected
        normalised = expected + 2 * (64 + 128 + 256)
        assert _parameters(create_model("spp_net")) == normalised


@pytest.mark.parametrize(("levels", "millions"), [((6, 3, 2, 1), 77.0), ((4, 3, 2, 1), 56.1)])
def test_parameters_of_the_papers_five_layer_net(levels, millions):
    channels, sides = [3, 96, 256, 384, 384, 256], [7, 5, 3, 3, 3]
    convolutions = sum(s * s * a * b + b for s, (a, b) in zip(sides, pairwise(channels), strict=True))
    with torch.device("meta"):
        head = create_head("spp", 256, 1000, (13, 13), levels=levels, hidden=(4096, 4096))
    assert (convolutions + _parameters(head)) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("size", "last"), [((32, 32), 8), ((26, 26), 6), ((40, 40), 10)])
def test_one_net_takes_images_of_several_sizes(size, last):
    model = create_model("spp_net", **SMALL).eval()
    *steps, end = map_sizes(model.features, size)
    assert end == ("last map", (last, last))
    assert [name for name, _ in steps] == ["stage1.pool1", "stage2.pool1"]
    assert model(torch.rand(2, 3, *size)).shape == (2, 10)


def test_no_pool_stands_before_the_pyramid():
    model = create_model("spp_net", widths=(4, 6), depth=2)
    assert [name for name, _ in model.features.stage1.named_children()] == [
        *("conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool1")
    ]
    assert [name for name, _ in model.features.stage2.named_children()] == [
        *("conv1", "norm1", "relu1", "conv2", "norm2", "relu2")
    ]
    plain = create_model("spp_net", widths=(4, 6), batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (64, 0)}, "model spp_net: widths must be a list of numbers of at least 1"),
        ({"widths": 64}, "widths must be"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"batch_norm": "yes"}, "batch_norm must be true or false, got 'yes'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("spp_net", **options)
