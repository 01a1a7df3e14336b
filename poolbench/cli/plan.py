"""Show the cells of a sweep and how far each is, without training; takes what `poolbench sweep` takes."""

import argparse
import shlex
from collections import Counter

from poolbench.cli.options import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.sweep.plan import make_plan

    plan = make_plan(arguments.overrides, arguments.config_dir)
    states = plan.states()
    for cell in plan.cells:
        print(f"{states[cell.run_id]:<12}{cell.run_id:<44}  {shlex.join(cell.overrides)}".rstrip())
    counts = Counter(states.values())
    print(f"{len(plan.cells)} cells: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    return 0
