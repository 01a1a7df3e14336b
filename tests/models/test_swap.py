"""poolbench.swap: another pool in a net that exists, every map as large as before, everything else untouched."""

import copy
import io
import pickle
import warnings
from collections import Counter
from functools import cache

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

import poolbench
from poolbench.measure.cost import cost
from poolbench.models.sites import is_site
from poolbench.models.survey import Window, image_size, survey
from poolbench.models.swap import SwapReport, swap
from poolbench.models.swapped import SwappedPool2d
from poolbench.pooling import POOLS, create_pool
from tests.width import ALL

# Net -> the side of an image that is quick, and what is there to replace, counted in the papers and the sources.
NETS = {
    "resnet18": (64, {"strided": 7, "maxpool": 1}),  # the stem, three stages of two branches each, the pool
    "vgg11_bn": (64, {"maxpool": 5}),
    "alexnet": (96, {"strided": 1, "maxpool": 3}),
    "densenet121": (64, {"strided": 1, "maxpool": 1, "avgpool": 3}),
    "googlenet": (64, {"strided": 1, "maxpool": 4}),
    "inception_v3": (96, {"strided": 5, "maxpool": 2}),
    "mobilenet_v2": (64, {"strided": 5}),
    "mobilenet_v3_small": (64, {"strided": 5}),
    "squeezenet1_1": (64, {"strided": 1, "maxpool": 3}),
    "shufflenet_v2_x0_5": (64, {"strided": 7, "maxpool": 1}),
    "convnext_tiny": (64, {"strided": 3}),
    "regnet_y_400mf": (64, {"strided": 9}),
    "mnasnet0_5": (64, {"strided": 5}),
    "timm:resnet10t": (64, {"strided": 4, "avgpool": 3, "maxpool": 1}),
    "timm:resnetblur18": (64, {"strided": 4, "blurpool": 4}),
    "timm:hrnet_w18_small": (64, {"strided": 23}),
    "timm:convnext_atto": (64, {"strided": 3}),
    "timm:efficientvit_b0": (64, {"strided": 5}),
    "timm:ghostnet_050": (64, {"strided": 9}),
    "timm:tf_mobilenetv3_small_minimal_100": (63, {"strided": 5}),  # padding "same" of TensorFlow
    "timm:test_nfnet": (63, None),  # filters standardised in the forward pass
    "timm:test_byobnet": (64, None),
}

# In the quick suite: one net of each kind of layer, border and padding.
KINDS = (
    "resnet18",
    "densenet121",
    "squeezenet1_1",
    "convnext_tiny",
    "timm:resnetblur18",
    "timm:tf_mobilenetv3_small_minimal_100",
    "timm:test_nfnet",
    "timm:test_byobnet",
)

every_net = pytest.mark.parametrize("name", NETS if ALL else KINDS)


@cache
def original(name):
    torch.manual_seed(0)
    if name.startswith("timm:"):
        net = timm.create_model(name.removeprefix("timm:"), num_classes=5)
    elif name.startswith("vgg"):  # without the layers that are large and of no interest
        features = models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=True)
        net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5))
    else:
        options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        net = models.get_model(name, weights=None, num_classes=5, **options)
    return net.eval()


def images(name, count=2):
    side = NETS[name][0]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def swapped(name, pool="max", **options):
    side = NETS[name][0]
    return swap(copy.deepcopy(original(name)), pool, input_size=(side, side), **options)


