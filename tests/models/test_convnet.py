from itertools import pairwise

import pytest
import torch
from torch import nn

from poolbench import create_model


def _parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("widths", "depths", "classes"),
    [((32, 64, 128), (1, 1, 2), 10), ((16, 32, 64), (1, 1, 2), 10), ((5, 3), (2, 1), 4)],
)
def test_parameters(widths, depths, classes):
    channels = [3, *(width for width, depth in zip(widths, depths, strict=True) for _ in range(depth))]
    layers = sum(9 * before * after + 2 * after for before, after in pairwise(channels))
    model = create_model("convnet", widths=widths, depths=depths, num_classes=classes)
    assert _parameters(model) == layers + (widths[-1] + 1) * classes
    if (widths, classes) == ((32, 64, 128), 10):
        assert _parameters(model) == 242_474


def test_a_learned_pool_adds_its_own_parameters():
    extra = _parameters(create_model("convnet", pool="strided_conv")) - _parameters(create_model("convnet"))
    assert extra == sum(9 * width**2 + 2 * width for width in (32, 64, 128))


def test_the_pool_ends_its_stage_after_normalisation_and_activation():
    model = create_model("convnet", widths=(4, 5), depths=(2, 1))
    names = [name for name, _ in model.features.stage1.named_children()]
    assert names == ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool1"]
    assert [name for name, _ in model.features.stage2.named_children()] == ["conv1", "norm1", "relu1", "pool1"]


@pytest.mark.parametrize(
    ("depth", "after"), [(1, ["relu1", "pool1"]), (2, ["relu1", "relu2"]), (3, ["relu2", "relu3"])]
)
def test_two_pools_of_a_stage_are_spread_over_its_convolutions(depth, after):
    class Half(nn.Module):
        ratio = 2**0.5

        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return nn.functional.adaptive_avg_pool2d(x, [round(side / self.ratio) for side in x.shape[-2:]])

    model = create_model("convnet", pool=Half, widths=(4,), depths=(depth,))
    names = [name for name, _ in model.features.stage1.named_children()]
    assert [names[names.index(pool) - 1] for pool in ("pool1", "pool2")] == after
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depths": (1, 1)}, "depths must have one number per stage, as widths has: got 2 numbers for 3 stages"),
        ({"depths": 1}, "depths must be a list"),
        ({"depths": (1, 1, 0)}, "depths must be a list of numbers of at least 1"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("convnet", **options)
