"""A race run: blocks are trained, looked at, and arms fall. What is decided follows from the records alone.

So a race that was killed goes on where it was, and one that is over ends at once, in the same way.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from poolbench.racing.declared import Budget, Race
from poolbench.records.read import Record, read_record
from poolbench.records.state import DONE, FAILED, NEW
from poolbench.statistics.blocks import Difference, Values, accuracy_floor
from poolbench.statistics.race import Look, look
from poolbench.sweep.cells import Cell, Plan
from poolbench.sweep.workers import CellsRefused, failure_reason, is_lasting, prepare

ONE_LEFT, SETTLED, LAST_LOOK, HOURS, NONE_LEFT = (
    "one arm is left",
    "settled: the first is surely no more than the difference of interest worse than any other",
    "the last look that was declared",
    "the hours are up",
    "every arm failed",
)


class Unfinished(Exception):
    """Cells that the next look needs are not done; the same command goes on."""


@dataclass(frozen=True)
class Gone:
    """An arm that fell.

    Args:
        budget: the number of its stage; blocks: that it had when it fell; 0 for one that never began.
        rival, gain: who was surely better, and by how much, as a fraction; None of an arm that failed.
        reason: why it failed; empty of one that was beaten.
    """

    arm: str
    budget: int
    blocks: int
    rival: str | None = None
    gain: Difference | None = None
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """A look, and what came before it.

    Args:
        budget: the number of its stage; blocks: that were trained; each cell of a seed counts where all arms' cells
            were trained on one kind of processor, so ``look.blocks`` may be fewer.
        gone: those that failed or fell, of ``left`` and these.
    """

    budget: int
    blocks: int
    look: Look | None
    left: tuple[str, ...]
    gone: tuple[Gone, ...]


@dataclass(frozen=True)
class Outcome:
    """How a race ended, or how far it is.

    Args:
        steps: the looks; left: the arms, the best first.
        gone: the others, in the order in which they fell.
        end: why it ended, one of the sentences above.
        blocks: of the full budget that were looked at.
        cells: that were trained, all budgets together; full_cells: those of the full budget.
    """

    steps: tuple[Step, ...]
    left: tuple[str, ...]
    gone: tuple[Gone, ...]
    end: str
    blocks: int
    cells: int
    full_cells: int


Train = Callable[[Plan], Mapping[str, str]]


def run_race(race: Race, train: Train, tell: Callable[[Step], None] = lambda step: None) -> Outcome:
    """Let ``train`` train the cells before each look, and look, until the race is over.

    Args:
        train: trains the open cells of a plan and returns run_id -> reason for those that failed; it may as well do
            nothing, to see how far the records go.
        tell: called after each look.
    Raises: Unfinished when the cells of the first look at the full budget are not done after ``train``.
    """
    gone = [Gone(arm, 0, 0, reason=why) for arm, why in race.refused.items()]
    left, steps, used = race.arms, list[Step](), dict[str, Cell]()
    end, blocks = LAST_LOOK, 0
    for number, budget in enumerate(race.budgets):
        for until in budget.looks:
            if budget.cheap and len(left) < 2:
                break  # at the full budget it is trained all the same: that is where it is read
            plan = plan_of(race, budget, left, until)
            failed = train(plan)
            used |= {cell.run_id: cell for cell in plan.cells}
            fell = [Gone(arm, number, until, reason=why) for arm, why in _failed(budget, left, until, failed).items()]
            left = tuple(arm for arm in left if arm not in {one.arm for one in fell})
            if unfinished := _unfinished(budget, left, until):
                if not blocks:
                    raise Unfinished(f"{unfinished} is {used[unfinished].state()}")
                gone += fell
                end = HOURS
                break
            found = None
            if len(left) > 1:
                found = look_at(race, budget, left, until)
                fell += [Gone(one.arm, number, until, one.rival, one.gain) for one in found.fallen]
                left = found.left
            gone += fell
            blocks = 0 if budget.cheap else until
            steps.append(Step(number, until, found, left, tuple(fell)))
            tell(steps[-1])
            if not left or (not budget.cheap and (len(left) == 1 or (found and found.settled))):
                end = NONE_LEFT if not left else ONE_LEFT if len(left) == 1 else SETTLED
                break
        if not left:
            break
    states = {run_id: cell.state() for run_id, cell in used.items()}
    trained = [run_id for run_id, state in states.items() if state in (DONE, FAILED)]
    full = {cell.run_id for own in race.full.cells.values() for cell in own}
    return Outcome(tuple(steps), left, tuple(gone), end, blocks, len(trained), len(full.intersection(trained)))


def plan_of(race: Race, budget: Budget, arms: Iterable[str], blocks: int) -> Plan:
    """The cells of so many blocks of ``arms``, a whole block after the other."""
    own = [budget.cells[arm][:blocks] for arm in arms]
    cells = {cell.run_id: cell for block in zip(*own, strict=True) for cell in block}
    return Plan(f"race-{race.name}", tuple(cells.values()), race.options, race.folder)


def open_cells(plan: Plan) -> Plan:
    """What there is to train of ``plan``: no cell that is done, nor one that failed in a way that would repeat itself,
    nor a further one of the same arm."""
    lost = {arm_of(cell) for cell in plan.cells if _is_lost(cell)}
    cells = tuple(cell for cell in plan.cells if arm_of(cell) not in lost and cell.state() != DONE)
    return dataclasses.replace(plan, cells=cells)


def arm_of(cell: Cell) -> str:
    """What a cell shares with those of its arm and budget: its words, the seed apart."""
    return " ".join(text for text in cell.overrides if not text.startswith("seed="))


def unbuildable(plan: Plan) -> dict[str, str]:
    """The cells of ``plan`` whose parts do not fit together: run_id -> why. Of an arm that was begun none is."""
    arms: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        arms.setdefault(arm_of(cell), []).append(cell)
    fresh = [own for own in arms.values() if own[0].state() == NEW]
    if not fresh:
        return {}
    try:
        prepare([own[0] for own in fresh])
        return {}
    except CellsRefused:  # it tells of one of them only
        pass
    found: dict[str, str] = {}
    for own in fresh:
        try:
            prepare(own[:1])
        except CellsRefused as reason:
            found |= dict.fromkeys((cell.run_id for cell in own), str(reason))
    return found


def look_at(race: Race, budget: Budget, arms: Iterable[str], blocks: int) -> Look:
    """Look at ``arms`` after so many blocks, which are trained. Raises: Unfinished where too few blocks are whole."""
    records = records_of(budget, arms, blocks)
    values = accuracies(records)
    whole = set.intersection(*(set(own) for own in values.values()))
    if len(whole) < 2:
        raise Unfinished(
            f"of {blocks} blocks {len(whole)} were trained whole on one kind of processor, and a look needs 2"
        )
    return look(values, race.difference, len(budget.looks), floors(records), budget.margin)


def records_of(budget: Budget, arms: Iterable[str], blocks: int) -> dict[str, list[Record]]:
    """The records of so many blocks of each of ``arms``; those that are done."""
    return {
        arm: [read_record(cell.folder) for cell in budget.cells[arm][:blocks] if cell.state() == DONE] for arm in arms
    }


def accuracies(records: Mapping[str, list[Record]]) -> Values:
    """Arm -> block -> validation accuracy. A block is a seed on one kind of processor."""
    return {
        arm: {
            (record.config["seed"], record.environment.get("fingerprint")): record.result["validation_accuracy"]
            for record in own
            if record.result is not None
        }
        for arm, own in records.items()
    }


def floors(records: Mapping[str, list[Record]]) -> dict[str, float]:
    """The least variance of a validation accuracy of each arm."""
    found = {}
    for arm, own in accuracies(records).items():
        result = records[arm][0].result or {}
        found[arm] = accuracy_floor(sum(own.values()) / len(own), result["validation_samples"])
    return found


def _failed(budget: Budget, arms: Iterable[str], blocks: int, failed: Mapping[str, str]) -> dict[str, str]:
    """The arms with a cell that failed -> why."""
    found = {}
    for arm in arms:
        for cell in budget.cells[arm][:blocks]:
            if cell.run_id in failed or _is_lost(cell):
                found.setdefault(arm, failed.get(cell.run_id) or failure_reason(cell))
    return found


def _unfinished(budget: Budget, arms: Iterable[str], blocks: int) -> str | None:
    """A cell that is not done."""
    cells = (cell for arm in arms for cell in budget.cells[arm][:blocks])
    return next((cell.run_id for cell in cells if cell.state() != DONE), None)


def _is_lost(cell: Cell) -> bool:
    return cell.state() == FAILED and is_lasting(cell)
