"""The plan of a sweep: its cells with their names and states, before anything starts."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poolbench.configuration import ConfigError
from poolbench.data.base import DataError
from poolbench.records import files, ownership
from poolbench.records.identity import run_id
from poolbench.records.state import DONE, INTERRUPTED, NEW, RUNNING
from poolbench.sweep.plan import make_plan


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path):
    def write(path, content):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    return write


BLOCKS = [{"product": {"pool": ["max"]}}]


def labels(plan):
    return [(cell.config["names"]["pool"], cell.config["seed"]) for cell in plan.cells]


def test_grids_that_compare_something_else_have_another_folder():
    def folder(*words):
        return make_plan(["trainer.epochs=1", *words]).report_dir

    same = folder("pool=max,lp", "seeds=2")
    assert folder("pool=lp,max", "seeds=5", "runs_dir=elsewhere") == same  # more seeds are more of the same
    others = [folder("pool=max,lp", "model=lenet"), folder("pool=max", "head=gem,flatten"), folder("pool=max,average")]
    assert len({same, *others}) == 4
    assert others[1].name.startswith("grid-head-")


def test_a_grid_of_the_command_line_is_named_completed_and_in_order():
    plan = make_plan(["pool=max,lp", "seeds=2", "trainer.epochs=1", "sweep.workers=3", "report_dir=tables"])
    assert plan.name == "grid"
    assert re.fullmatch(r"grid-pool-[0-9a-f]{6}", plan.report_dir.name)
    assert plan.report_dir.parent == Path("tables")
    assert labels(plan) == [("max", 0), ("lp", 0), ("max", 1), ("lp", 1)]
    none = {
        "blocks": [],
        "fail_fast": False,
        "retry": 0,
        "max_hours": None,
        "sample": None,
        "order": "blocks",
        "job": "cell",
    }
    assert plan.options == {**none, "workers": 3}
    for cell in plan.cells:
        assert cell.config["run_id"] == cell.run_id == run_id(cell.config)
        assert cell.folder == Path("runs") / cell.run_id
        assert cell.config["trainer"]["epochs"] == 1
        assert cell.config["data_fingerprint"].startswith("shapes-")
        assert "sweep" not in cell.config
    assert len({cell.run_id for cell in plan.cells}) == 4
    assert not Path("runs").exists()
    again = [make_plan(cell.overrides, single=True).cells[0] for cell in plan.cells[2:]]
    assert [cell.run_id for cell in again] == [cell.run_id for cell in plan.cells[2:]]  # as `again:` is printed


def test_cells_that_are_the_same_are_there_once_and_it_is_said():
    plan = make_plan(["pool=lp", "pool.p=2,2.0,3", "trainer.threads=1,2"])
    assert labels(plan) == [("lp", 0), ("lp(p=3)", 0)]
    assert plan.notes == ("4 cells that are others in other words left out: trainer.threads=2 is trainer.threads=1",)
    assert make_plan(["pool=lp", "pool.p=2,3"]).notes == ()


def test_a_cell_said_in_other_words_is_the_same_and_keeps_the_name_that_its_record_got_first():
    in_words, spelt_out = ["model=convnet_small"], ["model=convnet", "model.widths=[16,32,64]"]
    plan = make_plan(["model=convnet_small,convnet", "model.widths=[16,32,64]"])
    assert [cell.run_id for cell in plan.cells] == [make_plan(in_words).cells[0].run_id]
    (other,) = make_plan(spelt_out).cells
    assert other.run_id != plan.cells[0].run_id
    files.write_yaml(plan.cells[0].folder / "config.yaml", plan.cells[0].config)
    (other,) = make_plan(spelt_out).cells
    assert other.run_id == other.config["run_id"] == plan.cells[0].run_id
    assert other.state() == INTERRUPTED


def test_a_value_made_from_the_seed_follows_it():
    plan = make_plan(["data.data_seed=${seed}", "seeds=3"])
    assert [cell.config["data"]["data_seed"] for cell in plan.cells] == [0, 1, 2]
    assert len({cell.config["data_fingerprint"] for cell in plan.cells}) == 3


def test_where_the_data_lies_makes_no_other_cell_and_what_it_holds_does(write, tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    for root, text in (("here", b"P5 1 1 9 0"), ("there", b"P5 1 1 9 0"), ("other", b"P5 1 1 9 00")):
        for part in ("train", "test"):
            for name in "ab":
                path = Path(root, part, name, "image.png")
                path.parent.mkdir(parents=True)
                path.write_bytes(text)
    plan = make_plan(["data=image_folder", "data.root=here,there,other", "trainer.batch_size=2"])
    assert [cell.config["data"]["root"] for cell in plan.cells] == ["here", "other"]


def test_states_are_read_when_they_are_asked_for():
    plan = make_plan(["seeds=4", "pool=max"])
    assert list(plan.states().values()) == [NEW] * 4
    first, second, third, _ = plan.cells
    for cell in (first, second, third):
        files.write_yaml(cell.folder / "config.yaml", cell.config)
    files.write_json(first.folder / "environment.json", {})
    result = {"schema_version": 1, "run_id": first.run_id, "test_accuracy": 0.5, "epochs": 0}
    files.write_json(first.folder / "result.json", result)
    claim = ownership.Ownership(third.folder)
    assert claim.acquire()
    assert list(plan.states().values()) == [DONE, INTERRUPTED, RUNNING, NEW]
    assert plan.open() == list(plan.cells[1:])
    claim.release()
    assert third.state() == INTERRUPTED


def test_sweeps_are_found_in_conf_in_ones_own_folder_and_in_experiments(write, tmp_path):
    demo = make_plan(["sweep=demo", "pool=max,lp", "seeds=1"])
    assert demo.name == "demo"
    assert labels(demo) == [("max", 0), ("lp", 0)]
    assert demo.report_dir == Path("report/demo")

    write("own/sweep/mine.yaml", {"defaults": ["grid"], "blocks": [{"product": {"pool": ["max"]}}], "fail_fast": True})
    write("own/sweep/short.yaml", {"blocks": [{"product": {"pool": ["max"]}}]})
    mine = make_plan(["sweep=mine"], [tmp_path / "own"])
    assert (mine.name, labels(mine), mine.options["fail_fast"]) == ("mine", [("max", 0)], True)
    with pytest.raises(ConfigError, match=r"sweep\.workers is missing"):
        make_plan(["sweep=short"], [tmp_path / "own"])

    assert len(make_plan(["sweep=2026_five_pools", "data=shapes", "seeds=1"]).cells) == 5  # the one that is shipped
    write("experiments/ours/experiment.yaml", {"sweep": [{"zip": {"pool": ["lp", "max"], "pool.kernel_size": [3, 2]}}]})
    ours = make_plan(["sweep=ours", "sweep.workers=1"])
    assert (ours.name, labels(ours)) == ("ours", [("lp(kernel_size=3)", 0), ("max", 0)])
    assert ours.options["workers"] == 1
    with pytest.raises(ConfigError, match=r"unknown sweep 'our'.*'ours'.*Known: demo, ours"):
        make_plan(["sweep=our"])
    write("experiments/ours/experiment.yaml", {"sweeps": []})
    with pytest.raises(ConfigError, match=r"experiments/ours/experiment\.yaml must have a list of blocks.*'sweeps'"):
        make_plan(["sweep=ours"])
    write("experiments/ours/experiment.yaml", "sweep:\n- product: {pool: [max], pool: [lp]}\n")
    with pytest.raises(ConfigError, match=r"experiments/ours/experiment\.yaml cannot be parsed.*duplicate key pool"):
        make_plan(["sweep=ours"])


def test_an_experiment_has_scales_and_the_small_one_is_the_usual(write):
    small, paper = ([{"product": {"pool": ["max", "lp"]}, "seeds": n}] for n in (1, 3))
    write("experiments/ours/experiment.yaml", {"sweep": {"small": small, "paper": paper}})
    usual = make_plan(["sweep=ours"])
    assert usual == make_plan(["sweep=ours", "scale=small"])
    assert (usual.name, len(usual.cells), usual.report_dir) == ("ours", 2, Path("report/ours"))
    other = make_plan(["sweep=ours", "scale=paper", "pool=lp"])
    assert (other.name, len(other.cells), other.report_dir) == ("ours-paper", 3, Path("report/ours-paper"))


@pytest.mark.parametrize(
    ("sweep", "overrides", "words"),
    [
        ({"small": BLOCKS, "paper": BLOCKS}, ["scale=papre"], r"has no scale 'papre'.*'paper'.*Known: paper, small"),
        ({"small": BLOCKS}, ["scale=small,paper"], "scale takes one of small, got small, paper"),
        ({"large": BLOCKS}, [], r"experiments/ours/experiment\.yaml has no scale 'small'.*Known: large"),
        ({"small": []}, [], r"must have a list of blocks under 'sweep: small', got an empty list"),
        (BLOCKS, ["scale=small"], "scale=small: .* is declared at one scale; leave scale out"),
    ],
)
def test_a_scale_that_is_not_there_is_refused(sweep, overrides, words, write):
    write("experiments/ours/experiment.yaml", {"sweep": sweep})
    with pytest.raises(ConfigError, match=words):
        make_plan(["sweep=ours", *overrides])


def test_what_has_no_scales_refuses_one():
    with pytest.raises(ConfigError, match="scale=small: sweep=demo is declared at one scale"):
        make_plan(["sweep=demo", "scale=small"])
    with pytest.raises(ConfigError, match="scale=small: sweep=grid is declared at one scale"):
        make_plan(["pool=max", "scale=small"])


def test_a_name_that_means_two_sweeps_is_refused(write, tmp_path):
    write("experiments/demo/experiment.yaml", {"sweep": [{"product": {"pool": ["max"]}}]})
    with pytest.raises(ConfigError, match=r"sweep=demo means two things: .*demo\.yaml and .*experiment\.yaml"):
        make_plan(["sweep=demo"])
    write("own/sweep/demo.yaml", {"defaults": ["grid"], "blocks": [{"product": {"pool": ["max"]}}]})
    (tmp_path / "experiments/demo/experiment.yaml").unlink()
    with pytest.raises(ConfigError, match="sweep=demo means two things"):
        make_plan(["sweep=demo"], [tmp_path / "own"])


YAML = """
sweep:
- product:
    pool: max,lp                       # as on the command line
    seed: range(0, 3)
    data.train_samples: [200]
    model.widths: [[16, 32, 64], [8, 16, 32]]  # a list of lists
    data.augmentation: {flip: true, crop: 2, cutout: 0}
    trainer.threads: null
    trainer.batch_size: "choice(10, 20)"
  exclude:
  - {pool: lp, seed: "1,2"}
  overrides:
  - match: {pool: lp}
    set: {optimizer.lr: 0.05, data.augmentation: {flip: false, crop: 0, cutout: 0}}
