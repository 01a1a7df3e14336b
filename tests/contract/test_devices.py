"""Heads, models and swapped nets on any device: made on meta and filled afterwards, made and run on accelerators of
each kind that are only imagined. For pools see the check ``devices`` of poolbench.testing."""

import pytest
import torch
from torch import nn

from poolbench import create_head, create_model, create_pool, swap
from poolbench.accelerator import KINDS, widest
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.models.sites import initialise
from poolbench.testing import Failed
from poolbench.testing.devices import devices as check_pool
from poolbench.testing.devices import imagined

HEAD_CASES = [(name, options) for name in HEADS.table for options in ({}, *HEADS.find(name).variants)]
# Options with which a model is quickly made, several where its layers differ in kind.
SMALL = {
    "convnet": ({"widths": (4, 6, 8)},),
    "resnet": ({"widths": (4, 6, 8), "blocks": 1, "head": "netvlad"},),
    "cuda_convnet": ({"variant": "18pct"}, {"variant": "11pct"}),
    "nin": ({"widths": (6, 5, 4, 6, 6, 6, 6, 6)},),
    "vgg": ({"width": 1 / 32, "depth": 11},),
    "all_cnn": ({"widths": (6, 8)},),
    "fractional_net": ({"width": 3, "depth": 2, "field": 80},),
    "capsnet": ({"width": 6, "types": 2}, {"variant": "baseline", "width": 6, "hidden": (7, 5)}),
    "fast_cnn": ({"widths": (4, 6, 8)}, {"widths": (4, 6, 8), "mirror": True, "pool": "lip"}),
    "spp_net": ({"widths": (4, 6, 8), "depth": 1},),
    "separable_net": ({"stem": 4, "widths": (4, 6, 8)},),
    "patch_net": ({"widths": (4, 6, 8), "depth": 1},),
    "torchvision": ({"name": "squeezenet1_1", "small_stem": True, "pool": "lps"},),
}
MODEL_CASES = [(name, options) for name in MODELS.table for options in SMALL.get(name, ({},))]
every_model = pytest.mark.parametrize(("name", "options"), MODEL_CASES, ids=lambda v: v if isinstance(v, str) else "")


class Small(nn.Sequential):
    """A net with a place of each kind."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        )


def tensors(module):
    return dict([*module.named_parameters(), *module.named_buffers()])


def devices(module):
    return {value.device.type for value in tensors(module).values()}


def check_meta(build, shape):
    """Made and run on meta; its weights, once there is memory for them, are those that it has when made on the CPU."""
    expected = build()
    with torch.device("meta"), torch.no_grad():
        made = build()
        assert devices(made) <= {"meta"}
        y = made.eval()(torch.empty(shape))
    assert y.is_meta
    made.train().to_empty(device="cpu")
    with torch.no_grad():
        for value in tensors(made).values():
            value.fill_(7)  # as likely as anything that the memory holds
    for one in (made, expected):
        initialise(one, seed=3)
    before, after = tensors(expected), tensors(made)
    assert before.keys() == after.keys()
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == []
    x = torch.rand(shape)
    assert torch.equal(made.eval()(x), expected.eval()(x))
    assert y.shape == expected(x).shape


def check_imagined(build, shape):
    for kind in KINDS:
        with imagined(kind), torch.no_grad():
            with torch.device(kind):
                made = build().eval()
                assert devices(made) <= {kind}
                assert made(torch.empty(shape)).device.type == kind
            # And where the CPU is the default.
            assert made(torch.empty(shape, device=kind)).device.type == kind


def test_heads_are_made_on_any_device_and_filled_anew():
    for name, options in HEAD_CASES:

        def build(name=name, options=options):
            return create_head(name, channels=6, num_classes=3, size=(5, 4), **options)

        check_meta(build, (2, 6, 5, 4))
        check_imagined(build, (2, 6, 5, 4))


@every_model
def test_models_are_made_on_any_device_and_filled_anew(name, options):
    side = 64 if name == "fractional_net" else 32

    def build():
        return create_model(name, input_size=(side, side), **options)

    check_meta(build, (1, 3, side, side))
    check_imagined(build, (1, 3, side, side))


def test_swapped_nets_are_made_on_any_device_and_filled_anew():
    for pool in ("lip", "blur_max"):

        def build(pool=pool):
            return swap(Small(), pool, input_size=(32, 32))

        check_meta(build, (1, 3, 32, 32))
        check_imagined(build, (1, 3, 32, 32))


@pytest.mark.parametrize("kind", KINDS)
def test_an_imagined_device_is_seen_as_of_its_kind(kind):
    with imagined(kind), torch.no_grad():
        x = torch.ones(2, 3, device=kind)
        for y in (x, x[:1].to(kind), torch.ones(2).to(f"{kind}:0"), torch.zeros_like(x), x.sum()):
            assert y.device.type == kind
        assert torch.ones(2).device.type == "cpu"
        assert torch.rand(3, dtype=widest(x.device), device=x.device).dtype == (
            torch.float32 if kind == "mps" else torch.float64
        )


class Wide(nn.Module):
    """Computes in float64 on the device it gets, which mps does not have."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return nn.functional.avg_pool2d(x.double(), 2).to(x)


def test_a_pool_that_computes_in_float64_whatever_the_device_is_caught():
    with pytest.raises(Failed, match=r"float64, which mps does not have"):
        check_pool(Wide)


def test_a_fitted_head_forgets_its_fit():
    head = create_head("mop", channels=6, num_classes=3)
    head.load_state_dict({**head.state_dict(), "fitted": torch.tensor(True), "bias": torch.ones(3)})
    initialise(head, seed=0)
    assert not any(buffer.any() for buffer in head.buffers())
    assert "fitted=False" in repr(head)


def test_weights_do_not_depend_on_the_default_device():
    """A seed gives those of the CPU: on meta there are none, and what is swapped into a net goes where the net is."""
    net, other = Small(), Small()
    with torch.device("meta"):
        swap(net, "lip", input_size=(32, 32), seed=5)
    swap(other, "lip", input_size=(32, 32), seed=5)
    assert all(torch.equal(v, tensors(other)[k]) for k, v in tensors(net).items() if ".pool" in k)
    net.to("meta")
    swap(net, "strided_conv", input_size=(32, 32))
    assert devices(net) == {"meta"}


def test_tied_weights_stay_tied_on_an_imagined_gpu():
    with imagined("cuda"), torch.device("cuda"):
        net = create_model("convnet", pool=lambda channels: create_pool("mixed", channels, per="net"), widths=(4, 6, 8))
    assert len({id(v) for k, v in net.named_parameters(remove_duplicate=False) if k.endswith("logit")}) == 1


def test_a_net_whose_layers_are_each_drawn_alone_is_mirrored_from_the_start():
    net = create_model("fast_cnn", widths=(4, 6, 8), mirror=True, pool="average").eval()
    x = torch.rand(1, 3, 33, 33)
    torch.testing.assert_close(net(x.flip(3)), net(x))
