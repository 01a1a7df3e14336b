"""From options to a completed config: every option there, names that tell settings apart, mistakes explained."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from poolbench.configuration import COMPONENTS, Composer, ConfigError, composer, config_dir
from poolbench.dotted import flatten
from poolbench.limits import check
from poolbench.overrides import parse, quoted
from poolbench.records.identity import run_id

LABELS = [
    (["pool=lp", "pool.p=3"], "pool", "lp(p=3)"),
    (["pool=lp", "pool.p=3.0"], "pool", "lp(p=3)"),
    (["pool=lp", "pool.p=2.5"], "pool", "lp(p=2.5)"),
    (["pool=lp", "pool.p=inf", "pool.norm=sum"], "pool", "lp(p=inf,norm=sum)"),
    (["pool=lp"], "pool", "lp"),
    (["pool=lp", "pool.p=2"], "pool", "lp"),
    (["pool=lp", "pool.p=2.0", "pool.learnable=false", "trainer.epochs=10"], "pool", "lp"),
    (["pool=strided_conv", "pool.norm=false"], "pool", "strided_conv(norm=false)"),
    (["pool.kernel_size=[3,2]", "pool.stride=2"], "pool", "max(kernel_size=[3,2])"),
    (["head.hidden=[64,32]"], "head", "global_average(hidden=[64,32])"),
    (["optimizer.lr=0.05"], "optimizer", "sgd(lr=0.05)"),
    (["data=cifar10", "data.root=elsewhere", "data.download=false"], "data", "cifar10"),
    (["data.validation=0.1", "data.augmentation.crop=1"], "data", "shapes"),
    (["pool=custom", "pool._target_=mypkg.MyPool"], "pool", "MyPool"),
    (["pool=custom", "pool._target_=mypkg.MyPool", "+pool.option=3"], "pool", "MyPool(option=3)"),
    (["pool=[max,average,{lp: {p: 3}}]"], "pool", "max+average+lp(p=3)"),
    (["pool=per_site", "pool.sites=[max,average,{lp: {p: 3}}]"], "pool", "max+average+lp(p=3)"),
    (["model=convnet_small"], "model", "convnet_small"),
    ([], "pool", "max"),
]
MISTAKES = [
    (["pool=maxx"], ["unknown pool 'maxx'", "'max'"]),
    (["pool=null"], ["unknown pool 'null'"]),
    (["pool="], ["unknown pool ''"]),
    (["head=flaten"], ["unknown head 'flaten'", "'flatten'"]),
    (["model=resnett"], ["unknown model 'resnett'", "'resnet'"]),
    (["data=cifar1"], ["unknown data 'cifar1'", "'cifar10'"]),
    (["data=torchvision", "data.options.split=letters"], ["data.options is", "+data.options.split=VALUE"]),
    (["data=torchvision", "data.options={split: letters}"], ["data.options is", "+data.options.NAME=VALUE"]),
    (["optimizer=sdg"], ["unknown optimizer 'sdg'", "'sgd'"]),
    (["schedule=cosin"], ["unknown schedule 'cosin'", "'cosine'"]),
    (["probe=invariant"], ["unknown probe 'invariant'", "'invariance'"]),
    (["probe.rotat=[5]"], ["unknown option 'probe.rotat'", "'probe.rotate'"]),
    (["trainer=defalt"], ["unknown trainer 'defalt'", "'default'"]),
    (["pool=[max,averag,lp]"], ["unknown pool 'averag'", "'average'"]),
    (["pool=[max,{lp: {kernel: 3}},max]"], ["lp has no option 'kernel'", "'kernel_size'"]),
    (["pool=[]"], ["pool.sites", "[]"]),
    (["pool=[[max]]"], ["pool.sites", "['max']"]),
    (["pool=per_site"], ["pool.sites needs a value"]),
    (["trainer.epoch=3"], ["unknown option 'trainer.epoch'", "'trainer.epochs'"]),
    (["pool.kernel=3"], ["unknown option 'pool.kernel'", "'pool.kernel_size'"]),
    (["pool=lp", "pool.learn=layer"], ["unknown option 'pool.learn'", "'pool.learnable'"]),
    (["data.augmentation.crops=1"], ["unknown option 'data.augmentation.crops'", "'data.augmentation.crop'"]),
    (["learning_rate=3"], ["unknown option 'learning_rate'", "seed"]),
    (["pool=custom"], ["pool._target_ needs a value", "mypkg.MyPool"]),
    (["pool=custom", "pool._target_=a.B", "pool.option=3"], ["+pool.option"]),
    (["+seed=3"], ["seed"]),
    (["+run_id=x"], ["unknown option 'run_id'"]),
    (["+names.pool=best"], ["unknown option 'names'"]),
    (["data.size=${nothing}"], ["nothing"]),
]


def complete(*overrides, folders=()):
    with composer(folders) as compose:
        return compose.complete(overrides)


@pytest.fixture(scope="module")
def answers():
    """What each of the above gives, a config or an error; together, since Hydra's start costs more than all of them."""
    found = {}
    with composer() as compose:
        for overrides, *_ in (*LABELS, *MISTAKES):
            try:
                found[tuple(overrides)] = compose.complete(overrides)
            except ConfigError as error:
                found[tuple(overrides)] = error
    return found


