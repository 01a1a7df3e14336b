"""What the rest of a plan should cost, from records of like cells."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from poolbench.records import environment, files, ownership
from poolbench.records.state import DONE, FAILED, INTERRUPTED, RUNNING
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.estimate import Estimate, cells_at_once, estimate, wall_seconds
from poolbench.sweep.plan import make_plan
from tests.report.synthetic import make_config, write_cell

SAMPLES = 200


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan_of(*cells, samples=SAMPLES):
    """A plan of cells given as ``(pool, seed)`` or ``(pool, seed, changes)``."""
    configs = [
        make_config(pool, seed, **{"trainer__epochs": 4, "trainer__threads": 1, **(changes[0] if changes else {})})
        for pool, seed, *changes in cells
    ]
    return Plan("grid", tuple(Cell(c["run_id"], c, (), samples) for c in configs), {"workers": None}, Path("report"))


def train(*cells, seconds, flops=1e9, threads=1, cpu=None, checkpoint=500):
    """Leave finished records of cells, which took ``seconds`` each."""
    for cell in plan_of(*cells).cells:
        where = {"threads": threads, "cpu": cpu or environment.cpu_name()}
        numbers = {"cell_seconds": seconds, "train_flops": flops, "train_samples": SAMPLES}
        write_cell(Path("runs"), cell.config, environment=where, **numbers)
        (cell.folder / "checkpoint.pt").write_bytes(b"x" * checkpoint)


def estimates_of(*cells, samples=SAMPLES):
    plan = plan_of(*cells, samples=samples)
    return list(estimate(plan, plan.states()).values())


def test_cells_of_other_seeds_cost_their_median():
    for seed, seconds in enumerate((10.0, 12.0, 90.0)):
        train(("max", seed), seconds=seconds, flops=1e9)
    train(("lp", 0), seconds=1.0)
    (found,) = estimates_of(("max", 3))
    assert found == Estimate(12.0, 1e9, 500, "other seeds", 3)
    assert estimates_of(("max", 0), ("max", 2)) == []  # they are done
    assert len(estimates_of(("max", 0), ("max", 3), ("max", 4))) == 2


def test_another_budget_is_scaled_by_images_and_the_nearest_one_counts():
    train(("max", 0), seconds=10.0, flops=1e9)
    train(("max", 0, {"trainer__epochs": 1}), seconds=7.0)
    twice, recipe = {"trainer__epochs": 8}, {"optimizer__lr": 0.01, "trainer__label_smoothing": 0.1}
    found = [
        estimates_of(("max", 0, changes), samples=samples)[0]
        for changes, samples in ((twice, 200), ({"data__validation": 0.25}, 150), (recipe, 200), (twice, 1600))
    ]
    assert [one.seconds for one in found] == pytest.approx([20.0, 7.5, 10.0, 160.0])
    assert [one.train_flops for one in found] == pytest.approx([2e9, 7.5e8, 1e9, 1.6e10])
    assert {one.basis for one in found} == {"another budget or recipe"}
    assert estimates_of(("max", 0, twice), samples=None) == [Estimate()]  # nothing to scale by


def test_another_pool_is_better_than_none_and_worse_than_the_same():
    two_epochs = {"trainer__epochs": 2}
    train(("max", 0), seconds=10.0)
    (found,) = estimates_of(("lp", 0, two_epochs))
    assert (found.seconds, found.basis) == (5.0, "another pool")
    train(("lp", 0), seconds=30.0)
    (found,) = estimates_of(("lp", 0, two_epochs))
    assert (found.seconds, found.basis) == (15.0, "another budget or recipe")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("model__widths", [8, 8, 8]), ("head__hidden", [64]), ("data__size", 16), ("data___target_", "x.Other")),
        *(("trainer__batch_size", 7), ("trainer__sizes", [32, 16]), ("trainer__precision", "bf16")),
        ("optimizer___target_", "poolbench.training.optimizers.muon"),
    ],
)
def test_what_is_another_amount_of_work_is_not_compared(option, value):
    train(("max", 0), seconds=10.0)
    config = plan_of(("max", 0)).cells[0].config
    group, _, name = option.partition("__")
    assert estimates_of(("max", 0, {group: {**config[group], name: value}})) == [Estimate()]


def test_cells_of_this_processor_and_as_many_threads_count_before_others():
    train(("max", 0), seconds=10.0, threads=4)
    assert estimates_of(("max", 9))[0].seconds == 10.0
    train(("max", 1), seconds=20.0, threads=1, cpu="another")
    train(("max", 2), seconds=30.0, threads=1)
    assert estimates_of(("max", 9))[0].seconds == 30.0
    assert estimates_of(("max", 9, {"trainer__threads": 4}))[0].seconds == 10.0


def test_a_cell_that_has_begun_costs_what_is_left_of_it():
    train(("max", 0), seconds=100.0, flops=1e9)
    plan = plan_of(("max", 1))
    (cell,) = plan.cells
    status = {"schema_version": 1, "run_id": cell.run_id, "state": "running", "epoch": 1.5, "epochs": 4}
    files.write_yaml(cell.folder / "config.yaml", cell.config)
    files.write_json(cell.folder / "status.json", status)
    (cell.folder / "checkpoint.pt").write_bytes(b"x")

    def found(state):
        (one,) = estimate(plan, {cell.run_id: state}).values()
        return one

    assert found(INTERRUPTED).seconds == 75.0  # half an epoch is lost
    assert found(INTERRUPTED).train_flops == 7.5e8
    assert found(INTERRUPTED).checkpoint_bytes == 0  # it is there already
    assert found(FAILED).seconds == 100.0
    claim = ownership.Ownership(cell.folder)
    assert claim.acquire()
    assert found(RUNNING).seconds == 62.5
    claim.release()
    # Its epochs differ, so what it says of its work counts.
    files.write_json(cell.folder / "status.json", {**status, "share_done": 0.9})
    assert found(INTERRUPTED).seconds == pytest.approx(40.0)
    files.write_json(cell.folder / "status.json", {**status, "share_done": "most"})
    assert found(INTERRUPTED).seconds == 100.0
    (cell.folder / "status.json").write_text("{")
    assert found(INTERRUPTED).seconds == 100.0
    assert estimate(plan, {cell.run_id: DONE}) == {}


def test_strange_records_are_no_reason_to_fail():
    train(("max", 0), seconds=100.0)
    (folder,) = Path("runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert estimates_of(("max", 1))[0].seconds == 100
    for change in ({"cell_seconds": 0}, {"cell_seconds": None}, {"schema_version": 99}):
        (folder / "result.json").write_text(json.dumps(result | change))
        assert estimates_of(("max", 1)) == [Estimate()]
    (folder / "result.json").write_text("nothing")
    Path("runs/file").write_text("no record")
    assert estimates_of(("max", 1)) == [Estimate()]


def test_workers_share_the_cells_one_after_another():
    cells = [Estimate(seconds) for seconds in (3.0, 1.0, 1.0, 4.0, None)]
    assert wall_seconds(cells, 1) == 9
    assert wall_seconds(cells, 2) == 6  # 3 and 1, 1, 4
    assert wall_seconds(cells, 8) == 4
    assert wall_seconds([], 3) == 0


def test_as_many_at_once_as_a_sweep_would_take(monkeypatch):
    plan = plan_of(("max", 0))
    assert cells_at_once(replace(plan, options={"workers": 3})) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cells_at_once(plan) == environment.available_cores()


def test_a_plan_knows_the_training_images_of_its_cells():
    plan = make_plan(["data.train_samples=200", "data.validation=0,0.25"])
    assert [cell.train_samples for cell in plan.cells] == [200, 150]
