"""The YAML of a component shows every option with the default of its signature; a library user and Hydra agree."""

import inspect

import pytest
import yaml

from poolbench.configuration import composer, config_dir
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS
from poolbench.registry import locate

REGISTRIES = {"pool": POOLS, "head": HEADS, "model": MODELS}
GROUPS = ("pool", "head", "model", "optimizer", "schedule")
GIVEN = {"channels", "num_classes", "size", "input_size", "pool", "model"}  # by whoever builds it, never by the config
WITHOUT_OPTIONS = ("custom", "per_site", "native")
FILES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((config_dir() / group).glob("*.yaml"))
    if path.stem not in WITHOUT_OPTIONS
]


@pytest.fixture(scope="module")
def configs():
    with composer() as one:
        yield one


def plain(value):
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def signature(target):
    parameters = inspect.signature(locate(target, target)).parameters
    return {name: plain(p.default) for name, p in parameters.items() if name not in GIVEN}


@pytest.mark.parametrize(("group", "choice"), FILES)
def test_a_file_shows_every_option_with_its_default(configs, group, choice):
    options = dict(configs.block(group, choice))
    defaults = signature(options.pop("_target_"))
    assert inspect.Parameter.empty not in defaults.values()
    assert list(options) == list(defaults)  # in the order of the signature, too
    text = yaml.safe_load((config_dir() / group / f"{choice}.yaml").read_text())
    preset = choice not in REGISTRIES[group].table if group in REGISTRIES else "defaults" in text
    if preset:
        return  # it changes some values of another
    assert options == defaults
    assert {name: type(value) for name, value in options.items()} == {
        name: type(value) for name, value in defaults.items()
    }


@pytest.mark.parametrize("group", REGISTRIES)
def test_every_name_of_the_table_has_its_file(configs, group):
    registry = REGISTRIES[group]
    for name in registry.table:
        target = configs.block(group, name)["_target_"]
        assert locate(target, target) is registry.find(name)
        assert target == f"poolbench.{registry.find(name).__module__.split('.')[1]}.{registry.find(name).__name__}"


@pytest.mark.parametrize("group", REGISTRIES)
def test_every_file_leads_to_something_of_the_table(configs, group):
    known = [REGISTRIES[group].find(name) for name in REGISTRIES[group].table]
    for choice in configs.choices(group):
        if choice not in WITHOUT_OPTIONS:
            target = configs.block(group, choice)["_target_"]
            assert locate(target, target) in known


@pytest.mark.parametrize("group", REGISTRIES)
def test_a_component_of_your_own_starts_without_options(configs, group):
    ours = dict.fromkeys(("swap_sites", "swap_min_channels", "load_weights")) if group == "model" else {}
    assert configs.block(group, "custom") == {"_target_": "???", **ours}


def test_pools_per_site_start_without_a_list(configs):
    assert configs.block("pool", "per_site") == {"sites": "???"}
