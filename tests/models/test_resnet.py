from itertools import pairwise

import pytest
import torch

from poolbench import create_model


def _formula(blocks, widths, classes):
    """Filters and normalisations of 2 * blocks convolutions a stage and of the stem; the classifier."""
    channels = [3, widths[0], *(width for width in widths for _ in range(2 * blocks))]
    return sum(9 * before * after + 2 * after for before, after in pairwise(channels)) + (widths[-1] + 1) * classes


@pytest.mark.parametrize(("blocks", "expected"), [(3, 269_722), (5, 464_154), (7, 658_586), (9, 853_018)])
def test_parameters_of_the_published_depths(blocks, expected):
    model = create_model("resnet", blocks=blocks)
    assert sum(p.numel() for p in model.parameters()) == expected == _formula(blocks, (16, 32, 64), 10)
    convolutions = sum(p.dim() == 4 for p in model.parameters())
    assert convolutions + 1 == 6 * blocks + 2  # with the classifier: ResNet-20, 32, 44, 56


def test_a_pool_stands_once_at_the_entrance_of_every_stage_but_the_first():
    model = create_model("resnet", "max", widths=(4, 6, 8), blocks=2)
    children = {
        stage: [name for name, _ in module.named_children()] for stage, module in model.features.named_children()
    }
    assert children == {
        "stem": ["conv", "norm", "relu"],
        "stage1": ["block1", "block2"],
        "stage2": ["pool1", "block1", "block2"],
        "stage3": ["pool1", "block1", "block2"],
    }


def test_the_shortcut_passes_the_map_on_and_fills_new_channels_with_zeros():
    model = create_model("resnet", "max", widths=(4, 6), blocks=1).eval()
    block = model.features.stage2.block1
    torch.nn.init.zeros_(block.norm2.weight)  # the branch is silent
    x = torch.rand(2, 4, 5, 5)
    y = block(x)
    assert torch.equal(y[:, :4], x)
    assert (y[:, 4:] == 0).all()


def test_filters_start_with_the_variance_of_he_et_al():
    model = create_model("resnet", widths=(64, 64), blocks=1)
    weight = model.features.stage2.block1.conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (16, 8)}, "widths must not fall"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1, got 0"),
        ({"blocks": (3, 3, 3)}, "blocks must be a whole number"),
        ({"blocks": True}, "blocks must be"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("resnet", **options)


def test_the_published_net_steps_by_two_in_both_branches():
    model = create_model("resnet", widths=(4, 6), blocks=2).eval()
    assert [name for name, _ in model.features.stage2.named_children()] == ["block1", "block2"]
    block = model.features.stage2.block1
    torch.nn.init.zeros_(block.norm2.weight)  # the branch is silent
    x = torch.rand(2, 4, 6, 8)
    y = block(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert (y[:, 4:] == 0).all()
    assert block.conv1.stride == (2, 2)
    # The weights are those of the net with pools: the same layers, of the same names.
    pooled = create_model("resnet", "subsample", widths=(4, 6), blocks=2)
    assert pooled.state_dict().keys() == model.state_dict().keys()
