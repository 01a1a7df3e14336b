"""The classifiers of torchvision: as they are with native pools, swapped with others, split at the last map."""

import pytest
import torch
from torch import nn
from torchvision import models

from poolbench import create_head, create_model
from poolbench.heads import HEADS
from poolbench.models.sites import is_site
from poolbench.models.torchvision import Torchvision
from poolbench.pooling import POOLS
from tests.width import ALL

# One of each family: pools at its sites in two rows where a stride is 4, and the last map of 64 pixels with small_stem.
NETS = {
    "alexnet": (5, (256, 15, 15)),
    "convnext_tiny": (3, (768, 8, 8)),
    "densenet121": (5, (1024, 8, 8)),
    "efficientnet_b0": (5, (1280, 4, 4)),
    "googlenet": (5, (1024, 8, 8)),
    "inception_v3": (7, (2048, 6, 6)),
    "mnasnet0_5": (5, (1280, 4, 4)),
    "mobilenet_v2": (5, (1280, 4, 4)),
    "mobilenet_v3_small": (5, (576, 4, 4)),
    "regnet_y_400mf": (9, (440, 4, 4)),
    "resnet18": (8, (512, 8, 8)),
    "shufflenet_v2_x0_5": (8, (1024, 8, 8)),
    "squeezenet1_1": (4, (512, 16, 16)),
}
SMALL = ("densenet121", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")
# What torchvision publishes for 1000 classes, without auxiliary classifiers.
PARAMETERS = {"resnet18": 11_689_512, "squeezenet1_1": 1_235_496, "densenet121": 7_978_856, "googlenet": 6_624_904}

# The quick suite builds the smaller ones and one with branches; one with a stride of 4 where pools come into it.
FEW = (*SMALL, "googlenet")

every_net = pytest.mark.parametrize("name", NETS if ALL else FEW)


def make(name="squeezenet1_1", **options):
    return create_model("torchvision", **{"name": name, "num_classes": 5, "input_size": (96, 96), **options})


def theirs(name, **options):
    options |= {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **{"num_classes": 5, **options})


def sites(model):
    return [module for module in model.modules() if is_site(module)]


@every_net
def test_native_is_the_net_of_torchvision(name):
    model, net = make(name).eval(), theirs(name).eval()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm)]
    expected = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.LayerNorm)]
    assert [str(layer) for layer in layers] == [str(layer) for layer in expected]
    for value, ours in zip(net.state_dict().values(), model.state_dict().values(), strict=True):
        value.copy_(ours)  # the same tensors in the same order
    x = torch.randn(1, 3, 96, 96)
    assert torch.equal(model(x), net(x))
    assert not sites(model)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_that_torchvision_publishes(name):
    assert sum(p.numel() for p in make(name, num_classes=1000).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NETS if ALL else (*FEW, "alexnet"))
def test_another_pool_stands_at_every_site(name):
    model = make(name, pool="lip", head="global_average").eval()
    assert len(sites(model)) == NETS[name][0]
    assert all(type(pool) is POOLS.find("lip") for pool in sites(model))
    x = torch.randn(1, 3, 96, 80)
    assert model.features(x).shape == make(name).eval().features(x).shape
    assert model(x).shape == (1, 5)
    assert len(model.swap_report.replaced) == NETS[name][0] - (name == "alexnet")  # whose stem has stride 4


@every_net
def test_a_small_stem_keeps_small_maps(name):
    model = make(name, small_stem=True, input_size=(64, 64)).eval()
    assert model.features(torch.randn(1, 3, 64, 64)).shape[1:] == NETS[name][1]
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert (first.kernel_size, first.stride, first.padding) == ((3, 3), (1, 1), (1, 1))


