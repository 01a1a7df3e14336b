"""One cell, one name: the same whatever cannot change its result, another for all that can."""

import copy
import re
from pathlib import Path

import pytest

from poolbench.config_files import our_options
from poolbench.configuration import composer
from poolbench.dotted import flatten
from poolbench.records import identity as identities
from poolbench.records.groups import pool_labels
from poolbench.records.identity import cell_hash, digest, identity, run_id, with_added
from poolbench.records.read import archived

CONFIG = {
    "seed": 3,
    "pool": {"_target_": "poolbench.pooling.LpPool2d", "kernel_size": 2, "p": 2.5, "learnable": False},
    "head": {"_target_": "poolbench.heads.GlobalAverage", "hidden": []},
    "model": {"_target_": "poolbench.models.ConvNet", "widths": [32, 64]},
    "data": {
        "_target_": "poolbench.data.CIFAR10",
        "root": "data",
        "download": True,
        "mirrors": ["a", "b"],
        "validation": 0.0,
        "augmentation": {"flip": True, "crop": 4},
    },
    "optimizer": {"_target_": "poolbench.training.optimizers.sgd", "lr": 0.1},
    "schedule": {"_target_": "poolbench.training.schedules.cosine", "warmup": 0.1},
    "trainer": {
        "epochs": 8,
        "batch_size": 128,
        "precision": "fp32",
        "device": "auto",
        "threads": None,
        "keep_memory": True,
    },
    "runs_dir": "runs",
    "report_dir": "report",
    "names": {"pool": "lp(p=2.5)", "head": "global_average", "model": "convnet", "data": "cifar10"},
    "data_fingerprint": "cifar10-1",
}
# Where things lie, what they are called and what they run on.
OUTSIDE = {
    "runs_dir",
    "report_dir",
    "data.root",
    "data.download",
    "data.mirrors",
    "trainer.device",
    "trainer.threads",
    "trainer.keep_memory",
    *(f"names.{group}" for group in ("pool", "head", "model", "data", "optimizer", "schedule")),
}


def changed(config, option):
    """A copy of ``config`` with another value for the dotted ``option``."""
    config = copy.deepcopy(config)
    *path, last = option.split(".")
    block = config
    for key in path:
        block = block[key]
    old = block[last]
    if isinstance(old, bool):
        block[last] = not old
    elif isinstance(old, int | float):
        block[last] = old + 1
    elif isinstance(old, list):
        block[last] = [*old, 1]
    else:
        block[last] = f"{old}x"
    return config


def hash_of(config):
    return cell_hash(run_id(config))


def test_the_name_of_a_known_cell_stays_what_it_is():
    # Records lie in folders of this name: a change here makes every finished cell one that was never trained.
    assert run_id(CONFIG) == "lp-p=2.5-convnet-cifar10-s3-5848d478c6"
    assert digest({"b": [1, 2.0, None], "a": {"c": True, "d": "é"}}) == "cb23e27120"


@pytest.mark.parametrize("option", flatten(CONFIG))
def test_all_that_can_change_the_result_changes_the_name_and_nothing_else_does(option):
    assert (hash_of(changed(CONFIG, option)) == hash_of(CONFIG)) == (option in OUTSIDE)


def test_so_it_is_for_every_option_of_every_component():
    overrides = ["data=cifar10", "pool=strided_conv", "optimizer=muon", "schedule=step", "model=resnet", "head=flatten"]
    others = ["optimizer=adamw", "pool=[max,{lp: {p: 3}},max]", "probe=invariance"]
    with composer() as compose:
        configs = [
            compose.complete([*words, "probe.rotate=[5]", "probe.corruptions=[fog]"]) for words in (overrides, others)
        ]
    for config in configs:
        config["data_fingerprint"] = "x"
        sweep = config.pop("sweep")
        assert hash_of({**config, "sweep": sweep}) == hash_of(config)
        for option in flatten(config, lists=False):
            assert (hash_of(changed(config, option)) == hash_of(config)) == (option in OUTSIDE), option


