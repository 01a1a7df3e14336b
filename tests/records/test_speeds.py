"""Kept records of `poolbench bench nets`: what is read of them, and which nets are the same."""

import copy
import json
import os
import re

import pytest

from poolbench.records.speeds import find_speeds, net_of, quartiles, read_speeds
from tests.report.synthetic import make_config, speeds_of

NUMBERS = {"parameters": 120_000, "forward_flops": 35_000_000}
TIMES = {"max": [10.0, 20.0, 30.0], "lp": [11.0, 24.0, 33.0]}


def net(numbers=NUMBERS, **changes):
    return net_of(make_config(**changes), numbers)


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_what_only_trains_a_net_otherwise_makes_no_other_net():
    same = {"trainer__epochs": 1, "trainer__batch_size": 7, "optimizer__lr": 0.3, "data__root": "elsewhere"}
    assert net(seed=5, **same) == net()
    assert net(data__augmentation=None, data__train_samples=100, names__model="mine", trainer__sizes=[16, 32]) == net()


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "lp"},
        {"pool__kernel_size": 3},
        {"head__hidden": [10]},
        {"model__widths": [32, 64, 96]},
        {"trainer__channels_last": False},
        {"trainer__precision": "bf16"},
        {"trainer__compile": True},
        {"numbers": {**NUMBERS, "forward_flops": 36_000_000}},  # of larger images
        {"numbers": {**NUMBERS, "parameters": 121_000}},  # of more classes
    ],
    ids=str,
)
def test_whatever_decides_the_computation_makes_another_net(changes):
    assert net(**changes) != net()


def test_an_option_that_came_later_makes_no_other_net_by_its_default():
    soft = {"_target_": "poolbench.pooling.SoftPool2d", "kernel_size": 2}
    config = {**make_config(), "pool": soft}
    assert net_of({**config, "pool": {**soft, "gradient": "exact"}}, NUMBERS) == net_of(config, NUMBERS)
    assert net_of({**config, "pool": {**soft, "gradient": "published"}}, NUMBERS) != net_of(config, NUMBERS)
    assert net_of({**config, "pool": [soft, soft]}, NUMBERS) not in (None, net_of(config, NUMBERS))


def test_without_its_counts_a_net_is_none():
    assert net_of(make_config(), {"parameters": 3}) is None
    assert net_of(make_config(), {**NUMBERS, "parameters": None}) is None


def test_a_record_is_read_with_where_it_was_made(tmp_path):
    speeds = read_speeds(written(tmp_path / "any.json", speeds_of(TIMES)))
    assert (speeds.rounds, speeds.batch, speeds.load) == (3, 128, 0.1)
    assert speeds.where == "2 threads of AMD EPYC (torch 2.15.0, fp32)"
    lp = speeds.nets[net_of(make_config("lp"), {"parameters": 120_300, "forward_flops": 35_300_000})]
    assert (lp.train, lp.forward, lp.size) == ((11.0, 24.0, 33.0), (11 / 3, 8.0, 11.0), (32, 32))
    content = speeds_of(TIMES)
    content["machine"]["device"], content["settings"]["device"] = "NVIDIA H200", "cuda"
    del content["schema_version"]  # as the first ones were
    content["rows"][1] = {"pool": "lp", "group": "convnet", "error": "out of memory"}
    gpu = read_speeds(written(tmp_path / "any.json", content))
    assert gpu.where == "NVIDIA H200 (torch 2.15.0, fp32)"
    assert len(gpu.nets) == 1


def changed(*path, to):
    content = copy.deepcopy(speeds_of(TIMES))
    part = content
    for key in path[:-1]:
        part = part[key]
    if to is None:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "holds no mapping"),
        (changed("schema_version", to=2), "schema_version is 2, this poolbench reads 1"),
        ({"rows": [{"pool": "max", "shape": [1, 2, 3, 4]}], "machine": {}}, "record of `bench pools`, of operators"),
        (changed("rows", to=[]), "rows is no list of nets"),
        (changed("settings", to=None), "settings is missing"),
        (changed("machine", to=[]), "machine is no mapping"),
        (changed("settings", "rounds", to=0), "settings: rounds is 0, not a whole number of at least 1"),
        (changed("settings", "batches", to=["a"]), "settings: batches is no list of whole numbers"),
        (changed("settings", "batches", to=[1, 64]), "row 1 (max): forward of 64: rounds_ms must be 3 numbers"),
        (changed("rows", 1, "config", to=None), "row 2 (lp): config is missing"),
        (changed("rows", 1, "config", "head", to=None), "row 2 (lp): config has no head"),
        (changed("rows", 1, "config", "data", "size", to=[32]), "row 2 (lp): config.data.size is no height and width"),
        (changed("rows", 1, "forward_flops", to=None), "row 2 (lp): parameters or forward_flops is missing"),
        (changed("rows", 1, "train", to=None), "row 2 (lp): train is missing"),
        (changed("rows", 1, "train", "rounds_ms", to=[1.0, 2.0]), "must be 3 numbers above 0, one for each round"),
        (changed("rows", 0, "train", "rounds_ms", to=[1.0, 0, 2.0]), "row 1 (max): train: rounds_ms must be 3 numbers"),
        (
            changed("rows", 0, "train", "rounds_ms", to=[True, 1, "2"]),
            "row 1 (max): train: rounds_ms must be 3 numbers",
        ),
    ],
)
def test_what_is_no_such_record_is_named_with_what_is_wrong(tmp_path, content, words):
    path = written(tmp_path / "wrong.json", content)
    ends = "; it must be what `poolbench bench nets --json FILE` writes"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{re.escape(words)}.*{re.escape(ends)}$"):
        read_speeds(path)


def test_what_is_not_there_or_no_json_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: No such file or directory; it must be what"):
        read_speeds(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match=r"torn\.json: cannot be parsed: .*; it must be what"):
        read_speeds(tmp_path / "torn.json")


def test_files_beside_records_are_found_once_and_a_broken_one_is_a_problem(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    own = written(tmp_path / "a/speeds.json", speeds_of(TIMES))
    (tmp_path / "b/speeds.json").write_text("{}")
    folders = [tmp_path / name for name in ("a", "a", "b", "c")]
    found, problems = find_speeds([own], folders)
    assert [speeds.path for speeds in found] == [own]
    assert [str(problem).partition(";")[0] for problem in problems] == [
        f"{tmp_path}/b/speeds.json: rows is no list of nets"
    ]
    with pytest.raises(ValueError, match="rows is no list"):
        find_speeds([tmp_path / "b/speeds.json"], [])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_the_folder_of_records_is_not_followed(tmp_path):
    (tmp_path / "runs").mkdir()
    own = written(tmp_path / "secret.json", speeds_of(TIMES))
    (tmp_path / "runs/speeds.json").symlink_to(own)
    found, problems = find_speeds([], [tmp_path / "runs"])
    assert found == []
    assert len(problems) == 1


def test_quartiles_of_few():
    assert quartiles([2.0]) == [2.0, 2.0]
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 4.0]
