"""Blocks: the cells of one seed that are compared with each other, and belong on one kind of processor.

A seed does not survive a change of machine: the same cell on another processor differs by as much as another seed. So
cells are trained a whole block after the other, and a sweep that is stopped has whole blocks.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from poolbench.records.state import DONE, NEW
from poolbench.sweep.cells import Cell, Plan

BLOCKS, DECLARED = "blocks", "declared"  # orders of a sweep
Block = tuple[str, str, Any]


def block_of(cell: Cell) -> Block:
    """What a cell shares with those of its block: the kind of net, the data and the seed."""
    data = cell.config["names"]["data"]
    return str(cell.config["model"]["_target_"]), str(data), cell.config["seed"]


def in_blocks(cells: Iterable[Cell]) -> list[Cell]:
    """A whole block after the other, the first seeds first; within a block as they were declared."""
    cells = list(cells)
    seeds: dict[Any, int] = {}
    blocks: dict[Block, int] = {}
    places = {}
    for cell in cells:
        seed = seeds.setdefault(cell.config["seed"], len(seeds))
        places[cell.run_id] = seed, blocks.setdefault(block_of(cell), len(blocks))
    return sorted(cells, key=lambda cell: places[cell.run_id])


def whole_blocks(plan: Plan, states: Mapping[str, str]) -> tuple[int, int]:
    """How many blocks of ``plan`` are done whole, by the states of its cells, and how many there are."""
    done: dict[Block, bool] = {}
    for cell in plan.cells:
        done[block_of(cell)] = done.get(block_of(cell), True) and states[cell.run_id] == DONE
    return sum(done.values()), len(done)


def next_of(queue: deque[Cell], plan: Plan, workers: int, deadline: float) -> Cell | None:
    """Take the next cell to start out of ``queue``; None where there is none.

    Where its block is begun by nobody and the time until ``deadline`` is too short for it, by what like cells took,
    neither it nor what follows is started, and the queue is left empty.
    """
    if queue and deadline < math.inf and plan.options["order"] == BLOCKS:
        members = [cell for cell in plan.cells if block_of(cell) == block_of(queue[0])]
        needed = _seconds(members, plan, workers) if all(cell.state() == NEW for cell in members) else None
        if needed is not None and needed > deadline - time.monotonic():
            queue.clear()
    return queue.popleft() if queue else None


def _seconds(cells: list[Cell], plan: Plan, workers: int) -> float | None:
    """How long ``cells`` take with so many workers; None where nothing like them was trained."""
    from poolbench.sweep.estimate import estimate, wall_seconds

    states = dict.fromkeys((cell.run_id for cell in plan.cells), DONE) | {cell.run_id: NEW for cell in cells}
    estimates = list(estimate(plan, states, workers).values())
    return None if any(one.seconds is None for one in estimates) else wall_seconds(estimates, workers)