class Small(nn.Module):
    """One of each kind of site."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 4, stride=4)
        self.pool2 = nn.AvgPool2d(2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.pool1(F.relu(self.norm1(self.conv1(x))))
        return self.fc(self.pool2(self.conv2(x)).mean((2, 3)))


def pools(net):
    return {name: module for name, module in net.named_modules() if is_site(module)}


def names(entries):
    return [entry.name for entry in entries]


@every_net
def test_known_nets_keep_their_sizes_and_weights(name):
    net = swapped(name)
    expected = NETS[name][1]
    if expected is not None:
        assert Counter(entry.kind for entry in net.swap_report.replaced) == expected
    assert net(images(name)).shape == (2, 5)
    state = net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in original(name).state_dict().items())
    sizes = {place.name: place.outputs for place in survey(net, (3, 96, 128))}
    assert all(place.outputs == sizes[place.name] for place in survey(original(name), (3, 96, 128)) if place.module)


@every_net
def test_a_pool_that_drops_pixels_is_what_a_stride_does(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some have no stride
        net = swapped(name, "subsample", sites="strided")
    sides = (NETS[name][0], NETS[name][0] + 1, 97) if "hrnet" not in name else (64, 96)  # which takes no odd ones
    for side in sides:
        x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
        expected = original(name)(x)
        scale = expected.abs().max().item()
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "timm:resnetblur18", "timm:test_nfnet", "timm:ghostnet_050"],
)
def test_known_nets_train_and_come_back(name):
    net = swapped(name, "lip").train()
    F.cross_entropy(net(images(name, 3)), torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert any(p.grad.abs().sum() > 0 for pool in pools(net).values() for p in pool.parameters())
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.eval()
    x = images(name)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again = swapped(name, "lip", seed=1)
    again.load_state_dict(torch.load(file, weights_only=True))
    for other in (again, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
    assert str(pickle.loads(pickle.dumps(net)).swap_report) == str(net.swap_report)


@pytest.mark.parametrize("pool", POOLS.table)
def test_every_pool_stands_everywhere(pool):
    net = swap(Small(), pool, sites="all,patchify")
    assert len(net.swap_report.replaced) == 4
    assert all(type(module) is POOLS.find(pool) for module in pools(net).values())
    with torch.no_grad():
        for size in ((64, 64), (75, 90)):
            x = torch.randn(2, 3, *size)
            assert Small().pool2(Small().conv2(Small().pool1(Small().conv1(x)))).shape[2:] == _last_map(net, x)
    net.train()(torch.randn(4, 3, 96, 96)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def _last_map(net, x):
    return net.pool2(net.conv2(net.pool1(net.conv1(x)))).shape[2:]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("ceil", [False, True])
def test_sizes_are_those_of_the_original_at_any_size(kernel, stride, padding, dilation, ceil):
    if kernel == 1 and padding:
        return  # torch refuses it
    layers = [
        nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil),
        nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil),
        nn.Conv2d(2, 2, kernel, stride, padding, dilation),
        nn.Conv2d(2, 2, kernel, stride, "valid", dilation),
    ]
    for layer in layers:
        net = nn.Sequential(nn.Conv2d(2, 2, 1), copy.deepcopy(layer))
        swap(net, lambda channels: nn.MaxPool2d(stride), sites=["1"], input_size=(40, 40))
        assert len(net.swap_report.replaced) == 1
        for height, width in ((13, 20), (14, 19), (15, 18), (16, 17), (40, 41)):
            x = torch.randn(1, 2, height, width)
            try:
                expected = layer(x).shape
            except RuntimeError:
                continue  # nothing would be left of it
            assert net[1](x).shape == expected


def test_a_map_of_which_nothing_is_left_is_refused_by_the_pool():
    net = swap(nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(2)), "average", input_size=(8, 8))
    with pytest.raises(ValueError, match="stride 2: nothing would be left"):
        net(torch.randn(1, 3, 1, 1))


def test_a_window_knows_how_often_it_fits():
    for same, expected in ((False, [0, 0, 1, 1, 2, 2]), (True, [1, 1, 2, 2, 3, 3])):
        window = Window((3, 3), (2, 2), same=same)
        assert [window.output_size((side, 9))[0] for side in range(1, 7)] == expected
    assert Window((2, 2), (2, 2), padding=(2, 2), ceil=True).output_size((3, 4)) == (2, 3)


def test_a_missing_row_is_repeated_and_a_superfluous_one_left_out():
    x = torch.arange(49.0).view(1, 1, 7, 7)
    longer = swap(nn.Sequential(nn.MaxPool2d(1, 2)), "max", input_size=(1, 7, 7))(x)
    assert longer[0, 0, :, -1].tolist() == [13, 27, 41, 48]
    shorter = swap(nn.Sequential(nn.MaxPool2d(3, 2)), "max", input_size=(1, 8, 8))(F.pad(x, (0, 1, 0, 1), value=99))
    assert torch.equal(shorter, F.max_pool2d(x[..., :6, :6], 2))


def test_max_pooling_by_ours_changes_nothing():
    net = swapped("vgg11_bn", "max", sites="maxpool")
    assert torch.equal(net(images("vgg11_bn")), original("vgg11_bn")(images("vgg11_bn")))


def test_two_pools_of_ratio_sqrt_2_make_one_of_2_and_two_of_2_one_of_4():
    net = swap(Small(), "fractional_max", sites="pool1")
    assert list(pools(net)) == ["pool1.pool.pool1", "pool1.pool.pool2"]
    net = swap(Small(), "average", sites="conv2")
    assert list(pools(net)) == ["conv2.pool.pool1", "conv2.pool.pool2"]
    y = F.conv2d(torch.ones(1, 4, 16, 16), net.conv2.weight, net.conv2.bias)
    torch.testing.assert_close(net.conv2(torch.ones(1, 4, 16, 16)), y[..., :1, :1].expand(-1, -1, 4, 4))


def test_a_ratio_that_fits_no_stride_is_skipped_with_the_reason():
    net = swap(Small(), "max", sites="all|patchify", kernel_size=4, stride=4)
    assert names(net.swap_report.replaced) == ["conv2"]
    assert net.swap_report.skipped[0].reason == "the pool's ratio is 4, this site's stride 2"
    with pytest.warns(UserWarning, match="replaced nothing in Small:(.|\n)*the pool's ratio is 1"):
        swap(Small(), lambda channels: nn.Identity())


class Odd(nn.Module):
    """What cannot be replaced, and why."""

    def __init__(self):
        super().__init__()
        self.still = nn.MaxPool2d(3, 1, 1)
        self.indices = nn.MaxPool2d(2, return_indices=True)
        self.uneven = nn.AvgPool2d((2, 3), (2, 3))
        self.steep = nn.AvgPool2d((3, 2), (3, 2))
        self.fractional = nn.FractionalMaxPool2d(2, output_ratio=0.5)
        self.vector = nn.AvgPool2d(2)
        self.twice = nn.MaxPool2d(2)
        self.unreached = nn.MaxPool2d(2)
        self.function = Function()
        self.whole = nn.AvgPool2d(6)
        self.adaptive = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):  # 96
        x, _ = self.indices(self.still(x))
        self.uneven(x), self.steep(x), self.fractional(x), self.vector(x[0])
        self.twice(torch.cat([self.twice(x)] * 2, 1))
        x = self.function(x)  # 6
        if self.training:
            x = self.unreached(x)
        return self.adaptive(x) + self.whole(x)


class Function(nn.Module):
    def forward(self, x):
        x = F.avg_pool2d(F.max_pool2d(x, 3, stride=1, padding=1), 2)
        x = F.max_pool2d(x, kernel_size=2)
        return F.conv2d(x, torch.ones(3, 3, 2, 2), None, 2)


def test_what_is_skipped_has_a_reason():
    with pytest.warns(UserWarning, match="replaced nothing in Odd:\nsite +kind"):
        report = swap(Odd(), "max", input_size=(3, 96, 96)).swap_report
    assert [(entry.name, entry.reason) for entry in report] == [
        ("still", "stride 1"),
        ("indices", "it returns indices too"),
        ("uneven", "uneven stride 2x3"),
        ("steep", "uneven stride 3x2"),
        ("fractional", "its windows are random"),
        ("vector", "its input is no map (N, C, H, W)"),
        ("twice", "called with maps of 3, 6 channels: give each place a module of its own"),
        ("function", "avg_pool2d called as a function: only modules can be replaced"),
        ("function", "max_pool2d called as a function: only modules can be replaced"),
        ("function", "conv2d called as a function: only modules can be replaced"),
        ("adaptive", "adaptive: it has no stride"),
        ("whole", "global: one window covers the whole map"),
        ("unreached", "not reached in evaluation"),
    ]
    with pytest.warns(UserWarning, match="it is the model itself"):
        swap(nn.MaxPool2d(2), "lp")
    with pytest.warns(UserWarning, match="native: left as it is"):
        swap(Small(), "native")


def test_the_report_is_a_table():
    report = swap(Small(), "max").swap_report
    assert isinstance(report, SwapReport)
    assert report[1].channels == 4
    assert (report[1].input_size, report[1].output_size) == ((112, 112), (56, 56))
    assert str(report).splitlines() == [
        "site   kind      action    channels  map                 reason",
        "conv1  strided   replaced  4         224x224 -> 112x112",
        "pool1  maxpool   replaced  4         112x112 -> 56x56",
        "conv2  patchify  skipped   6         56x56 -> 14x14      "
        "cuts the image into patches: name it, or patchify, in sites",
        "pool2  avgpool   replaced  6         14x14 -> 7x7",
        "3 replaced, 1 skipped",
    ]


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ("all", ["conv1", "pool1", "pool2"]),
        ("maxpool", ["pool1"]),
        ("avgpool", ["pool2"]),
        ("strided", ["conv1"]),
        ("patchify", ["conv2"]),
        ("maxpool, strided", ["conv1", "pool1"]),
        ("maxpool|avgpool", ["pool1", "pool2"]),
        (["pool2", "conv2"], ["conv2", "pool2"]),
        (("avgpool", "conv1"), ["conv1", "pool2"]),
        (lambda name, module: isinstance(module, nn.Conv2d) or name.endswith("2"), ["conv1", "conv2", "pool2"]),
    ],
    ids=lambda value: "function" if callable(value) else str(value),
)
def test_sites_are_chosen_by_kind_name_or_function(sites, expected):
    net = swap(Small(), "lp", sites=sites)
    assert names(net.swap_report.replaced) == expected
    for name in ("pool1", "pool2"):
        assert isinstance(getattr(net, name), SwappedPool2d) == (name in expected)


def test_a_name_stands_for_what_is_inside():
    net = swapped("resnet18", sites="layer2|layer4.0.conv1")
    assert names(net.swap_report) == ["layer2.0.conv1", "layer2.0.downsample.0", "layer4.0.conv1"]


def test_a_list_names_one_pool_per_site_in_forward_order():
    net = swap(Small(), ["lp", "average", "native"])
    assert [type(pool) for pool in pools(net).values()] == [POOLS.find("lp"), POOLS.find("average")]
    assert net.swap_report.skipped[-1].reason == "native: left as it is"
    assert isinstance(net.pool2, nn.AvgPool2d)
    with pytest.raises(ValueError, match="a list of 2 pools, but the model has 3 sites"):
        swap(Small(), ["lp", "max"])
    with pytest.raises(ValueError, match="a list of 4 pools, but the model has 3 sites"):
        swap(Small(), ["lp"] * 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sites": "maxpol"}, "'maxpol' is neither maxpool, .* nor a module of the model. Did you mean 'maxpool'"),
        ({"sites": "norm1"}, "nothing in module 'norm1' makes a map smaller"),
        ({"sites": 3}, "sites must be maxpool, .* got 3"),
        ({"sites": []}, "sites must be"),
        ({"input_size": 32}, "input_size must be .height, width. or .channels, height, width. in pixels, got 32"),
        ({"input_size": (3, 32, 0)}, "input_size must be"),
        ({"input_size": (1, 64, 64)}, "Small does not take an image of 1x64x64 .* at conv1: "),
        ({"input_size": (4, 4)}, "Small does not take an image of 3x4x4"),
        ({"pool": "maxx"}, "unknown pool 'maxx'. Did you mean 'max'"),
        ({"pool": nn.MaxPool2d(2)}, "MaxPool2d is made already"),
        ({"pool": nn.MaxPool2d}, "needs a value for kernel_size"),
        ({"kernel": 3}, "has no option 'kernel'. Did you mean 'kernel_size'"),
        (
            {"pool": lambda channels: nn.Conv2d(channels, 8, 2, 2)},
            "site conv1: the pool gave .*keep the number of chan",
        ),
        (
            {"kernel_size": 5, "stride": 2, "input_size": (32, 32)},
            r"site pool2 \(map of 2x2\): .*kernel_size 5 is larger",
        ),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],  # an address is another one in each process
)
def test_errors_name_what_is_wrong_and_leave_the_model_as_it_was(options, words):
    net = Small()
    before = str(net), net.state_dict().keys()
    with pytest.raises(ValueError, match=words):
        swap(net, **{"pool": "max", **options})
    assert (str(net), net.state_dict().keys()) == before
    assert not hasattr(net, "swap_report")


def test_finding_sites_moves_nothing():
    net = Small()
    net.norm1.eval()  # frozen
    state = copy.deepcopy(net.state_dict())
    generator = torch.get_rng_state()
    swap(net, "stochastic")
    assert torch.equal(torch.get_rng_state(), generator)
    assert net.training
    assert not net.norm1.training
    assert all(module.training for module in pools(net).values())
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks")
    assert not any(getattr(module, kind) for module in net.modules() for kind in hooks)
    assert not any(module.training for module in swap(Small().eval(), "lip").modules())


def test_new_weights_follow_the_seed():
    def weights(seed):
        torch.rand(3)
        net = swap(Small(), "strided_conv", seed=seed)
        return [p for pool in pools(net).values() for p in pool.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(0), weights(0), strict=True))
    assert not torch.equal(weights(0)[0], weights(1)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pools_have_the_precision_of_the_model(dtype):
    net = swap(Small().to(dtype), "lip")
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net(torch.randn(2, 3, 64, 64, dtype=dtype)).dtype == dtype


def test_the_cost_of_pools_is_counted():
    net = swap(Small().eval(), "soft", sites="pool1")
    pool = net.pool1.pool
    assert cost(net, (64, 64))["pool_flops"] == pool.flops((32, 32)) > 0


def test_a_module_in_two_places_is_replaced_in_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.MaxPool2d(2)
            self.parts = nn.Sequential(self.first)

        def forward(self, x):
            return self.parts(self.second(self.first(x)))

    net = swap(Twice(), "lp", input_size=(3, 32, 32))
    assert net.first is net.second is net.parts[0]
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 3, 4, 4)
    assert len(net.swap_report) == 1


def test_swapping_again_changes_the_pools_alone():
    net = swap(Small(), "strided_conv")  # a pool with a stride of its own inside
    swap(net, "blur_average", sites="all")
    once = swap(Small(), "blur_average", sites="all")
    assert {type(pool) for pool in pools(net).values()} == {POOLS.find("blur_average")}
    assert list(pools(net)) == list(pools(once))
    assert str(net.swap_report) == str(once.swap_report)
    once.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net.eval()(x), once.eval()(x))


def test_a_convolution_keeps_its_class_and_what_is_hooked_to_it():
    net = Small()
    seen = []
    net.conv1.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    swap(net, "max", sites="conv1", input_size=(64, 64))
    assert isinstance(net.conv1, nn.Conv2d)
    assert net.conv1.weight is optimizer.param_groups[0]["params"][0]
    assert seen[-1] == (2, 4, 32, 32)


def test_maps_stay_channels_last():
    net = swap(Small(), "max", sites="all").to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 65, 67).to(memory_format=torch.channels_last)
    assert net.pool1(net.conv1(x)).is_contiguous(memory_format=torch.channels_last)


def test_it_compiles_in_one_graph_and_exports():
    torch._dynamo.reset()
    net, x = swap(Small().eval(), "average", sites="all,patchify"), torch.randn(2, 3, 75, 66)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x))
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))


def test_gradients_reach_through_repeated_and_cropped_rows():
    layers = nn.Sequential(nn.Conv2d(1, 2, 3, 2, padding=1), nn.AvgPool2d(3, 2)).double()
    net = swap(layers, "average", input_size=(11, 13))
    assert torch.autograd.gradcheck(net, torch.randn(1, 1, 11, 13, dtype=torch.float64, requires_grad=True))


def test_blurs_of_antialiased_cnns_are_known():
    antialiased_cnns = pytest.importorskip("antialiased_cnns")
    net = nn.Sequential(nn.Conv2d(3, 4, 1), antialiased_cnns.BlurPool(4, filt_size=4, stride=2))
    size = net(torch.zeros(1, 3, 17, 18)).shape
    swap(net, "lp", input_size=(32, 32))
    assert names(net.swap_report.replaced) == ["1"]
    assert net(torch.zeros(1, 3, 17, 18)).shape == size


def test_timm_tells_the_size_of_its_images():
    net = timm.create_model("test_resnet", num_classes=5)
    report = swap(net, "max").swap_report
    assert report[0].input_size == net.default_cfg["input_size"][-2:]


def test_the_first_convolution_tells_the_channels_of_an_image():
    for channels, expected in ((1, 1), (4, 4), (48, 3)):  # 48: of images cut into 4x4 cells
        assert image_size(nn.Sequential(nn.Conv2d(channels, 2, 3)), (32, 40)) == (expected, 32, 40)
    net = swap(timm.create_model("test_resnet", in_chans=1, num_classes=5), "max")
    assert net.swap_report.replaced


def test_it_is_public():
    assert poolbench.swap is swap
    assert create_pool("max", 3).ratio == 2  # what the counts above assume


def test_an_activation_after_a_site_does_not_write_over_what_the_pool_keeps():
    model = models.squeezenet1_1(num_classes=5)  # a convolution of stride 2 under an in-place ReLU
    swap(model, "strided_conv", input_size=(64, 64))
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