def file_of(group, choice):
    return yaml.safe_load((config_dir() / group / f"{choice}.yaml").read_text())


@pytest.fixture
def own(tmp_path):
    """A folder of configs of a user's own; its name is as awkward as they come."""
    folder = tmp_path / "it's, my [conf]=1"
    folder.mkdir()

    def write(path, text):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
        return folder

    return write


def test_without_options_everything_has_the_value_that_its_file_shows(answers):
    config = answers[()]
    check(config, complete=True)
    for group, choice in {
        "pool": "max",
        "head": "global_average",
        "model": "convnet",
        "data": "shapes",
        "optimizer": "sgd",
        "schedule": "cosine",
        "trainer": "default",
        "probe": "none",
        "sweep": "grid",
    }.items():
        assert config[group] == file_of(group, choice), group
        if group in COMPONENTS:
            assert config["names"][group] == choice
    assert "hydra" not in config


def test_a_file_that_builds_on_another_changes_what_it_names(answers):
    small, whole = answers[("model=convnet_small",)]["model"], answers[()]["model"]
    assert small["widths"] != whole["widths"]
    assert {**small, "widths": 0} == {**whole, "widths": 0}


@pytest.mark.parametrize(("overrides", "group", "label"), LABELS)
def test_a_label_tells_what_differs_from_the_defaults(answers, overrides, group, label):
    assert answers[tuple(overrides)]["names"][group] == label


def test_an_option_given_its_default_changes_neither_config_nor_run_id(answers):
    plain, explicit = (answers[tuple(LABELS[index][0])] for index in (4, 6))
    assert plain == explicit
    assert run_id(plain) == run_id(explicit) == run_id(answers[("pool=lp", "pool.p=2")])


def test_a_cell_has_one_name_however_a_number_is_typed(answers):
    assert run_id(answers[("pool=lp", "pool.p=3")]) == run_id(answers[("pool=lp", "pool.p=3.0")])
    assert run_id(answers[("pool=lp", "pool.p=3")]) != run_id(answers[("pool=lp",)])


def test_a_list_of_pools_is_one_for_each_site(answers):
    config = answers[("pool=[max,average,{lp: {p: 3}}]",)]
    assert config["pool"] == [file_of("pool", "max"), file_of("pool", "average"), {**file_of("pool", "lp"), "p": 3}]
    assert config == answers[("pool=per_site", "pool.sites=[max,average,{lp: {p: 3}}]")]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_a_mistake_is_named_with_what_may_have_been_meant(answers, overrides, words):
    error = answers[tuple(overrides)]
    assert isinstance(error, ConfigError)
    for word in words:
        assert word in str(error)


def test_an_option_that_no_component_has_is_refused_even_with_a_plus():
    with pytest.raises(ConfigError, match=r"'trainer\.epoch'.*'trainer\.epochs'"):
        check(complete("+trainer.epoch=3"))


@pytest.mark.parametrize(
    "value",
    ["a=b", "x y=z", "it's=x", 'say "x"=y', "C:\\x=y", "x=\\y\\", '\\"=', "(a", "[a=b]", "a,b=", "é=ü", "a:=$b"],
)
def test_the_hint_how_to_quote_a_value_works(value):
    with pytest.raises(ConfigError, match="quotes") as caught:
        parse(f"data.root={value}")
    typed = str(caught.value).rpartition("the shell's: ")[2]
    (argument,) = shlex.split(typed)
    assert parse(argument).value() == value


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_a_quoted_value_is_read_as_it_was(text):
    assert parse(f"key={quoted(text)}").value() == text


