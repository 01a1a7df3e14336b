import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model
from poolbench.models.sites import map_sizes

SMALL = (6, 5, 4, 6, 6, 6, 6, 6)


def _filters(model):
    """Those of the trunk and the class maps."""
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_parameters_and_layers_are_those_of_the_published_net():
    model = create_model("nin")
    assert sum(p.numel() for p in model.parameters()) == 966_986
    sizes = [size for _, size in map_sizes(model.features, (32, 32))]
    assert sizes == [(16, 16), (8, 8), (8, 8)]
    assert [tuple(weight.shape[:2]) + weight.shape[2:3] for weight in _filters(model)] == [
        (192, 3, 5),
        (160, 192, 1),
        (96, 160, 1),
        (192, 96, 5),
        (192, 192, 1),
        (192, 192, 1),
        (192, 192, 3),
        (192, 192, 1),
        (10, 192),
    ]
    names = [name for name, _ in model.features.named_modules() if name]
    assert names[6:9] == ["stage1.relu3", "stage1.pool1", "dropout1"]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_it_is_the_net_of_its_definition():
    """Convolution, 1x1 convolutions and ReLU after each, the class maps averaged."""
    model, x = create_model("nin", widths=SMALL, init="he", seed=1).eval(), torch.randn(2, 3, 32, 32)
    convolutions = [m for m in model.features.modules() if isinstance(m, nn.Conv2d)]
    maps = x
    for number, convolution in enumerate(convolutions, start=1):
        maps = convolution(maps).relu()
        if number in (3, 6):
            maps = F.max_pool2d(maps, 3, 2, ceil_mode=True)
    last = model.head.classifier[-1]
    classes = F.conv2d(maps, last.weight[:, :, None, None], last.bias).relu()
    assert classes.shape == (2, 10, 8, 8)
    assert classes.any()
    torch.testing.assert_close(model(x), classes.mean((2, 3)))


def test_dropout_follows_each_pool_in_training_alone():
    model, x = create_model("nin", widths=SMALL, init="he", dropout=0.9), torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    without = create_model("nin", widths=SMALL, init="he", dropout=0.0)
    assert torch.equal(without(x), model(x))


@pytest.mark.parametrize("pool", ["native", "strided_conv"])
def test_the_paper_draws_all_filters_alike_and_leaves_pools_alone(pool):
    paper = create_model("nin", pool=pool, init="paper")
    trunk = [m for name, m in paper.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "pool" not in name]
    assert len(trunk) == 9
    for layer in trunk:
        assert layer.weight.std().item() == pytest.approx(0.05, rel=0.05)
        assert (layer.bias == 0).all()
    he = create_model("nin", pool=pool, init="he")
    for (name, ours), (_, theirs) in zip(he.named_parameters(), paper.named_parameters(), strict=True):
        if "pool" in name:
            assert torch.equal(ours, theirs)


def test_another_head_draws_its_own_way():
    draws = [create_model("nin", widths=SMALL, head="flatten", init=init) for init in ("paper", "he")]
    assert torch.equal(*(model.head.classifier[0].weight for model in draws))
    assert not torch.equal(*(model.features.stage1.conv1.weight for model in draws))


def test_normalised_convolutions_have_no_bias():
    model = create_model("nin", widths=SMALL, batch_norm=True, init="paper")
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 8
    assert all(m.bias is None for m in model.features.modules() if isinstance(m, nn.Conv2d))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in create_model("nin", widths=SMALL).modules())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (6, 5, 4)}, "widths must be a list of 8 numbers of at least 1"),
        ({"dropout": 1}, "dropout must be a number in \\[0, 1\\)"),
        ({"batch_norm": 1}, "batch_norm must be true or false, got 1"),
        ({"init": "kaiming"}, "init must be 'paper' or 'he', got 'kaiming'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=f"model nin: {words}"):
        create_model("nin", **options)
