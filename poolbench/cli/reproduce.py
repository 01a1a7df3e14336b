"""Run a comparison of the history, or all of them, and say what the paper's claims come to here.

  poolbench reproduce all                    judges what is published and trains nothing
  poolbench reproduce 2012_overlapping seeds=10
  poolbench reproduce 2012_overlapping data=shapes model=fast_cnn_tiny seeds=3    offline, minutes
  poolbench reproduce all scale=paper --plan                    cells and cost, without training

Each is a folder of experiments/: the sweep, the claims with the paper's numbers, and the story. What is published, in
results/ or in the installed package, is not trained again; of an experiment that is published in part `all`, as it is
declared, leaves the rest untrained and says so. Killed at any moment, the same command goes on. Tables, the figure and
the records go to report/NAME/; --publish adds the records to results/ and brings the README files up to date. How
verdicts are made: docs/claims.md. The exit code is 0 when every cell that was asked for is done, whatever the verdicts.
Seeds that most likely leave a headline claim open are refused, where published cells tell the spread (docs/power.md).
"""

import argparse
import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.cli.options import add_overrides
from poolbench.messages import counted

if TYPE_CHECKING:
    from poolbench.claims.chances import Chance
    from poolbench.claims.claim import Claim
    from poolbench.claims.experiment import Experiment
    from poolbench.claims.looks import Declared
    from poolbench.cli.progress import Screen
    from poolbench.records.read import Problem, Record
    from poolbench.sweep.cells import Plan

_PUBLISHED = "published"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME|all", help="a folder of experiments/ that has a claim.yaml, or all of them"
    )
    parser.add_argument("--plan", action="store_true", help="show cells and cost, and train nothing")
    parser.add_argument(
        "--publish", action="store_true", help="for maintainers, in a checkout: also update results/ and README files"
    )
    parser.add_argument(
        "--underpowered", action="store_true", help="train although a headline claim has less than 50 %% to be decided"
    )
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.records.read import told

    launcher, chosen = designs(
        arguments.name,
        arguments.overrides,
        arguments.config_dir,
        arguments.trust,
        publish=arguments.publish,
        underpowered=arguments.plan or arguments.underpowered,
    )
    unfinished = 0
    for number, design in enumerate(chosen):
        print("\n" * (number > 0), end="")
        for problem in told(design.problems):
            print(f"note: not read: {problem}")
        if arguments.plan:
            print("\n".join(planned(design)))
        else:
            unfinished += _reproduce(design, launcher, arguments)
    return 1 if unfinished else 0


def designs(
    name: str,
    words: Sequence[str],
    config_dir: Sequence[Path],
    trust: Sequence[str],
    publish: bool = False,
    underpowered: bool = False,
) -> "tuple[list[str], list[Design]]":
    """The launcher's options, and the experiments that ``name`` stands for as ``words`` ask for them, all of them
    checked before any work: what is wrong with the last is said before the first is trained.

    Args:
        publish: refuse cells that the experiment does not declare.
        underpowered: take seeds that most likely leave a headline claim open.
    Raises: ConfigError, DataError, ClaimError.
    """
    from poolbench.claims.looks import declared
    from poolbench.claims.published import experiments_with_claims, published
    from poolbench.claims.reading import read_claims
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    launcher, overrides = launcher_options(list(words))
    chosen = []
    for one, folder in experiments_with_claims(name).items():
        plan = make_plan([f"sweep={one}", *overrides], config_dir, trust=trust)
        claims = read_claims(folder / "claim.yaml", plan.scale, plan.scales)
        _check_claims(one, claims, plan)
        if publish:
            _refuse_others(one, plan)
        said = declared(folder, plan.scale, _declared_seeds(one, plan, overrides))
        known, problems = published(plan.name, (cell.run_id for cell in plan.cells))
        kept = name == "all" and known and _as_declared(one, plan, overrides)
        design = Design(folder, plan, claims, known, said, problems, trains=not kept)
        if design.trains and not underpowered:
            _refuse_underpowered(design)
        chosen.append(design)
    return launcher, chosen