@pytest.mark.parametrize("text", ["max", "", "pool max"])
def test_what_is_no_option_is_said_so(text):
    with pytest.raises(ConfigError, match=re.escape(repr(text)) + r".*pool=max"):
        parse(text)


def test_a_quoted_value_reaches_the_config():
    assert complete("data=cifar10", 'data.root="a=b, it\'s \\"c\\" \\d"')["data"]["root"] == 'a=b, it\'s "c" \\d'


def test_a_folder_of_ones_own_adds_choices(own):
    folder = own("pool/mine.yaml", "_target_: mypkg.Mine\nsharpness: 3\n")
    own("trainer/short.yaml", "defaults: [default]\nepochs: 1\n")
    with composer([folder]) as compose:
        config = compose.complete(["pool=mine", "trainer=short"])
        assert config["pool"] == {"_target_": "mypkg.Mine", "sharpness": 3}
        assert config["names"]["pool"] == "mine"
        assert config["trainer"] == {**file_of("trainer", "default"), "epochs": 1}
        check(config, complete=True)
        assert compose.complete(["pool=mine", "pool.sharpness=4"])["names"]["pool"] == "mine(sharpness=4)"
        several = compose.complete(["pool=[max,mine,{mine: {sharpness: 5}}]"])
        assert several["names"]["pool"] == "max+mine+mine(sharpness=5)"
        with pytest.raises(ConfigError, match=r"'mines'.*'mine'"):
            compose.complete(["pool=mines"])


def test_what_an_installed_package_offers_is_a_choice(tmp_path, monkeypatch):
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[poolbench.pools]\ntheirs = their.pools:Pool2d\n")
    monkeypatch.syspath_prepend(tmp_path)
    with composer() as compose:
        assert "theirs" in compose.choices("pool")
        assert compose.complete(["pool=theirs", "+pool.sharpness=3"])["pool"] == {
            "_target_": "their.pools.Pool2d",
            "sharpness": 3,
        }
        sites = compose.complete(["pool=[max,theirs,max]"])
        assert sites["pool"][1] == {"_target_": "their.pools.Pool2d"}
        assert sites["names"]["pool"] == "max+theirs+max"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sharpness: 3\n", "pool=mine needs _target_"),
        ("", "pool=mine needs _target_"),
        ("_target_: 3\n", "pool=mine needs _target_"),
        ("_target_: [\n", "mine.yaml"),
        ("defaults: [nowhere]\n", "nowhere"),
    ],
)
def test_a_file_of_ones_own_that_is_wrong_is_named(own, text, words):
    with composer([own("pool/mine.yaml", text)]) as compose:
        for choice in ("pool=mine", "pool=[max,mine,max]"):
            with pytest.raises(ConfigError) as caught:
                compose.complete([choice])
            assert words in str(caught.value).replace("per_site", "mine")


def test_a_trainer_of_ones_own_that_lacks_an_option_is_named(own):
    config = complete("trainer=short", folders=[own("trainer/short.yaml", "epochs: 1\n")])
    with pytest.raises(ConfigError, match=r"trainer\.\w+ is missing.*defaults"):
        check(config, complete=True)


