"""Break the code on purpose, one slip at a time, and see whether the tests notice.

    python scripts/break_code.py --map                     # once, as long as the suite: which test executes which line
    python scripts/break_code.py                           # every fault of scripts/faults.toml
    python scripts/break_code.py --only pooling --jobs 1   # those whose name or file holds the word
    python scripts/break_code.py --tree ../old             # the same faults against another checkout's tests
    python scripts/break_code.py --tests "tests/records -m 'not slow'"   # with these tests instead of the map's
    python scripts/break_code.py --against ../old/build/faults/faults.json

Each fault replaces a text that occurs once in its file. It is tried in a copy of the tree, with the tests that execute
the changed line (quickest first, different functions before further cases of one), then with the file's own tests
(``tests/`` mirrors ``poolbench/``), until one fails; without a map only with the latter. A test that also fails where
nothing but a comment is added to the file counts for nothing. Tests run in a process forked from this one, which holds
torch and what else takes long to import, but nothing of ours.

Written to ``build/faults/`` of the tree: ``faults.json``, ``faults.md``, and the log of what each fault made fail. Exit
code 1 if a fault survived, no test executes it, it took too long, or its text is not there; with ``--against`` a fault
that was not caught there either does not count.
"""

import argparse
import contextlib
import importlib
import json
import shlex
import signal
import sys
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fault_map import Map, draw
from fault_trials import CAUGHT, Batch, Fault, Outcome, misfit, try_all

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("faults.toml")
# Of the tests that execute a line: so many first, then so many, then all others. Most faults fall to the first ones.
FIRST, SECOND = 40, 400
# What the tests import and takes long: loaded once, before any fork. Nothing of ours may be among it.
HEAVY = (
    "numpy", "scipy.stats", "scipy.optimize", "pandas", "matplotlib.pyplot", "PIL.Image", "torch", "torch._dynamo",
    "torch._inductor.compile_fx", "torch.onnx", "torchvision", "timm", "antialiased_cnns", "onnx", "onnxscript",
    "onnxruntime", "hypothesis", "rich.live", "jinja2", "omegaconf", "pytest", "xdist",
)  # fmt: skip
# Rooms whose files are tested by being in a table, too.
IN_CONTRACT = ("pooling", "heads", "models", "testing")


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", action="store_true", help="run the suite under coverage.py and write the map")
    parser.add_argument("--list", action="store_true", help="print the faults and whether their texts are there")
    parser.add_argument("--only", default="", help="faults whose name or file holds this; several with commas")
    parser.add_argument("--tests", help="arguments of pytest: what to run instead of what the map says (or to map)")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout whose code and tests are meant")
    parser.add_argument("--map-file", type=Path, help="where the map lies; default: TREE/build/faults/map.json.gz")
    parser.add_argument("--out", type=Path, help="folder of what is written; default: TREE/build/faults")
    parser.add_argument("--against", type=Path, help="faults.json of another run, such as that of an older suite")
    parser.add_argument("--jobs", type=int, default=2, help="faults at once, each in a copy of its own")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one fault")
    chosen = parser.parse_args(arguments)
    tree = chosen.tree.resolve()
    out = (chosen.out or tree / "build" / "faults").resolve()
    map_file = chosen.map_file or tree / "build" / "faults" / "map.json.gz"
    if chosen.map:
        return draw(tree, shlex.split(chosen.tests or "--numprocesses auto --dist worksteal"), map_file)
    faults = [fault for fault in read_faults(TABLE) if _is_wanted(fault, chosen.only)]
    if chosen.list:
        for fault in faults:
            print(f"{fault.name:34} {fault.file:40} {misfit(fault, tree) or fault.why}")
        return int(any(misfit(fault, tree) for fault in faults))
    if chosen.tests is not None:
        batches = {fault.name: [(shlex.split(chosen.tests), None)] for fault in faults}
    else:
        known = Map.read(map_file) if map_file.exists() else None
        if known is None:
            print(f"no map at {map_file}: each fault is tried with the tests beside its file only")
        batches = {fault.name: batches_of(fault, tree, known) for fault in faults}
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that copies are removed then too
    before = {}
    if chosen.against:
        before = {one["name"]: one["outcome"] for one in json.loads(chosen.against.read_text(encoding="utf-8"))}
    order = [fault.name for fault in faults]
    outcomes = []
    for outcome in try_all(faults, batches, tree, chosen.jobs, chosen.limit, out):
        outcomes = sorted([*outcomes, outcome], key=lambda one: order.index(one.name))
        by = f"{outcome.test}: {outcome.message}" if outcome.test else outcome.message
        print(f"{len(outcomes):3}/{len(faults)} {outcome.outcome:12} {outcome.name:34} {outcome.seconds:6.1f} s  {by}")
        sys.stdout.flush()
        # Every time, so that a run that is stopped leaves what it found.
        text = json.dumps([asdict(one) for one in outcomes], indent=1) + "\n"
        (out / "faults.json").write_text(text, encoding="utf-8")
        (out / "faults.md").write_text(table(outcomes, before), encoding="utf-8")
    lost = [one.name for one in outcomes if one.outcome != CAUGHT and before.get(one.name, CAUGHT) == CAUGHT]
    print(f"{sum(one.outcome == CAUGHT for one in outcomes)} of {len(outcomes)} caught; see {out / 'faults.md'}")
    if lost:
        print("not caught" + (" though they were before" if before else "") + ": " + ", ".join(lost))
    return int(bool(lost))


