"""What code a config may name when it is somebody else's."""

import pytest
import yaml

from poolbench.configuration import config_dir
from poolbench.data import DATA
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS
from poolbench.trust import check_trust

NAMED = sorted(
    {
        found["_target_"]
        for path in config_dir().rglob("*.yaml")
        if (content := yaml.safe_load(path.read_text(encoding="utf-8")))
        for found in (content, *(part for part in content.values() if isinstance(part, dict)))
        if found.get("_target_", "???") != "???"
    }
)
PLACES = sorted(
    place.replace(":", ".") for registry in (POOLS, HEADS, MODELS, DATA) for place in registry.table.values()
)


def test_all_that_our_configs_and_tables_name_is_trusted():
    assert len(NAMED) > 60
    for target in [*NAMED, *PLACES, "torch.nn.MaxPool2d", "torch.nn.Sequential", "torchvision.ops.SqueezeExcitation"]:
        check_trust({"pool": {"_target_": target}})


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "subprocess.run", "mypkg.MyPool", "poolbenchx.Pool", "torchx.nn.ReLU"),
        *("torch.load", "torch.hub.load", "torch.utils.data.DataLoader", "torch.utils.cpp_extension.load"),
        *("torch.nn.functional.relu", "torch.nn.init.zeros_", "torch.nn.utils.skip_init", "torch.nn.Parameter"),
        *("torch.nn.modules.module.OrderedDict", "torch.nn.NoSuchLayer", "torch.nn.ReLU.__init__", "torch.nn._Module"),
        *("torchvision.datasets.CIFAR10", "torchvision.models.resnet18", "torchvision.io.read_file"),
        *("poolbench.cli.main.main", "poolbench.registry.locate", "poolbench.training.process.set_up"),
        *("poolbench.models.sites.Trunk", "poolbench.records.files.write_text", "poolbench.pooling.max"),
        *("poolbench.pooling.lp.LpPool2d.forward", "poolbench.gallery.create_pool", "", ".", "MaxPool2d"),
        *(" torch.nn.ReLU", "torch.nn.ReLU\n", None, 3, ["os.system"], {"_target_": "os.system"}),
    ],
    ids=repr,
)
def test_other_code_is_not_trusted(target):
    with pytest.raises(ValueError, match=r"pool\.0\.inner\._target_"):
        check_trust({"seed": 0, "pool": [{"_target_": "torch.nn.ReLU", "inner": {"_target_": target}}]})


def test_naming_a_package_trusts_it_and_no_other():
    config = {"pool": {"_target_": "mypkg.sub.MyPool"}, "head": {"_target_": "poolbench.heads.GeM"}}
    check_trust(config, ["mypkg"])
    check_trust(config, "mypkg")
    check_trust(config, True)
    for others in ([], ["my"], ["mypkg.sub.My"], ["mypkg.other"], False):
        with pytest.raises(ValueError, match=r"mypkg\.sub\.MyPool"):
            check_trust(config, others)
    for wrong in ("", "my pkg", "mypkg.", "*", "a/b"):
        with pytest.raises(ValueError, match="names packages"):
            check_trust(config, [wrong])


def test_looking_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap_of_trust.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    with pytest.raises(ValueError, match="trap_of_trust"):
        check_trust({"pool": {"_target_": "trap_of_trust.Pool"}})
    check_trust({"pool": {"_target_": "trap_of_trust.Pool"}}, ["trap_of_trust"])
    assert not (tmp_path / "sprung").exists()