"""


def test_values_of_every_kind_arrive_in_the_configs(write):
    write("experiments/kinds/experiment.yaml", YAML)
    plan = make_plan(["sweep=kinds"])
    assert len(plan.cells) == (3 + 1) * 2 * 2
    for cell in plan.cells:
        config, lp = cell.config, cell.config["names"]["pool"] == "lp"
        assert config["model"]["widths"] in ([16, 32, 64], [8, 16, 32])
        assert config["trainer"]["batch_size"] in (10, 20)
        assert config["trainer"]["threads"] is None
        assert config["data"]["augmentation"] == {"flip": not lp, "crop": 0 if lp else 2, "cutout": 0}
        assert config["optimizer"]["lr"] == (0.05 if lp else 0.1)
        assert cell.train_samples == 200
        assert config["seed"] == 0 or not lp


def test_a_mistake_is_put_down_to_its_block_and_not_to_one_that_is_innocent(write):
    blocks = [{"product": {"pool": ["max"]}}, {"product": {"pool": ["lp"], "trainer.epoch": [3]}}]
    write("experiments/ours/experiment.yaml", {"sweep": blocks})
    with pytest.raises(ConfigError, match=r"^sweep block 2: unknown option 'trainer\.epoch'.*'trainer\.epochs'"):
        make_plan(["sweep=ours"])
    with pytest.raises(ConfigError, match=r"^unknown option 'trainer\.epoch'"):
        make_plan(["sweep=demo", "trainer.epoch=3"])
    write("experiments/ours/experiment.yaml", {"sweep": [{"product": {"trainer.epochs": [1, -1]}}]})
    with pytest.raises(ConfigError, match=r"^sweep block 1: trainer\.epochs must be .* got -1"):
        make_plan(["sweep=ours"])
    write("experiments/ours/experiment.yaml", {"sweep": [{"product": {"pool": ["max", "lpp"]}}]})
    with pytest.raises(ConfigError, match=r"^sweep block 1: unknown pool 'lpp'.*'lp'"):
        make_plan(["sweep=ours"])


def test_one_name_for_two_pools_is_refused(write, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("one", "other"):
        write(f"{name}.py", "def Pool(kernel_size=2): ...")
    line = ["pool=custom", "pool._target_=one.Pool,other.Pool"]
    with pytest.raises(ConfigError, match=r"'Pool.*' would stand for two pools in a table: one\.Pool and other\.Pool"):
        make_plan(line)
    assert len(make_plan([*line[:1], "pool._target_=one.Pool", "+pool.kernel_size=2,3", "seeds=2"]).cells) == 4


def test_a_sample_is_part_of_the_plan():
    line = ["pool=max,lp,average,lip", "seeds=3"]
    whole, some = make_plan(line), make_plan([*line, "sweep.sample=6"])
    assert len(some.cells) == 6
    assert [cell.run_id for cell in whole.cells if cell in some.cells] == [cell.run_id for cell in some.cells]
    assert [seed for _, seed in labels(some)] == [0, 0, 0, 0, 1, 1]
    assert some.notes == ("sweep.sample=6: 6 of 12 cells; of seed 1 only 2 of 4",)
    assert make_plan([*line, "sweep.sample=50"]).notes == ("sweep.sample=50: the sweep has 12 cells, all are taken",)
    with pytest.raises(ConfigError, match=r"sweep\.sample must be null or a whole number of at least 1, got 0"):
        make_plan([*line, "sweep.sample=0"])


def test_an_archive_beside_the_runs_makes_no_cell_done(tmp_path):
    plan = make_plan(["pool=max"])
    (cell,) = plan.cells
    result = {"schema_version": 1, "run_id": cell.run_id, "test_accuracy": 0.5, "epochs": 0}
    line = json.dumps({"run_id": cell.run_id, "config": cell.config, "environment": {}, "result": result})
    for folder in ("results/mine", "runs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "records.jsonl").write_text(line + "\n")
    assert list(make_plan(["pool=max"]).states().values()) == [NEW]


@pytest.mark.parametrize("several", [["pool=max,lp"], ["seeds=1"], ["seed=1,2"], ["sweep=demo"]])
def test_a_single_cell_is_asked_for_where_one_is_trained(several):
    with pytest.raises(ConfigError, match="`poolbench sweep` takes the same options"):
        make_plan(several, single=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["sweep=demo,grid"], "sweep takes one name"),
        (["sweep.workers=1,2"], r"sweep\.workers takes one value"),
        (["sweep.blocks=[{product: {pool: [max]}}]"], r"sweep\.blocks"),
        (["sweep.sampel=3"], r"sweep\.sampel.*sweep\.sample"),
        (["sweep.workers=0"], r"sweep\.workers must be null or a whole number"),
        (["seed=1.5"], "seed must be a whole number of at least 0, got '1.5'"),
        (["seed=-1"], r"seed must be a whole number from 0 to 2\*\*63 - 1, got -1"),
        (["+trainer.epoch=3"], r"trainer\.epoch.*trainer\.epochs"),
        (["trainer.device='1'"], r"trainer\.device must be"),
        (["data._target_=nowhere.Data"], "nowhere"),
        (["+data.sizes=3"], r"unknown option 'data\.sizes'.*'data\.size'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make_plan(options)


def test_missing_data_is_noticed_while_planning():
    with pytest.raises(DataError, match="nowhere"):
        make_plan(["data=image_folder", "data.root=nowhere"])


def test_images_that_cannot_be_read_are_named_while_planning(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    for split in ("train", "test"):
        for name in "ab":
            path = tmp_path / split / name / "image.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^4 images cannot be read:\n(.*image\.png cannot .*(\n|$)){4}"):
        make_plan(["data=image_folder", f"data.root={tmp_path}"])


def test_planning_does_without_torch_and_leaves_nothing_behind(tmp_path):
    code = (
        "import json, sys\n"
        "from poolbench.sweep.plan import make_plan\n"
        "plan = make_plan(['pool=max,strided_conv', 'seeds=2', 'data=cifar10'])\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
        "print(json.dumps([list(plan.states().values()), [cell.run_id for cell in plan.cells]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states, names = json.loads(done.stdout)
    assert states == [NEW] * 4
    assert len(set(names)) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["seed=9223372036854775808"], "2\\*\\*63"),
        (["pool=custom", "pool._target_=torch.nn.MaxPool2d", "+pool.table={0.5:1}"], "key that is float"),
        (["pool=custom", "pool._target_=a.B", f"+pool.table=[{','.join(['0.25'] * 400)}]"], "names"),
    ],
    ids=["seed", "key", "label"],
)
def test_a_cell_whose_record_could_not_be_read_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        make_plan(options)