def test_a_cell_without_probes_keeps_the_name_that_it_had_before_there_were_any():
    with composer() as compose:
        plain, probed = compose.complete([]), compose.complete(["probe=invariance"])
    before = {key: value for key, value in plain.items() if key != "probe"}
    assert identity(plain) == identity(before)
    assert hash_of(plain) == hash_of(before) == hash_of(with_added(before))
    assert hash_of({**plain, "probe": {**plain["probe"], "border": "wrap", "samples": 5}}) == hash_of(before)
    assert hash_of(probed) != hash_of(before)
    assert hash_of({**probed, "probe": {"rotate": [5]}}) == hash_of(with_added({**before, "probe": {"rotate": [5]}}))
    # Trials of a search read no test set, and so no probe.
    trials = [{**config, "trainer": {**config["trainer"], "test": False}} for config in (before, probed)]
    assert len({hash_of(config) for config in trials}) == 1


@pytest.mark.parametrize("name", ["soft", "ada"])
def test_a_pool_with_the_exact_gradient_keeps_the_name_that_it_had_before_there_was_a_choice(name):
    with composer() as compose:
        plain, listed = compose.complete([f"pool={name}"]), compose.complete([f"pool=[max,{name},max]"])
        published = compose.complete([f"pool={name}", "pool.gradient=published"])
    for config in (plain, listed):
        before = copy.deepcopy(config)
        block = before["pool"] if isinstance(before["pool"], dict) else before["pool"][1]
        assert block.pop("gradient") == "exact"
        assert hash_of(config) == hash_of(before) == hash_of(with_added(before))
        assert with_added(before)["pool"] == config["pool"]
        assert pool_labels([config, before]) == [config["names"]["pool"]] * 2  # one arm of a table
    assert hash_of(published) != hash_of(plain)
    assert len(set(pool_labels([plain, published]))) == 2


@pytest.mark.parametrize(
    ("name", "option", "default", "other"), [("gem", "groups", 1, 2), ("attention", "dimension", 128, 64)]
)
def test_a_head_keeps_the_name_that_it_had_before_an_option_came(name, option, default, other):
    with composer() as compose:
        plain = compose.complete([f"head={name}"])
        changed = compose.complete([f"head={name}", f"head.{option}={other}"])
    before = copy.deepcopy(plain)
    assert before["head"].pop(option) == default
    assert hash_of(plain) == hash_of(before) == hash_of(with_added(before)) != hash_of(changed)
    assert with_added(before)["head"] == plain["head"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "image_folder"])
def test_all_of_the_test_set_is_no_other_cell_and_a_part_of_it_is(name):
    with composer() as compose:
        whole, part = compose.complete([f"data={name}"]), compose.complete([f"data={name}", "data.test_samples=500"])
    before = copy.deepcopy(whole)
    assert before["data"].pop("test_samples") is None
    before["data"].pop("test_share", None)
    assert hash_of(whole) == hash_of(before) == hash_of(with_added(before)) != hash_of(part)
    assert with_added(before)["data"] == whole["data"]


@pytest.mark.parametrize("group", ["pool", "head", "model", "data", "optimizer", "schedule"])
def test_an_option_that_comes_to_any_group_moves_no_name_until_it_says_something_else(monkeypatch, group):
    with composer() as compose:
        before = compose.complete(["pool=[max,lp,max]"] if group == "pool" else [])
    block = before["pool"][1] if group == "pool" else before[group]
    name = block["_target_"].rpartition(".")[2]
    monkeypatch.setitem(identities._ADDED[group], name, {"latest": None})
    after, other = copy.deepcopy(before), copy.deepcopy(before)
    for config, value in ((after, None), (other, 3)):
        (config["pool"][1] if group == "pool" else config[group])["latest"] = value
    assert hash_of(after) == hash_of(before) != hash_of(other)
    assert with_added(before)[group] == after[group]
    assert with_added(other)[group] == other[group]
    somebodys = {group: {**block, "_target_": f"theirs.{name}"}}
    assert hash_of({**after, group: {**somebodys[group], "latest": None}}) != hash_of({**after, **somebodys})