@dataclasses.dataclass(frozen=True)
class Design:
    """An experiment as it is asked for.

    Args:
        folder: of the experiment; plan, claims: at its scale; known: run_id -> what is published of its cells.
        declared: its seeds and looks, whatever is asked for now.
        problems: what could not be read of the published cells.
        trains: whether what is neither done nor published is to be trained.
    """

    folder: Path
    plan: "Plan"
    claims: Sequence["Claim"]
    known: Mapping[str, "Record"]
    declared: "Declared"
    problems: "Sequence[Problem]"
    trains: bool = True

    @property
    def seeds(self) -> int:
        """That are asked for."""
        return len({cell.config["seed"] for cell in self.plan.cells})

    def chances(self) -> "list[Chance]":
        """Of its claims to be decided with these seeds, by the spread of what is published."""
        from poolbench.claims.chances import chances

        return chances(self.claims, self.known.values(), self.seeds, len(self.declared.looks) or 1)


def _declared_seeds(name: str, plan: "Plan", overrides: Sequence[str]) -> frozenset[int]:
    """The seeds that the experiment declares at the scale of ``plan``."""
    from poolbench.sweep.plan import make_plan

    if any(text.partition("=")[0].lstrip("+~") in ("seed", "seeds", "sweep.sample") for text in overrides):
        plan = make_plan([f"sweep={name}", *([f"scale={plan.scale}"] if plan.scale else [])])
    return frozenset(cell.config["seed"] for cell in plan.cells)


def _as_declared(name: str, plan: "Plan", overrides: Sequence[str]) -> bool:
    """Whether the cells of ``plan`` are those that the experiment declares at its usual scale, or some of them."""
    from poolbench.records.identity import cell_hash
    from poolbench.sweep.plan import make_plan

    if not overrides:
        return True
    declared = {cell_hash(cell.run_id) for cell in make_plan([f"sweep={name}"]).cells}
    return all(cell_hash(cell.run_id) in declared for cell in plan.cells)


def _refuse_underpowered(design: Design) -> None:
    """Raises: ClaimError when cells are left to train and a headline claim will not be decided by them more likely than
    not."""
    from poolbench.claims.chances import chance_lines, underpowered
    from poolbench.claims.claim import ClaimError
    from poolbench.records.state import DONE

    states = design.plan.states()
    left = sum(state != DONE and run_id not in design.known for run_id, state in states.items())
    weak = underpowered(design.chances()) if left else []
    if weak:
        told = "\n".join(chance_lines(weak, design.seeds))
        raise ClaimError(
            f"{design.plan.name}: {counted(left, 'cell')} would be trained, and most likely leave open what they are "
            f"for:\n{told}\nAsk for more seeds (seeds=N), or for these with --underpowered"
        )


