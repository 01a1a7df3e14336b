"""A part of a sweep, drawn so that what is drawn can be compared, and so that a larger draw holds a smaller one."""

from typing import TYPE_CHECKING

from poolbench.messages import counted
from poolbench.records.groups import group_hash, pool_of
from poolbench.records.identity import digest

if TYPE_CHECKING:
    from poolbench.sweep.cells import Cell


def draw(cells: list["Cell"], count: int | None) -> tuple[list["Cell"], list[str]]:
    """``count`` of ``cells``, in their order, and what should be said of it.

    Seed after seed is taken whole, since differences are taken within a seed. Where one does not fit any more, settings
    (all but pool and seed) are taken from it in an order drawn by hash, each with all its pools; where a setting does
    not fit, its first pool in the sweep, which others are usually compared with, and more in an order drawn by hash.
    Nothing depends on ``count`` or on a state: the same sweep gives the same draw anywhere, a larger one holds a
    smaller one, and seeds that are added change nothing of it.
    """
    if count is None:
        return cells, []
    if count >= len(cells):
        taken = "which is taken" if len(cells) == 1 else "all are taken"
        return cells, [f"sweep.sample={count}: the sweep has {counted(len(cells), 'cell')}, {taken}"]
    groups = {cell.run_id: group_hash(cell.config) for cell in cells}
    firsts: dict[tuple[int, str], str] = {}  # (seed, setting) -> its first pool
    for cell in cells:
        firsts.setdefault((cell.config["seed"], groups[cell.run_id]), cell.run_id)

    def place(cell: "Cell") -> tuple[int, str, bool, str]:
        seed, group = cell.config["seed"], groups[cell.run_id]
        return seed, group, firsts[seed, group] != cell.run_id, digest(pool_of(cell.config))

    drawn = {cell.run_id for cell in sorted(cells, key=place)[:count]}
    taken = [cell for cell in cells if cell.run_id in drawn]
    seeds = {seed: sum(cell.config["seed"] == seed for cell in cells) for seed in {c.config["seed"] for c in taken}}
    last = max(seeds)
    got = sum(cell.config["seed"] == last for cell in taken)
    whole = "" if got == seeds[last] else f"; of seed {last} only {got} of {seeds[last]}"
    return taken, [f"sweep.sample={count}: {count} of {counted(len(cells), 'cell')}{whole}"]