def test_no_option_of_ours_came_without_word_of_what_was_done_before():
    """What published records do not say, the table of options that came later does, with today's defaults."""
    checked = set()
    for file in Path(__file__).parents[2].glob("results/*/records.jsonl"):
        for record in archived(file):
            config = with_added(record.config)
            for group in ("pool", "head", "model", "data", "optimizer", "schedule"):
                for block in config[group] if isinstance(config[group], list) else [config[group]]:
                    there = tuple(block)
                    if (group, block["_target_"], there) in checked:
                        continue
                    checked.add((group, block["_target_"], there))
                    for option, default in (our_options(group, block["_target_"]) or {}).items():
                        assert option in block, f"{block['_target_']} has got {option!r}, which would rename old cells"
                        if option in _added_to(group, block):
                            assert _added_to(group, block)[option] == default
    assert len(checked) > 20


def _added_to(group, block):
    return identities._ADDED[group].get(block["_target_"].rpartition(".")[2], {})


def test_a_pool_of_somebody_else_keeps_an_option_of_that_name():
    own = {**CONFIG, "pool": {"_target_": "mypools.SoftPool2d", "gradient": "exact"}}
    assert hash_of(own) != hash_of({**own, "pool": {"_target_": "mypools.SoftPool2d"}})
    assert with_added({**own, "pool": {"_target_": "mypools.SoftPool2d"}})["pool"] == {"_target_": "mypools.SoftPool2d"}


def test_the_order_of_keys_and_the_kind_of_a_number_do_not_matter():
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        if isinstance(value, list | tuple):
            return tuple(map(turned, value))
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    other = turned(CONFIG)
    assert list(other) != list(CONFIG)
    assert hash_of(other) == hash_of(CONFIG)
    assert digest({"a": 2, "b": 1}) == digest({"b": 1.0, "a": 2.0})
    assert len({digest(value) for value in (1, True, "1", [1], None, 1.5, float("inf"), {}, [])}) == 9


def test_the_order_of_a_list_matters():
    assert digest([1, 2]) != digest([2, 1])


def test_what_a_run_id_is_added_to_keeps_its_name():
    assert run_id({**CONFIG, "run_id": run_id(CONFIG)}) == run_id(CONFIG)


def test_identity_leaves_the_config_as_it_was():
    before = copy.deepcopy(CONFIG)
    kept = identity(CONFIG)
    kept["trainer"]["epochs"] = kept["data"]["validation"] = 99
    assert before == CONFIG


@pytest.mark.parametrize(
    "label",
    [
        "../../etc/passwd",
        "..",
        ".",
        "",
        "/",
        "a b\tc\nd",
        "C:\\x|y?*<>\"'",
        "é漢字🙂",
        "-rf",
        ".hidden",
        "x" * 500,
        "~",
        "$(reboot)",
        "lp(p=3,norm=sum)",
        "max+max",
        "nul\0",
    ],
)
def test_a_name_is_always_a_safe_folder(label, tmp_path):
    for key in ("pool", "head", "model", "data"):
        name = run_id({**CONFIG, "names": {**CONFIG["names"], key: label}})
        assert re.fullmatch(r"[A-Za-z0-9_+=][A-Za-z0-9_.+=-]*-[0-9a-f]{10}", name), name
        assert len(name) <= 91
        (tmp_path / name).mkdir()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).rmdir()


def test_the_usual_head_is_not_named():
    assert "global_average" not in run_id(CONFIG)
    assert "-flatten-" in run_id({**CONFIG, "names": {**CONFIG["names"], "head": "flatten"}})