def read_faults(path: Path) -> list[Fault]:
    """The faults of a table, in its order. Raises: TypeError for an entry with a key too many or too few."""
    return [Fault(name, **entry) for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()]


def batches_of(fault: Fault, tree: Path, known: Map | None) -> list[Batch]:
    """What to run to catch a fault, one after the other."""
    batches: list[Batch] = []
    if known is not None and not misfit(fault, tree):
        source = (tree / fault.file).read_text(encoding="utf-8")
        names = in_turn(known.tests(fault.file, source, fault.line(source)), known.seconds)
        for part in (names[:FIRST], names[FIRST:SECOND], names[SECOND:]):
            if part:
                batches.append((list(dict.fromkeys(name.partition("::")[0] for name in part)), part))
    return batches + [(paths, None) for paths in _beside(fault, tree)]


def in_turn(names: Sequence[str], seconds: dict[str, float]) -> list[str]:
    """Tests in the order to try: the quickest case of each function, quick functions first, then their second ones."""
    cases = defaultdict(list)
    for name in sorted(names, key=lambda name: seconds.get(name, 0)):
        cases[name.partition("[")[0]].append(name)
    turns = [(turn, seconds.get(name, 0), name) for of in cases.values() for turn, name in enumerate(of)]
    return [name for _, _, name in sorted(turns)]


def table(outcomes: Sequence[Outcome], before: dict[str, str]) -> str:
    """The outcomes in Markdown, with what became of each ``before`` where that is known."""
    head = ["fault", "file", "what is wrong", *(["before"] if before else []), "outcome", "by", "tests run", "seconds"]
    rows = [
        [
            one.name,
            f"`{one.file}`",
            one.why,
            *([before.get(one.name, "-")] if before else []),
            one.outcome if one.outcome == CAUGHT else f"**{one.outcome}**",
            f"`{one.test}`" if one.test else one.message,
            str(one.tests_run),
            f"{one.seconds:.0f}",
        ]
        for one in outcomes
    ]
    lines = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in [head, *rows]]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(["---"] * len(head)), *lines[1:]]) + "\n"


def _beside(fault: Fault, tree: Path) -> list[list[str]]:
    """Tests of the file that a fault is in, nearest first, as arguments of pytest."""
    if fault.tests:
        return [shlex.split(fault.tests)]
    place = Path(fault.file)
    rooms = place.parts[1:-1] if place.parts[0] == "poolbench" else ()
    mirror = Path("tests", *rooms)
    found = [[str(mirror / f"test_{place.stem}.py")]]
    if rooms:
        found += [[str(mirror)], [f"tests/test_{rooms[0]}.py"]]
    if place.parts[0] == "hydra_plugins":
        found += [["tests/sweep"]]
    if place.parts[0] == "conf" or (rooms and rooms[0] in IN_CONTRACT):
        found += [["tests/contract"]]
    return [paths for paths in found if (tree / paths[0]).exists()]


def _is_wanted(fault: Fault, only: str) -> bool:
    return any(word in fault.name or word in fault.file for word in only.split(",")) if only else True


if __name__ == "__main__":
    sys.exit(main())
