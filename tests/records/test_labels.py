"""What people read of a component's name; folders and hashes are of the config and stay."""

import pytest

from poolbench.configuration import composer
from poolbench.records.collect import collect
from poolbench.records.groups import settings
from poolbench.records.identity import run_id
from poolbench.records.labels import label
from poolbench.records.read import read_records
from tests.report.synthetic import make_config, write_cell


@pytest.mark.parametrize(
    ("target", "options", "given", "shown"),
    [
        ("timm.create_model", {"model_name": "resnet18"}, "create_model(model_name=resnet18)", "resnet18 (timm)"),
        (
            "timm.create_model",
            {"model_name": "resnet18", "pretrained": True, "sizes": [4, 8]},
            "create_model(model_name=resnet18,sizes=[4,8],pretrained=true)",
            "resnet18 (timm, sizes=[4,8], pretrained=true)",
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