def test_a_config_dir_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        complete(folders=[tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("earlier", "line", "quick"),
    [
        ("pool=max trainer.epochs=1", "pool=lp trainer.epochs=2", True),
        ("pool=max pool.kernel_size=2 head=gem", "pool=minmax pool.kernel_size=3 head=flatten", True),
        ("model=fast_cnn_tiny pool=max optimizer=fast", "model=fast_cnn_tiny pool=native optimizer=adamw", True),
        ("trainer.sizes=null optimizer.lr=1", "optimizer.lr=1e-3 trainer.sizes=[32,16]", True),
        ("model.widths=[8,8,8] data.validation=0", "model.widths=[4,4,4] data.validation=0.1", True),
        ("pool=max probe=none probe.rotate=[5]", "pool=max probe=none probe.rotate=[-10,2.5]", True),
        ("pool=max probe=none", "pool=max probe=invariance", True),
        ("pool=max", "pool=[max,lp,max]", False),
        ("model=convnet", "model=cuda_convnet", False),  # it brings a recipe
        ("pool=lp pool.p=2", "pool=max pool.p=2", False),  # it has no such option
        ("data.augmentation={flip:true}", "data.augmentation=null", False),
        ("pool=max", "pool=maxx", False),
        ("pool=custom pool._target_=a.B +pool.k=2", "pool=custom pool._target_=a.C +pool.k=2", True),
        ("pool=custom pool._target_=a.B +pool.k=2", "pool=minmax pool._target_=a.C +pool.k=2", False),
    ],
)
def test_a_config_made_from_an_earlier_one_is_the_one_that_is_composed(own, earlier, line, quick):
    earlier, line = earlier.split(), line.split()
    with composer([own("pool/minmax.yaml", "_target_: mypools.MinMax\nkernel_size: 2\n")]) as many:
        many.complete(earlier)
        assert (many.earlier.like(line) is not None) == quick
        found, composed = (_config_or_complaint(one, line) for one in (many, Composer(many.folders)))
        assert found == composed
        if isinstance(found, dict):  # also the order, which is that of the file in a record
            assert [list(found[key]) for key in COMPONENTS] == [list(composed[key]) for key in COMPONENTS]


def _config_or_complaint(compose, line):
    try:
        return compose.complete(line)
    except ConfigError as error:
        return str(error)


REACHING = """# @package _global_
defaults:
- override /pool: lp
- _self_
pool:
  kernel_size: 3
model:
  _target_: poolbench.models.ConvNet
"""


def test_a_file_that_was_changed_is_read_again(own):
    for size in (2, 3, 4):
        folder = own("pool/minmax.yaml", f"_target_: mypools.MinMax\nkernel_size: {size}\n")
        assert complete("pool=minmax", folders=[folder])["pool"]["kernel_size"] == size


def test_what_a_file_of_ones_own_reaches_is_composed(own):
    with composer([own("model/reaching.yaml", REACHING)]) as many:
        for line in (["model=reaching", "pool=max"], ["model=reaching", "pool=average"], ["model=convnet", "pool=lp"]):
            assert many.complete(line) == Composer(many.folders).complete(line)
            assert many.complete(line)["pool"]["kernel_size"] == (3 if "reaching" in line[0] else 2)


def test_what_is_made_from_other_values_follows_them(own):
    made = "_target_: poolbench.training.optimizers.sgd\nlr: 1.0\nmomentum: ${seed}\n"
    with composer([own("optimizer/made.yaml", made)]) as many:
        for seed in (3, 4):
            assert many.complete(["optimizer=made", f"seed={seed}"])["optimizer"]["momentum"] == seed


def test_a_block_is_the_file_without_what_the_user_says():
    with composer() as compose:
        compose.complete(["pool=lp", "pool.p=3"])
        assert compose.block("pool", "lp")["p"] == 2.0
        assert compose.block("pool", "custom") == {"_target_": "???"}
        with pytest.raises(ConfigError, match="unknown pool"):
            compose.block("pool", "lpp")


def test_whether_a_value_is_made_from_others_is_seen(own):
    with composer() as compose:
        assert not compose.interpolates(["pool=max"])
        assert compose.interpolates(["data.data_seed=${seed}"])
    with composer([own("data/moving.yaml", "defaults: [shapes]\ndata_seed: ${seed}\n")]) as compose:
        assert compose.interpolates(["pool=max"])
        assert compose.complete(["data=moving", "seed=4"])["data"]["data_seed"] == 4


def test_flattening_keeps_lists_and_empty_mappings():
    nested = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}
    assert flatten(nested, lists=False) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}}
    assert flatten(nested) == {"a.b": 1, "a.c.d.0": 1, "a.c.d.1.e": 2, "f": {}}
    assert flatten({}) == {}


def test_composing_does_without_torch(tmp_path):
    code = (
        "from poolbench.configuration import composer\n"
        "from poolbench.limits import check\n"
        "with composer() as c: check(c.complete(['pool=[max,lp,average]', 'data=cifar10']), complete=True)\n"
        "import sys; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
