"""What people read of a component's name; folders and hashes are of the config and stay."""

import pytest

from poolbench.configuration import composer
from poolbench.records.collect import collect
from poolbench.records.groups import settings
from poolbench.records.identity import run_id
from poolbench.records.labels import cell_name, label, shortened, told_apart
from poolbench.records.read import read_records
from tests.report.synthetic import make_config, write_cell


@pytest.mark.parametrize(
    ("target", "options", "given", "shown"),
    [
        ("timm.create_model", {"model_name": "resnet18"}, "create_model(model_name=resnet18)", "resnet18 (timm)"),
        (
            "timm.create_model",
            {"model_name": "resnet18", "pretrained": True, "stages": ["a", "b"]},
            "create_model(model_name=resnet18,stages=[a,b],pretrained=true)",
            "resnet18 (timm, stages=[a,b], pretrained=true)",
        ),
        (
            "torchvision.models.get_model",
            {"name": "vgg11_bn"},
            "get_model(name=vgg11_bn)",
            "vgg11_bn (torchvision)",
        ),
        ("torchvision.models.resnet18", {}, "resnet18", "resnet18"),
        ("mypkg.nets.MyNet", {"name": "small"}, "MyNet(name=small)", "MyNet(name=small)"),  # a net and no builder
        ("mypkg.build", {"depth": 3}, "build(depth=3)", "build(depth=3)"),  # nothing says which
        ("timm.create_model", {"model_name": "resnet18"}, "mine", "mine"),  # a file of the user's own has a name
        ("poolbench.models.ConvNet", {"name": "x"}, "convnet(name=x)", "convnet(name=x)"),
    ],
)
def test_a_net_of_a_builder_has_its_own_name(target, options, given, shown):
    config = make_config(names__model=given, model={"_target_": target, **options})
    assert label(config, "model") == shown
    assert label(config, "head") == "global_average"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("fast_cnn_small(widths=[26,52,104])", "fast_cnn_small(26-52-104)"),
        ("convnet(widths=[25,46],depths=[2,2])", "convnet(25-46,depths=2-2)"),
        ("convnet(widths=[0.5])", "convnet(0.5)"),
        ("mine(shifts=[-1,1])", "mine(shifts=[-1,1])"),  # a dash would be read as a minus
        ("mine(pairs=[[1,2],[3,4]])", "mine(pairs=[[1,2],[3,4]])"),
    ],
)
def test_lists_of_a_nets_numbers_are_short(given, shown):
    config = make_config(names__model=given)
    assert label(config, "model") == shown
    assert shown in cell_name(config)
    assert config["names"]["model"] == given  # folders are named by it


def test_a_tuned_cell_says_so_and_cells_of_one_name_get_their_hash():
    config = make_config("lp", 3)
    tuned = {**config, "tuned": {"name": "default", "set": {"optimizer.lr": 0.02}}}
    assert cell_name(config) == "lp, seed 3, convnet, cifar10"
    assert cell_name(tuned) == "lp, seed 3, convnet, cifar10, tuned optimizer.lr=0.02"
    assert cell_name(make_config("lp", 3, names__head="spp")) == "lp, seed 3, spp, convnet, cifar10"
    names = told_apart({"a-0123456789": "x", "b-abcdef0123": "x", "c-1111111111": "y"})
    assert names == {"a-0123456789": "x, 012345", "b-abcdef0123": "x, abcdef", "c-1111111111": "y"}


@pytest.mark.parametrize("pool", ["lp", "strided_conv(kernel_size=2,norm=false,activation=false)"])
def test_a_name_is_shortened_to_its_room_and_keeps_its_seed(pool):
    name = f"{pool}, seed 1234, fast_cnn_small(26-52-104), cifar10"
    for room in range(16, 100):
        text = shortened(name, room)
        assert len(text) <= room
        assert "seed 1234" in text
        assert (text == name) == (len(name) <= room)
        assert text.startswith(pool[:1])


def test_tables_show_it_and_the_folder_stays_as_it_was(tmp_path):
    words = ["model=custom", "model._target_=timm.create_model", "+model.model_name=test_resnet", "data=shapes"]
    with composer() as compose:
        config = compose.complete(words)
    assert config["names"]["model"] == "create_model(model_name=test_resnet)"
    assert run_id(config).startswith("max-create_model-model_name=test_resnet-shapes-s0-")
    write_cell(tmp_path, {**config, "run_id": run_id(config)})
    records, problems = read_records(tmp_path)
    assert problems == []
    table = collect(records)
    assert table["model"].tolist() == ["test_resnet (timm)"]
    assert table["run_id"].tolist() == [run_id(config)]
    assert list(settings([config]).values()) == ["test_resnet (timm), global_average, shapes, 10 epochs"]
