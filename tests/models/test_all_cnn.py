import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.models.sites import is_site, map_sizes
from poolbench.pooling import OverlappingPool2d

SMALL = {"widths": (4, 6)}


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("base", "variant", "expected"),
    [
        ("A", "base", 839_242),
        ("A", "strided", 839_242),
        ("A", "convpool", 1_254_250),
        ("A", "all", 1_254_250),
        ("B", "base", 885_610),
        ("B", "strided", 885_610),
        ("B", "convpool", 1_300_618),
        ("B", "all", 1_300_618),
        ("C", "base", 954_730),
        ("C", "strided", 954_730),
        ("C", "convpool", 1_369_738),
        ("C", "all", 1_369_738),
    ],
)
def test_parameters_of_the_published_nets(base, variant, expected):
    assert _parameters(create_model("all_cnn", base=base, variant=variant)) == expected


def _layers(model):
    """Kernel and stride of each convolution, ``pool``, ``dropout``, in order."""
    names = []
    for module in model.features.modules():
        if isinstance(module, nn.Conv2d):
            names.append((module.kernel_size[0], module.stride[0], module.out_channels))
        elif is_site(module):
            names.append("pool")
        elif isinstance(module, nn.Dropout):
            names.append(module.p)
    return names


@pytest.mark.parametrize(
    ("base", "variant", "stage"),
    [
        ("A", "base", [(5, 1), "pool"]),
        ("B", "base", [(5, 1), (1, 1), "pool"]),
        ("C", "base", [(3, 1), (3, 1), "pool"]),
        ("A", "strided", [(5, 2)]),
        ("B", "strided", [(5, 1), (1, 2)]),
        ("C", "strided", [(3, 1), (3, 2)]),
        ("A", "convpool", [(5, 1), (3, 1), "pool"]),
        ("B", "convpool", [(5, 1), (1, 1), (3, 1), "pool"]),
        ("C", "convpool", [(3, 1), (3, 1), (3, 1), "pool"]),
        ("A", "all", [(5, 1), (3, 2)]),
        ("B", "all", [(5, 1), (1, 1), (3, 2)]),
        ("C", "all", [(3, 1), (3, 1), (3, 2)]),
    ],
)
def test_layers_of_the_paper(base, variant, stage):
    model = create_model("all_cnn", base=base, variant=variant, **SMALL)
    expected = [0.2]
    for width in SMALL["widths"]:
        expected += [one if one == "pool" else (*one, width) for one in stage] + [0.5]
    assert _layers(model) == [*expected, (3, 1, 6), (1, 1, 6)]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.features.modules())
    assert sum(isinstance(module, nn.ReLU) for module in model.features.modules()) == convolutions
    assert all(type(module) is OverlappingPool2d for module in model.modules() if is_site(module))


@pytest.mark.parametrize("variant", ["base", "strided", "convpool", "all"])
@pytest.mark.parametrize(("padding", "side"), [(0, 6), (1, 8)])
def test_the_average_is_of_6x6_as_in_the_paper_or_8x8(variant, padding, side):
    model = create_model("all_cnn", variant=variant, last_padding=padding, **SMALL)
    assert map_sizes(model.features, (32, 32))[-1] == ("last map", (side, side))


def test_with_and_without_a_pool_the_filters_start_alike():
    with_pool, without = (create_model("all_cnn", variant=one, **SMALL).state_dict() for one in ("convpool", "all"))
    assert with_pool.keys() == without.keys()
    assert all(torch.equal(value, without[key]) for key, value in with_pool.items())


def test_all_keeps_every_second_value_of_convpool_without_its_pool():
    class Corner(nn.Module):
        ratio = 2.0

        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x[:, :, ::2, ::2]

    x = torch.rand(2, 3, 32, 32)
    strided = create_model("all_cnn", variant="all", **SMALL).eval()
    pooled = create_model("all_cnn", variant="convpool", pool=Corner, **SMALL).eval()
    torch.testing.assert_close(strided(x), pooled(x))


def test_filters_start_as_he_et_al_do_with_dropout_allowed_for():
    model = create_model("all_cnn", widths=(64, 64), dropout=0.75)
    for layer, kept in ((model.features.stage1.conv2, 1.0), (model.features.stage3.conv1, 0.25)):
        assert layer.weight.std().item() == pytest.approx((2 * kept / (64 * 9)) ** 0.5, rel=0.02)
        assert (layer.bias == 0).all()


def test_normalisation_takes_the_place_of_biases():
    plain, normalised = (create_model("all_cnn", batch_norm=one, **SMALL) for one in (False, True))
    widths = sum(module.out_channels for module in plain.features.modules() if isinstance(module, nn.Conv2d))
    assert _parameters(normalised.features) - _parameters(plain.features) == widths  # a scale more
    names = [name for name, _ in normalised.features.stage1.named_children()]
    assert names == ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool1"]


def test_no_class_map_is_dead_from_the_start_or_dies_in_the_first_steps():
    torch.manual_seed(0)
    model = create_model("all_cnn", widths=(8, 16), input_size=(16, 16)).train()
    x, y = torch.randn(40, 3, 16, 16), torch.arange(40) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    for _ in range(15):
        loss, logits = model.loss(x, y)
        assert (logits > 0).any(0).all()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.head(model.features(x)) > 0).any(0).all()
    assert (create_model("all_cnn", head="global_average", **SMALL).head.classifier[-1].bias != 1).all()


def test_it_learns_a_handful_of_images():
    torch.manual_seed(0)
    model = create_model("all_cnn", input_dropout=0.0, dropout=0.0, **SMALL, num_classes=2, input_size=(16, 16)).train()
    y = torch.arange(8) % 2
    x = torch.randn(8, 3, 16, 16) + torch.where(y == 0, 0.5, -0.5)[:, None, None, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss, _ = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("variant", "partner"), [("strided", "base"), ("all", "convpool")])
@pytest.mark.parametrize("pool", ["max", "overlapping", ["max", "max"], ["native", "native"]], ids=str)
def test_a_variant_without_a_pool_takes_none(variant, partner, pool):
    with pytest.raises(ValueError, match=f"variant '{variant}' has no pool .* use pool=native, or variant={partner}"):
        create_model("all_cnn", variant=variant, pool=pool, **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base": "D"}, "model all_cnn: base must be 'A', 'B' or 'C', got 'D'"),
        ({"base": "c"}, "base must be"),
        ({"variant": "pool"}, "variant must be 'base', 'strided', 'convpool' or 'all', got 'pool'"),
        ({"widths": (96,)}, "widths must be a list of 2 numbers of at least 1"),
        ({"input_dropout": 1.0}, "input_dropout must be a number in \\[0, 1\\), got 1.0"),
        ({"dropout": -0.1}, "dropout must be a number in \\[0, 1\\)"),
        ({"dropout": True}, "dropout must be"),
        ({"last_padding": 2}, "last_padding must be 0 or 1, got 2"),
        ({"batch_norm": 1}, "batch_norm must be true or false, got 1"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("all_cnn", **options)