def test_a_small_stem_is_the_usual_one_of_a_resnet():
    model = make("resnet18", small_stem=True, num_classes=10, input_size=(32, 32))
    assert sum(p.numel() for p in model.parameters()) == 11_173_962  # as the resnets for CIFAR have it
    assert isinstance(model.features.maxpool, nn.Identity)
    std = model.features.conv1.weight.std().item()
    assert std == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)  # by fan out, as the others


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_drawn_as_torchvision_draws_them(name):
    torch.manual_seed(0)
    expected = theirs(name).state_dict()
    found = dict(zip(expected, make(name).state_dict().values(), strict=True))
    for key, value in expected.items():
        if value.dim() > 1 and value.numel() > 500:
            assert found[key].std().item() == pytest.approx(value.std().item(), rel=0.2), key
            assert not torch.equal(found[key], value)
        else:
            assert torch.equal(found[key], value) or value.std() > 0


@pytest.mark.parametrize("name", SMALL if ALL else SMALL[3:])
def test_pools_heads_and_classes_leave_the_initial_weights_alone(name):
    reference = make(name).state_dict()
    swapped = make(name, pool="strided_conv", sites="all").state_dict()
    assert all(torch.equal(swapped[key], value) for key, value in reference.items())
    for other in (make(name, num_classes=7), make(name, head="global_max", pool="lp")):
        trunk = other.features.state_dict()
        assert all(torch.equal(trunk[key.partition(".")[2]], v) for key, v in reference.items() if "features." in key)
    other = make(name, seed=1).state_dict()
    assert not any(torch.equal(other[key], value) for key, value in reference.items() if value.dim() == 4)


@pytest.mark.parametrize("head", HEADS.table)
def test_other_heads_take_the_last_map(head):
    small = {"levels": [2, 1]} if head == "spp" else {}
    model = make(
        "shufflenet_v2_x0_5",
        head=lambda channels, num_classes, size: create_head(head, channels, num_classes, size, **small),
        small_stem=True,
        input_size=(64, 64),
    )
    assert model.head.channels == model.channels == 1024
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_sites_can_be_fewer_and_each_have_its_own():
    model = make("resnet18", pool="lp", sites="layer2,maxpool")
    assert [entry.name for entry in model.swap_report.replaced] == [
        "maxpool",
        "layer2.0.conv1",
        "layer2.0.downsample.0",
    ]
    model = make(pool=["lp", "native", "average", "fractional_max", "fractional_max"])
    assert [type(pool) for pool in sites(model)] == [
        POOLS.find(pool) for pool in ("lp", "average", "fractional_max", "fractional_max")
    ]
    assert isinstance(model.features[2], nn.MaxPool2d)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"name": "resnet19"},
            "model torchvision: name 'resnet19' is none of torchvision's nets. Did you mean 'resnet1",
        ),
        ({"name": "vit_b_16"}, "name 'vit_b_16' has no last map that another head could take"),
        ({"name": "maxvit_t"}, "name 'maxvit_t' has no last map"),
        ({"name": "vgg11", "small_stem": True}, "small_stem must be false for vgg11, whose first convolution has no"),
        ({"small_stem": 1}, "small_stem must be true or false, got 1"),
        ({"sites": "maxpol"}, "model torchvision: sites: 'maxpol' is neither .* Did you mean 'maxpool'"),
        ({"pool": ["max", "lp"]}, "pool: a list of 2 pools, but the model has 4 sites"),
        ({"pool": ["max"] * 5}, "pool: a list of 5 pools, but the model has 4 sites"),
        ({"pool": "max", "sites": "avgpool"}, "pool: the model has no site where one could stand"),
        (
            {"pool": lambda channels: nn.MaxPool2d(4)},
            r"pool: the pool's ratio is 4, this site's stride 2 \(site features.0\)",
        ),
        ({"input_size": (4, 4)}, "images of 4x4 do not fit"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],  # an address is another one in each process
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_transformers_are_the_only_ones_left_out():
    refused = {name for name in models.list_models(module=models) if name.startswith(("vit_", "maxvit_"))}
    assert len(refused) == 6
    model = make("swin_t", input_size=(64, 64)).eval()  # its maps can be seen as such
    assert model.features(torch.randn(1, 3, 64, 64)).shape == (1, 768, 2, 2)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    assert Torchvision.__doc__
