"""Nets that somebody else built: timm's, torchvision's, anybody's."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench.assembly import build_model
from poolbench.configuration import ConfigError, composer
from poolbench.limits import check
from poolbench.measure.cost import cost
from poolbench.models.last_map import find_cut
from poolbench.models.own_net import as_trunk
from poolbench.models.sites import Heads, Sites, build, derive, is_site
from poolbench.models.swapped import SwappedPool2d
from poolbench.records.identity import identity, run_id
from poolbench.trained import load
from tests.commands import run_poolbench
from tests.models import own_nets

IMAGE = (16, 16)


def made(builder, pool="native", head="native", seed=0, classes=10, image=IMAGE, **options):
    return build(as_trunk(builder, classes), Sites(pool, seed), Heads(head), classes, image, seed, options)


def images(count=4, image=IMAGE):
    return torch.randn(count, 3, *image, generator=torch.Generator().manual_seed(1))


def weights(net, name):
    return dict(net.named_parameters())[f"features.net.{name}"]


def test_native_is_the_net_as_it_was_built():
    net = made(own_nets.small)
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "model"))
        expected = own_nets.Small(10)
    for (name, a), b in zip(expected.state_dict().items(), net.features.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    x = images()
    assert torch.equal(net.eval()(x), expected.eval()(x))
    assert not any(map(is_site, net.modules()))


def test_every_pool_begins_with_the_same_weights_and_another_seed_with_others():
    nets = [made(own_nets.small, pool) for pool in ("native", "average", "strided_conv")]
    others = made(own_nets.small, "average", seed=1)
    for name in ("stem.weight", "body.2.weight", "fc.weight"):
        assert all(torch.equal(weights(net, name), weights(nets[0], name)) for net in nets)
        assert not torch.equal(weights(others, name), weights(nets[0], name))


def test_pools_stand_wherever_maps_get_smaller():
    net = made(own_nets.small, "blur_max")
    assert [entry.name for entry in net.swap_report.replaced] == ["stem", "pool"]
    assert sum(map(is_site, net.modules())) == 2
    only = made(own_nets.small, "blur_max", swap_sites="maxpool")
    assert [entry.name for entry in only.swap_report.replaced] == ["pool"]
    assert isinstance(only.features.net.pool, SwappedPool2d)


def test_a_thin_stem_is_left_alone_when_asked():
    net = made(own_nets.small, "average", swap_min_channels=5)
    found = {entry.name: entry.reason for entry in net.swap_report}
    assert (found["stem"], found["pool"]) == ("4 channels, fewer than 5", "")
    with pytest.raises(ValueError, match=r"swap_min_channels must be null or a whole number of at least 1, got 0"):
        made(own_nets.small, "average", swap_min_channels=0)


@pytest.mark.parametrize("top", ["module", "mean", "relu", "flatten", "vgg"])
@pytest.mark.parametrize("pool", ["native", "average"])
def test_a_head_takes_the_place_of_the_global_pool_and_the_classifier(top, pool):
    net = made(own_nets.small, pool, "global_average", top=top).eval()
    x = images()
    own = net.features.net
    maps = own.pool(own.body(own.stem(x)))
    assert torch.equal(net.features(x), F.relu(maps) if top == "relu" else maps)
    assert net(x).shape == (4, 10)
    # Nothing is left that no gradient reaches.
    net.train().loss(x, torch.arange(4))[0].backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert not any("fc" in name for name, _ in net.named_parameters())


@pytest.mark.parametrize(
    ("builder", "channels"), [(own_nets.shrinking, 10), (own_nets.class_maps, 6), (own_nets.lending, 8)]
)
def test_the_last_map_is_that_before_the_global_pool_and_before_a_classifier_of_maps(builder, channels):
    net = made(builder, head="gem", classes=7, image=(64, 64))
    assert net.channels == net.head.channels == channels
    logits = net(images(image=(64, 64)))
    assert logits.shape == (4, 7)
    logits.sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []  # what follows is gone, no more


def test_of_a_mean_and_a_classifier_the_head_global_average_is_the_net_itself():
    native = made(own_nets.small, top="mean").eval()
    ours = made(own_nets.small, head="global_average", top="mean").eval()
    (layer,) = [module for module in ours.head.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(native.features.net.fc.weight)
        layer.bias.copy_(native.features.net.fc.bias)
    assert torch.allclose(ours(images()), native(images()), atol=1e-6)


def test_where_a_global_pool_cannot_be_found_it_says_why_and_native_works():
    assert made(own_nets.small, "average", top="two")(images()).shape == (4, 10)
    said = r"head must be native for Small, .* what follows pool, its last layer that sees a map, is neither its mean"
    with pytest.raises(ValueError, match=said):
        made(own_nets.small, "average", "gem", top="two")


def test_finding_changes_nothing():
    net = own_nets.Small(10).train()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    find_cut(net, (3, *IMAGE))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_another_number_of_classes_makes_the_last_layer_anew():
    net = made(own_nets.fixed, "average", classes=10)
    assert net(images()).shape == (4, 10)
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "model"))
        expected = own_nets.fixed()
    assert torch.equal(weights(net, "stem.weight"), expected.stem.weight)
    assert weights(net, "fc.weight").shape == (10, 8)


def test_logits_are_found_among_what_a_net_gives():
    net = made(own_nets.with_auxiliary, "average").train()
    loss, logits = net.loss(images(), torch.arange(4))
    assert logits.shape == (4, 10)
    loss.backward()


@pytest.mark.parametrize(
    ("builder", "options", "said"),
    [
        (own_nets.no_module, {}, "no_module must give a torch.nn.Module, got str"),
        (own_nets.a_map, {}, r"Conv2d gives \(2, 10, 14, 14\) for 2 images; logits \(N, K\) are needed"),
        (own_nets.small, {"depth": 3}, r"small cannot be called with depth, num_classes: .*'depth'"),
        (own_nets.small, {"num_classes": 3}, r"num_classes is that of the data \(10\), and not to be given"),
        (own_nets.small, {"top": "flatten", "width": 6}, "Small does not take images of 12x12 pixels"),
        ("tests", {}, "_target_ must be a class or a function, got 'tests'"),
    ],
)
def test_what_is_no_net_is_told(builder, options, said):
    with pytest.raises(ValueError, match=said):
        made(builder, "average", image=(12, 12) if "width" in options else IMAGE, **options)


@pytest.fixture
def trained_file(tmp_path):
    torch.manual_seed(5)
    net = own_nets.Small(10)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    return net, tmp_path / "weights.pt"


def test_weights_come_from_a_file_before_the_pools_do(trained_file):
    net, file = trained_file
    for pool in ("native", "average"):
        ours = made(own_nets.small, pool, load_weights=str(file))
        assert all(torch.equal(weights(ours, name), p) for name, p in net.named_parameters())


def test_what_wraps_weights_is_taken_off_and_other_classes_are_left_out(trained_file, tmp_path):
    net, _ = trained_file
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    ours = made(own_nets.small, classes=4, load_weights=str(tmp_path / "wrapped.pth"))
    assert torch.equal(weights(ours, "body.2.weight"), net.body[2].weight)
    assert weights(ours, "fc.weight").shape == (4, 8)


def test_safetensors_are_read(trained_file, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    net, _ = trained_file
    safetensors.save_file(net.state_dict(), tmp_path / "weights.safetensors")
    ours = made(own_nets.small, load_weights=str(tmp_path / "weights.safetensors"))
    assert torch.equal(weights(ours, "fc.weight"), net.fc.weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "fc.bias"}, "does not fit Small: it lacks fc.bias"),
        (lambda state: {**state, "extra": torch.ones(1)}, "it has extra, which the net has not"),
        (
            lambda state: {**state, "stem.weight": torch.ones(4, 3, 5, 5)},
            r"stem.weight \(4, 3, 5, 5\) for \(4, 3, 3, 3\)",
        ),
        (lambda state: {"epoch": 3}, "it holds no state dict"),
        (lambda state: nn.Linear(2, 2), "it cannot be read as tensors alone"),
    ],
)
def test_weights_that_do_not_fit_are_told(trained_file, tmp_path, change, said):
    net, _ = trained_file
    torch.save(change(net.state_dict()), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"load_weights='.*other.pt'.*{said}"):
        made(own_nets.small, load_weights=str(tmp_path / "other.pt"))


def test_a_file_that_is_another_one_than_it_was_is_refused(trained_file):
    with pytest.raises(ValueError, match="its content is not what it was when the cell was named"):
        made(own_nets.small, load_weights=str(trained_file[1]), weights_content="0123456789")


TIMM = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet", "test_mambaout"]
TORCHVISION = ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small"]


@pytest.mark.parametrize("head", ["native", "gem"])
@pytest.mark.parametrize("name", [*TIMM, *TORCHVISION])
def test_nets_of_six_families_of_timm_and_four_of_torchvision(name, head):
    timm, torchvision = pytest.importorskip("timm"), pytest.importorskip("torchvision")
    of_timm = name in TIMM
    builder = timm.create_model if of_timm else getattr(torchvision.models, name)
    options = {"model_name": name} if of_timm else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's own weights
        net = made(builder, "blur_average", head, image=(64, 64), **options)
    assert net.swap_report.replaced
    x = images(2, (64, 64))
    loss, logits = net.train().loss(x, torch.tensor([1, 2]))
    loss.backward()
    assert logits.shape == (2, 10)
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert cost(net, (64, 64))["forward_flops"] > 0
    if head == "gem":  # the native ones may average a map to a size of their own
        assert net.eval()(images(2, (96, 96))).shape == (2, 10)


def test_a_row_of_tokens_is_no_map():
    timm = pytest.importorskip("timm")
    options = {"model_name": "test_vit", "image": (160, 160)}
    assert made(timm.create_model, **options).eval()(images(1, (160, 160))).shape == (1, 10)
    with pytest.raises(ValueError, match=r"its last map is a row of .* tokens"):
        made(timm.create_model, head="gem", **options)


def config(*overrides):
    with composer() as composed:
        found = composed.complete(["data=shapes", *overrides])
    return found | {"run_id": run_id(found)}


OWN = ("model=custom", "model._target_=tests.models.own_nets.small")


def test_the_content_of_weights_names_a_cell_and_not_where_they_lie(trained_file, tmp_path):
    file = trained_file[1]
    moved = tmp_path / "moved.pt"
    moved.write_bytes(file.read_bytes())
    cells = [config(*OWN, f"model.load_weights={place}") for place in (file, moved)]
    assert cells[0]["run_id"] == cells[1]["run_id"] != config(*OWN)["run_id"]
    torch.save(own_nets.Small(10).state_dict(), moved)
    assert config(*OWN, f"model.load_weights={moved}")["run_id"] != cells[0]["run_id"]
    with pytest.raises(ConfigError, match=r"model.load_weights must be a file of weights, got 'none.pt'"):
        config(*OWN, "model.load_weights=none.pt")


def test_the_version_of_an_installed_builder_names_a_cell():
    timm = pytest.importorskip("timm")
    found = config("model=custom", "model._target_=timm.create_model", "+model.model_name=test_resnet")
    assert found["model"]["builder_version"] == f"timm {timm.__version__}"
    assert "timm" not in found["names"]["model"]
    other = copy.deepcopy(found)
    other["model"]["builder_version"] = "timm 0.1"
    assert run_id(other) != found["run_id"]
    assert "builder_version" not in config(*OWN)["model"]
    with pytest.raises(ConfigError, match=r"unknown option 'model.builder_version': poolbench fills it in itself"):
        config(*OWN, "+model.builder_version=3")


def test_options_that_are_null_name_no_other_cell():
    found = config(*OWN)
    older = copy.deepcopy(found)
    for key in ("swap_sites", "swap_min_channels", "load_weights"):
        del older["model"][key]
    assert run_id(older) == found["run_id"]
    assert "swap_sites" not in identity(found)["model"]
    assert config(*OWN, "model.swap_sites=maxpool")["run_id"] != found["run_id"]


def test_a_class_of_ours_takes_no_such_options():
    found = config("model=custom", "model._target_=poolbench.models.ConvNet", "model.swap_sites=maxpool")
    check(found)
    with pytest.raises(ConfigError, match=r"model.swap_sites is for nets that are none of poolbench's"):
        build_model(found, 10, (32, 32))
    del found["model"]["swap_sites"]
    assert build_model(found, 10, (32, 32))(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_cell_of_an_own_net_is_trained_loaded_and_probed(tmp_path):
    pytest.importorskip("timm")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes, width=8):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    words = ["data=shapes", "data.size=16", "data.train_samples=60", "data.test_samples=20", "trainer.epochs=1"]
    words += ["model=custom", "model._target_=mine.net", "+model.width=12", "trainer.batch_size=20"]
    done = run_poolbench(tmp_path, "sweep", "pool=native,average", *words)
    assert done.returncode == 0, done.stderr
    first, second = sorted((tmp_path / "runs").iterdir())
    assert (first.name.startswith("average-net-width=12"), second.name.startswith("native-net")) == (True, True)
    done = run_poolbench(
        tmp_path, "probe", str(first), "probe.consistency=[2]", "probe.site_shifts=[1]", "--trust", "mine"
    )
    assert done.returncode == 0, done.stderr
    assert "site_1_removed_1" in next(first.glob("probe-*.json")).read_text()


def test_a_record_of_an_own_net_is_loaded(tmp_path):
    words = ["data=shapes", "data.size=16", "data.train_samples=60", "data.test_samples=20", "trainer.epochs=1"]
    words += ["trainer.batch_size=20", "pool=average", "head=gem", *OWN]
    done = run_poolbench(tmp_path, "run", *words)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    with pytest.raises(ValueError, match=r"tests.*trust"):
        load(folder)
    trained = load(folder, trust=["tests"])
    assert trained.model(images(2)).shape == (2, 10)