def planned(design: Design) -> list[str]:
    """Cells by arm, how far they are, what the rest should cost, and whether it will decide the claims."""
    from poolbench.claims.chances import chance_lines
    from poolbench.cli.plan import cost_lines, left
    from poolbench.records.state import DONE
    from poolbench.sweep.estimate import cells_at_once, estimate

    plan, claims, known = design.plan, design.claims, design.known
    states = plan.states()
    shown = {run_id: _PUBLISHED if state != DONE and run_id in known else state for run_id, state in states.items()}
    arms: dict[tuple[str, ...], Counter[str]] = {}
    for cell in plan.cells:
        arm = tuple(text for text in cell.overrides if not text.startswith("seed="))
        arms.setdefault(arm, Counter())[shown[cell.run_id]] += 1
    common = [text for text in next(iter(arms)) if all(text in arm for arm in arms)]
    total = f"{counted(len(claims), 'claim')}, {counted(len(plan.cells), 'cell')}"
    lines = [f"{plan.name}: {total}: {_counted(Counter(shown.values()))}"]
    lines += [f"  all: {shlex.join(common)}"] if common else []
    lines += [f"  {_counted(count):<12} {shlex.join(t for t in arm if t not in common)}" for arm, count in arms.items()]
    workers = cells_at_once(plan)
    # Those that are published are done, as far as the cost goes.
    done = {run_id: DONE if state == _PUBLISHED else state for run_id, state in shown.items()}
    estimates = estimate(plan, done, workers, known.values())
    costs = cost_lines(estimates.values(), left(estimates, workers), "runs_dir and results/" if known else "runs_dir")
    decided = chance_lines(design.chances(), design.seeds)
    if looks := design.declared.looks:
        decided.append(f"judged at {', '.join(map(str, looks))} seeds, which share the error")
    return lines + [f"  {line}" for line in (*costs, *decided)]


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _reproduce(design: Design, launcher: list[str], arguments: argparse.Namespace) -> int:
    """Train what is missing, judge the claims, write the report. Returns: how many cells are not done."""
    from poolbench.claims.experiment import write_judged
    from poolbench.cli.cells import tell_what_is_left
    from poolbench.records.read import told

    plan = design.plan
    came = train_missing(design, launcher)
    for problem in told(came.problems):
        print(f"note: not read: {problem}")
    if came.records:
        experiment = write_judged(judged(design, came.records), plan.report_dir, archive=True)
        print(f"\n{experiment.text}\nTables, the figure and records: {plan.report_dir}/")
    if arguments.publish and came.records:
        _publish(plan, came.records)
    return tell_what_is_left(came.mine, came.failed, arguments.config_dir)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What there is of an experiment's cells.

    Args:
        mine: the plan of those that are not taken from published records; failed: of these, run_id -> why.
        records: of all cells; problems: what could not be read.
    """

    mine: "Plan"
    failed: Mapping[str, str]
    records: "Sequence[Record]"
    problems: "Sequence[Problem]"


def train_missing(design: Design, launcher: list[str], screen: "Screen | None" = None) -> Trained:
    """Train what is neither done nor published of ``design``, and read all of it."""
    from poolbench.cli.cells import train
    from poolbench.cli.progress import usual_screen
    from poolbench.records.read import read_records
    from poolbench.records.state import DONE

    screen, plan, known = screen or usual_screen(), design.plan, design.known
    # One's own records come first: whoever trains a cell wants to see what came out.
    states = plan.states()
    rest = tuple(cell for cell in plan.cells if states[cell.run_id] == DONE or cell.run_id not in known)
    left = [cell for cell in rest if states[cell.run_id] != DONE]
    if not design.trains:
        rest = tuple(cell for cell in rest if states[cell.run_id] == DONE)
    failed: dict[str, str] = {}
    mine = dataclasses.replace(plan, cells=rest)
    if left and not design.trains:
        have = len(plan.cells) - len(left)
        screen.line(
            f"sweep {plan.name}: {have} of {counted(len(plan.cells), 'cell')} published or done, none is trained now: "
            f"poolbench reproduce {plan.name} trains the rest"
        )
    elif rest:
        failed = train(mine, launcher, len(plan.cells) - len(rest), screen)
    else:
        screen.line(f"sweep {plan.name}: {counted(len(plan.cells), 'cell')}, all published")
    mine_done, unread = read_records([cell.folder for cell in rest if (cell.folder / "result.json").exists()])
    taken = [cell.run_id for cell in plan.cells if cell.run_id in known and states[cell.run_id] != DONE]
    records = [*mine_done, *(known[run_id] for run_id in taken)]
    return Trained(mine, failed, records, unread)


def judged(design: Design, records: "Sequence[Record]") -> "Experiment":
    """The claims of ``design``, judged on ``records``; nothing is written."""
    from poolbench.claims.experiment import make_experiment
    from poolbench.claims.published import published_speeds, results_dir
    from poolbench.cli.published import figure_title

    name = design.plan.name
    title, speeds = figure_title(design.folder, records), published_speeds(results_dir() / name)
    return make_experiment(name, records, design.claims, speeds, title, design.declared)


def _check_claims(name: str, claims: Sequence["Claim"], plan: "Plan") -> None:
    """Raises: ClaimError when the cells of ``plan``, all of them done, could not be judged: an arm would be several
    configs, no claim would have a pair, or a probe that a claim reads is not asked for."""
    from poolbench.claims.claim import ClaimError
    from poolbench.claims.verdicts import judge
    from poolbench.records.read import Record
    from poolbench.records.tuning import reads_test

    # As if trained: whatever numbers come out, the claims find their arms and their metrics in the same way.
    done = [Record(cell.run_id, cell.folder, cell.config, result=_numbers(cell.config)) for cell in plan.cells]
    if not any(map(reads_test, done)):
        raise ClaimError(f"{name}: its claims cannot be judged with trainer.test=false: no cell reads the test set")
    try:
        judged = judge(claims, done)
    except ClaimError as error:
        raise ClaimError(f"{name}: its claims cannot be judged on {_these(plan)}: {error}") from error
    # Who draws some of the cells wants to see these, not verdicts.
    if not any(judgement.gain.n for judgement in judged) and not plan.options["sample"]:
        raise ClaimError(f"{name}: none of its claims can be judged on {_these(plan)}: {judged[0].why}")


def _these(plan: "Plan") -> str:
    return "this cell" if len(plan.cells) == 1 else f"these {len(plan.cells)} cells"


def _numbers(config: Mapping[str, Any]) -> dict[str, float]:
    """A number under each name that the result of a cell will have one for."""
    from poolbench.records.collect import RESULT
    from poolbench.records.probes import names

    absent = [] if config["data"].get("validation") else ["validation_accuracy", "validation_loss"]
    absent += [] if config["trainer"].get("flip_averaging") else ["flip_averaged_accuracy"]
    there = ("epochs", *RESULT, *names(config.get("probe") or {}))
    return {number: 0.5 for number in there if number not in absent}


def _publish(plan: "Plan", records: Sequence["Record"]) -> None:
    """Add ``records`` to those that are published of this experiment, and redraw all that is made from them."""
    from poolbench.claims.published import results_dir
    from poolbench.cli.published import refresh
    from poolbench.records.collect import write_archive
    from poolbench.records.identity import cell_hash
    from poolbench.records.read import ARCHIVE, read_records

    folder = results_dir() / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    before, unread = read_records(folder / ARCHIVE) if (folder / ARCHIVE).is_file() else ([], [])
    if unread:  # writing the file anew would lose them
        raise ValueError(f"{folder / ARCHIVE} has records that cannot be read, so nothing is published: {unread[0]}")
    # A record that is published stays as it is, by whatever name, and one of seeds that are not asked for now does too.
    kept = {cell_hash(record.run_id) for record in before}
    new = [record for record in records if cell_hash(record.run_id) not in kept]
    write_archive([*before, *new], folder / ARCHIVE)
    for line in refresh(results_dir().parent):
        print(line, flush=True)


def _refuse_others(name: str, plan: "Plan") -> None:
    """Raises: ConfigError when ``plan`` has cells that the experiment does not declare: they are not its results; or
    where there are no pages to fill, as for an installed package."""
    from poolbench.claims.published import results_dir
    from poolbench.configuration import ConfigError
    from poolbench.records.identity import cell_hash
    from poolbench.sweep.plan import make_plan

    if not (results_dir().parent / "README.md").is_file():
        raise ConfigError(f"--publish works in a checkout: there is no README.md in {results_dir().parent}")
    usual = make_plan([f"sweep={name}"])
    declared = {cell_hash(cell.run_id) for cell in usual.cells}
    other = [cell for cell in plan.cells if cell_hash(cell.run_id) not in declared]
    if other:
        raise ConfigError(
            f"--publish is for the cells that experiments/{name} declares"
            f"{f' at scale={usual.scale}' if usual.scale else ''}, and {len(other)} of these "
            f"{len(plan.cells)} are others, such as {other[0].run_id}: leave --publish or the options out"
        )
