"""Blocks: one seed of a net after the other, none begun that does not fit, and counted."""

import json
import math
import time
from collections import deque
from pathlib import Path

import pytest

from poolbench.records import files
from poolbench.records.state import DONE, NEW
from poolbench.sweep.blocks import block_of, in_blocks, next_of, whole_blocks
from poolbench.sweep.plan import make_plan
from tests.report.synthetic import write_cell
from tests.sweep.tiny import TINY

FILE = """
blocks:
- product: {pool: [max, lp], model: convnet_small, data: shapes}
  seeds: 2
- product: {pool: [max, average], model: [lenet, convnet_small], data: shapes, head: gem}
  seeds: 3
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine/sweep").mkdir(parents=True)
    Path("mine/sweep/two.yaml").write_text(f"defaults:\n- grid\n{FILE}")


def plan_of(*words):
    return make_plan(["sweep=two", *words], [Path("mine")])


def test_a_whole_block_comes_after_the_other():
    plan = plan_of()
    blocks = [block_of(cell) for cell in plan.cells]
    runs = [block for number, block in enumerate(blocks) if number == 0 or blocks[number - 1] != block]
    assert len(runs) == len(set(runs)) == 6  # none is left and come back to
    assert [seed for *_, seed in runs] == [0, 0, 1, 1, 2, 2]
    declared = plan_of("sweep.order=declared")
    assert {cell.run_id for cell in declared.cells} == {cell.run_id for cell in plan.cells}
    order = [block_of(cell) for cell in declared.cells]
    assert order != blocks
    assert [cell.run_id for cell in in_blocks(declared.cells)] == [cell.run_id for cell in plan.cells]


def test_blocks_are_counted():
    plan = plan_of()
    states = dict.fromkeys((cell.run_id for cell in plan.cells), DONE)
    assert whole_blocks(plan, states) == (6, 6)
    assert whole_blocks(plan, {**states, plan.cells[0].run_id: NEW}) == (5, 6)


def finished(cell, seconds):
    """A record of a cell of another seed that took so long."""
    folder = write_cell(cell.folder.parent, {**cell.config, "seed": 99, "run_id": f"like-{cell.run_id[-10:]}"})
    result = folder / "result.json"
    content = json.loads(result.read_text())
    files.write_json(result, {**content, "cell_seconds": seconds})


@pytest.mark.parametrize(("seconds", "left", "stays"), [(10.0, 1e6, True), (1000.0, 1.0, False), (None, 1.0, True)])
def test_a_block_is_not_begun_that_the_time_left_does_not_allow(seconds, left, stays):
    plan = make_plan(["pool=max,lp", "seeds=2", *TINY])
    for cell in plan.cells[:2] if seconds else ():
        finished(cell, seconds)
    queue = deque(plan.cells)
    cell = next_of(queue, plan, 1, time.monotonic() + left)
    assert (cell, len(queue)) == ((plan.cells[0], 3) if stays else (None, 0))
    assert next_of(deque(), plan, 1, time.monotonic() + left) is None


def test_a_block_that_was_begun_is_finished():
    plan = make_plan(["pool=max,lp", "seeds=2", *TINY])
    for cell in plan.cells[:2]:
        finished(cell, 1000.0)
    files.write_yaml(plan.cells[0].folder / "config.yaml", plan.cells[0].config)
    for deadline in (time.monotonic() + 1.0, math.inf):
        queue = deque(plan.cells)
        assert next_of(queue, plan, 1, deadline) is plan.cells[0]
        assert len(queue) == 3
