"""Tools that trace nets take ours and swapped ones: torch.fx and what stands on it, torch.jit.trace."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_fx
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

import poolbench
from poolbench.measure.cost import cost
from poolbench.models.sites import is_site


class Small(nn.Module):
    """One of each kind of site, called by the argument names of torch; its maps are odd, so that all is resized."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.largest = nn.MaxPool2d(3, 2, padding=1)
        self.mean = nn.AvgPool2d(2, ceil_mode=True)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(input=x)))
        return self.mean(input=self.largest(input=x))


def swapped(pool="lip", **options):
    torch.manual_seed(0)
    return poolbench.swap(Small(), pool, input_size=(30, 30), **options).eval()


IMAGES = torch.randn(2, 3, 30, 30, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pool", ["lip", "fractional_max"])  # one stands at a site, and two
def test_a_swapped_net_is_traced_with_its_layers_whole(pool):
    net = swapped(pool)
    assert len(net.swap_report.replaced) == 3
    traced = torch.fx.symbolic_trace(net)
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert called == ["conv", "norm", "largest", "mean"]
    assert torch.equal(traced(IMAGES), net(IMAGES))
    assert torch.equal(copy.deepcopy(traced)(IMAGES), net(IMAGES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants
        assert torch.equal(torch.jit.trace(net, (IMAGES,), check_trace=False)(IMAGES), net(IMAGES))


def test_quantisation_takes_a_swapped_net():
    net = swapped("max")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its successor
        observed = prepare_fx(copy.deepcopy(net), get_default_qconfig_mapping("x86"), (IMAGES,))
    torch.testing.assert_close(observed(IMAGES), net(IMAGES))


def test_torchvision_takes_features_out_of_a_swapped_net():
    net = poolbench.swap(resnet18(num_classes=5), "max", input_size=(32, 32)).eval()
    features = create_feature_extractor(net, {"maxpool": "first", "layer4": "last"})
    found = features(IMAGES)
    assert found["first"].shape == (2, 64, 8, 8)
    assert found["last"].shape == (2, 512, 1, 1)


def test_a_swapped_net_serves_no_images():
    net = swapped().train()
    images = torch.zeros(0, 3, 30, 30, requires_grad=True)
    y = net(images)
    assert y.shape == (0, 4, 4, 4)
    y.sum().backward()
    assert images.grad.shape == images.shape


def test_pools_called_by_name_are_counted_and_measured():
    class Named(nn.Module):
        def __init__(self, pool):
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 1), pool

        def forward(self, x):
            return self.pool(input=self.conv(x))

    class Model(poolbench.models.sites.Trunk):
        def __init__(self, pool):
            super().__init__()
            self.features, self.channels = nn.Sequential(Named(pool(4))), 4

    net = poolbench.create_model(Model, pool="max", num_classes=2, input_size=(8, 8))
    assert any(is_site(module) for module in net.modules())
    assert cost(net, (8, 8))["pool_flops"] > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fractional_net", {"pool": "native"}),
        ("fast_cnn", {"mirror": True, "widths": (8, 8, 8), "depth": 1}),
        ("cuda_convnet", {"variant": "11pct"}),
        ("lenet", {"pool": "native", "variant": "lenet5"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_with_layers_of_their_own_are_traced_and_serve_no_images(name, options):
    features = poolbench.create_model(name, **{"pool": "max", **options}).eval().features
    x = torch.randn(1, 3, 32, 32)
    expected = features(x)
    torch.testing.assert_close(torch.fx.symbolic_trace(features)(x), expected)
    assert features(x[:0]).shape == (0, *expected.shape[1:])
