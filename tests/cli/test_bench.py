"""`poolbench bench pools` and `poolbench bench nets` as a user gives them."""

import json

import pytest

from poolbench.cli import bench
from poolbench.cli.main import main
from poolbench.cli.nets import baselines_of, distinct_nets, left_out
from poolbench.measure import net_speed
from poolbench.measure.net_speed import Net
from poolbench.records.speeds import read_speeds
from poolbench.sweep.plan import make_plan

QUICK = ["--shape", "2,4,8,8", "--rounds", "1"]
TINY = ["data=shapes", "data.size=16", "model.widths=[4,8]", "model.depths=[1,1]"]
SHORT = ["--rounds", "2", "--seconds", "0.001", "--batch", "4", "--batch", "1", "--batch", "2"]


def test_it_prints_a_row_a_pool_and_writes_what_it_measured(tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert main(["bench", "pools", "max", "soft", *QUICK, "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.strip().splitlines()[-2:]] == ["max", "soft"]
    assert max(map(len, text.splitlines())) <= 90
    content = json.loads(path.read_text())
    assert [row["pool"] for row in content["rows"]] == ["max", "soft"]
    assert content["rows"][0]["shape"] == [2, 4, 8, 8]
    assert content["rows"][0]["flops"] == 4 * 4 * 4 * 3
    assert content["machine"]["torch"]


def test_a_pool_of_ones_own_is_timed_by_its_path(capsys):
    assert main(["bench", "pools", "poolbench.pooling.AveragePool2d", *QUICK]) == 0
    assert "AveragePool2d" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["maxx"], "unknown pool 'maxx'. Did you mean 'max'"),
        (["max", "--shape", "2,4,8"], "--shape must be four whole numbers"),
        (["max", "--shape", "0,4,8,8"], "--shape must be four whole numbers"),
        (["max", "--rounds", "0"], "--rounds and --threads must be at least 1"),
        (["max", "--threads", "0"], "--rounds and --threads must be at least 1"),
        (["max", "--device", "cuda"], "--device=cuda: there are 0 cuda devices here"),
        (["max", "--device", "gpu"], "--device must be auto, cpu, cuda,"),
    ],
)
def test_bad_input_is_named_before_anything_is_timed(arguments, words, capsys):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    assert main(["bench", "pools", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_pool_that_fails_is_told_and_the_others_are_timed(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_to_bench.py").write_text(
        "from torch import nn\nclass Broken(nn.Module):\n    ratio = 2.0\n    def __init__(self, channels):\n"
        "        super().__init__()\n    def forward(self, x):\n        raise RuntimeError('it broke')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["bench", "pools", "max", "broken_to_bench.Broken", *QUICK]) == 1
    assert "it broke" in capsys.readouterr().out


def nets_of(*overrides):
    nets, configs, usual = distinct_nets(make_plan(overrides).cells)
    assert usual is None  # pools have the baselines of their groups
    return nets, configs


@pytest.fixture
def no_memory(monkeypatch):
    """Without the process of its own that each net takes."""
    monkeypatch.setattr("poolbench.measure.net_speed.resident_growth", lambda net, setting: None)


def test_nets_are_compared_with_the_baseline_and_written_with_their_spread(tmp_path, capsys):
    path = tmp_path / "nets.json"
    arguments = ["pool=max,strided_conv", "seeds=2", *TINY, *SHORT, "--json", str(path)]
    assert main(["bench", "nets", *arguments]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    first = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert first.count("max") == first.count("strided_conv") == 2  # multiples, then numbers
    content = json.loads(path.read_text())
    assert list(content["baselines"].values()) == ["max"]
    assert content["left_out"] == {}
    assert content["machine"]["torch"]
    assert content["schema_version"] == 1
    assert content["settings"]["batches"] == [1, 2, 4]
    assert [row["pool"] for row in content["rows"]] == ["max", "strided_conv"]
    unit, other = content["rows"]
    for row in (unit, other):
        assert [one["batch"] for one in row["forward"]] == [1, 2, 4]
        assert all(len(one["ratio_rounds"]) == len(one["rounds_ms"]) == 2 for one in (*row["forward"], row["train"]))
        assert row["config"]["data"] == {"size": [16, 16], "classes": 10}
        assert row["config"]["model"]["widths"] == [4, 8]
    assert unit["train"]["ratio_quartiles"] == [1, 1]
    assert unit["memory_bytes_ratio"] in (1, None)
    assert other["forward_flops_ratio"] > 1
    assert other["parameters"] > unit["parameters"]


def test_a_net_that_fails_is_told_and_the_others_are_measured(no_memory, monkeypatch, capsys):
    def fails(case, task, time=net_speed._Case.time):
        if case.net.label == "lp":
            raise RuntimeError("out of memory")
        return time(case, task)

    monkeypatch.setattr(net_speed._Case, "time", fails)
    assert main(["bench", "nets", "pool=max,lp", *TINY, *SHORT]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "lp: RuntimeError: out of memory" in lines
    assert sum(line.startswith("max ") for line in lines) == 2


def test_each_group_has_a_table_and_a_baseline_of_its_own(no_memory, capsys):
    sweep = ["pool=max,lp", *TINY[:2], "model.widths=[4,8],[4,6]", TINY[3]]
    assert main(["bench", "nets", *sweep, *SHORT, "--baseline", "lp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("x lp") for line in lines) == 2
    assert sum("16x16, 10 classes; cpu, 1 thread; 2 rounds" in line for line in lines) == 2


MIXED = """
defaults: [grid]
blocks:
- product: {model: [convnet_small], pool: [max, lp]}
- product: {model: [lenet], pool: [native, lp]}
- product: {model: [nin], pool: [native]}
"""


def test_a_group_without_max_has_a_baseline_of_its_own_and_a_net_alone_is_left_out(tmp_path, no_memory, capsys):
    (tmp_path / "conf/sweep").mkdir(parents=True)
    (tmp_path / "conf/sweep/mixed.yaml").write_text(MIXED)
    (tmp_path / "runs").mkdir()
    sweep = ["sweep=mixed", "data=shapes", "--config-dir", str(tmp_path / "conf")]
    path = tmp_path / "runs/speeds.json"
    assert main(["bench", "nets", *sweep, *SHORT, "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "note: left out, one net alone: nin, native, 32x32, 10 classes" in text
    content = json.loads(path.read_text())
    assert list(content["baselines"].values()) == ["max", "native"]
    assert [row["pool"] for row in content["rows"]] == ["max", "lp", "native", "lp"]
    assert list(content["left_out"].values()) == ["one net alone"]
    assert [row["train"]["ratio_rounds"] for row in content["rows"]][::2] == [[1, 1], [1, 1]]
    assert len(read_speeds(path).nets) == 4


def labelled(**groups):
    return [Net(label, group, None, (32, 32), 10) for group, labels in groups.items() for label in labels]


@pytest.mark.parametrize(
    ("groups", "given", "baselines", "left"),
    [
        ({"a": ["max", "lp"], "b": ["native", "lp"]}, None, {"a": "max", "b": "native"}, {}),
        ({"a": ["max", "native"], "b": ["native", "lp"]}, None, {"a": "native", "b": "native"}, {}),
        ({"a": ["max", "lp"], "b": ["max"], "c": ["lp"]}, None, {"a": "max"}, dict.fromkeys("bc", "one net alone")),
        ({"a": ["max(p=1)", "lp"]}, None, {"a": "max(p=1)"}, {}),
        ({"a": ["max"], "b": ["spectral"]}, None, {"a": "max", "b": "spectral"}, {}),
        (
            {"a": ["max", "lp"], "b": ["soft", "lip"]},
            None,
            {"a": "max"},
            {"b": "no pool called max or native among soft, lip"},
        ),
        ({"a": ["max", "lp"], "b": ["max", "lip"]}, "lp", {"a": "lp"}, {"b": "no pool called lp among max, lip"}),
        ({"a": ["lp"], "b": ["lip"]}, "lip", {"b": "lip"}, {"a": "no pool called lip among lp"}),
    ],
)
def test_the_baseline_of_a_group_is_that_of_the_reports_table(groups, given, baselines, left):
    assert baselines_of(labelled(**groups), given) == (baselines, left)
    said = " ".join(left_out(left))
    assert all(why in said for why in left.values())


def test_nets_that_only_train_otherwise_are_one(no_memory):
    nets, configs = nets_of("pool=max,lp", "trainer.epochs=1,2", "optimizer.lr=0.1,0.2", "seeds=2", *TINY)
    assert [net.label for net in nets] == ["max", "lp"]
    assert len({net.group for net in nets}) == 1
    assert ["pool=max" in config["overrides"] for config in configs] == [True, False]


def test_what_nets_are_made_of_tells_them_apart():
    nets, _ = nets_of("pool=lp", "pool.p=2,3", *TINY)
    assert [net.label for net in nets] == ["lp", "lp(p=3)"]
    for axis in ("model=convnet,fast_cnn_tiny", "head=global_average,global_max", "trainer.channels_last=true,false"):
        nets, _ = nets_of(axis, "data=shapes")
        assert len({net.group for net in nets}) == len(nets) == 2
    nets, _ = nets_of("data=shapes", "data.size=16,24")
    assert [net.size for net in nets] == [(16, 16), (24, 24)]


def test_heads_are_compared_where_that_is_asked_for(no_memory, capsys, tmp_path):
    path = tmp_path / "speeds.json"
    line = ["head=flatten,global_average,gem", "pool=max,lp", *TINY, *SHORT, "--compare", "head"]
    assert main(["bench", "nets", *line, "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert list(content["baselines"].values()) == ["global_average"] * 2
    groups = {row["group"]: [] for row in content["rows"]}
    for row in content["rows"]:
        groups[row["group"]].append(row["pool"])
    assert list(groups.values()) == [["flatten", "global_average", "gem"]] * 2
    assert [group.split(", ")[0] for group in groups] == ["max", "lp"]
    assert "x global_averag" in capsys.readouterr().out
    assert len(read_speeds(path).nets) == 6


def test_what_no_net_has_cannot_be_compared(capsys):
    assert main(["bench", "nets", "head=gem,lp", "data=shapes", "--compare", "haed"]) == 2
    assert "--compare: there is no 'haed' in these records. Did you mean 'head'" in capsys.readouterr().err


def test_a_data_set_that_is_not_there_yet_is_enough(tmp_path):
    (net,), (made,) = nets_of("data=cifar10", f"data.root={tmp_path}")
    assert (net.size, net.num_classes) == ((32, 32), 10)
    assert str(tmp_path) not in str(made)  # the record is published, this folder is not


@pytest.mark.parametrize(("load", "busy"), [(0.9, True), (0.5, False), (None, False)])
def test_a_busy_machine_is_told(load, busy, no_memory, monkeypatch, capsys):
    monkeypatch.setattr(bench, "load_per_core", lambda: load)
    assert main(["bench", "nets", *TINY, "--rounds", "1", "--seconds", "0.001", "--batch", "2"]) == 0
    assert ("the machine was busy: 0.9 a core" in capsys.readouterr().out) == busy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nets", "pool=maxx"], "unknown pool 'maxx'. Did you mean 'max'"),
        (["nets", "pool=lp", "pool.p=-1", "--baseline", "lp(p=-1)"], "p must be"),
        (["nets", "pool=lp,average"], "--baseline max: no pool of convnet, global_average, 32x32, 10 classes is"),
        (["nets", "pool=max,average", "--baseline", "averag"], "Did you mean 'average'? There: max, average"),
        (["nets", "--shape", "2,4,8,8"], "--shape is of `bench pools`; `bench nets` does not take it"),
        (["nets", "--full"], "--full is of `bench pools`"),
        (["pools", "max", "--batch", "4"], "--batch is of `bench nets`; `bench pools` does not take it"),
        (["pools", "max", "--compare", "head"], "--compare is of `bench nets`"),
        (["pools", "max", "--config-dir", "."], "--config-dir is of `bench nets`"),
        (["nets", "--threads", "1", "--threads", "2"], "--threads: `bench nets` takes one number, got 1, 2"),
        (["nets", "--rounds", "0"], "--rounds and --threads must be at least 1"),
        (["nets", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["nets", "--seconds", "0"], "--seconds must be above 0, got 0"),
        (["net"], "unknown 'net'. Did you mean 'nets'"),
    ],
)
def test_what_one_kind_does_not_take_is_named(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err
