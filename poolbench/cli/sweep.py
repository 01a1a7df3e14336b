"""Train all cells of a sweep, several at once, then print the table and write the tables and plots.

  poolbench sweep pool=max,average,overlapping seeds=3 data=cifar10 data.root=data
  poolbench sweep sweep=demo            a file of conf/sweep/, or a folder of experiments/
  poolbench sweep sweep=demo hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
                                        a job a cell, on a cluster (docs/clusters.md)

Killed at any moment, the same command goes on; what is done is not trained again; two sweeps in one folder share the
work. The exit code is 0 only when every cell is done.
"""

import argparse
import shlex
import sys

from poolbench.cli.options import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", default="max", metavar="POOL", help="what differences are taken to (max)")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.cli.progress import SweepProgress
    from poolbench.records.printable import printable
    from poolbench.records.state import DONE, INTERRUPTED
    from poolbench.records.store import tidy
    from poolbench.sweep.launch import launch_plan, launcher_options
    from poolbench.sweep.plan import make_plan
    from poolbench.sweep.workers import run_plan

    launcher, overrides = launcher_options(arguments.overrides)  # an empty list: processes of this machine
    plan = make_plan(overrides, arguments.config_dir)
    states = plan.states()
    done = sum(state == DONE for state in states.values())
    begun = sum(state == INTERRUPTED for state in states.values())
    print(
        f"sweep {plan.name}: {len(plan.cells)} cells, {done} done before{f', {begun} to go on with' if begun else ''}",
        flush=True,
    )
    for note in plan.notes:
        print(printable(f"note: {note}"))
    failed: dict[str, str] = {}
    if done < len(plan.cells):
        with SweepProgress(plan, done) as progress:
            failed = launch_plan(plan, launcher, progress) if launcher else run_plan(plan, progress)

    for cell in plan.cells:
        tidy(cell.folder)

    from poolbench.report import write_report

    folders = [cell.folder for cell in plan.cells if (cell.folder / "result.json").exists()]
    if folders:
        write_report(folders, plan.report_dir, baseline=arguments.baseline).show()
        print(f"Tables and plots: {plan.report_dir}/")
    for cell in plan.cells:
        if cell.run_id in failed:
            print(printable(f"failed: {cell.run_id}: {failed[cell.run_id]}"), file=sys.stderr)
            again = [*(f"--config-dir={folder}" for folder in arguments.config_dir), *cell.overrides]
            print(f"  again: poolbench run {shlex.join(again)}", file=sys.stderr)
            for name in ("error.txt", "log.txt"):
                if (cell.folder / name).exists() and (cell.folder / name).stat().st_size:
                    print(f"  see:   {cell.folder / name}", file=sys.stderr)
    unfinished = sum(state != DONE for state in plan.states().values())
    if unfinished and plan.options["max_hours"] is not None and len(failed) < unfinished:
        print("poolbench: sweep.max_hours was over before all cells were started", file=sys.stderr)
    if unfinished:
        print(f"poolbench: {unfinished} of {len(plan.cells)} cells are not done", file=sys.stderr)
    return 1 if unfinished else 0
