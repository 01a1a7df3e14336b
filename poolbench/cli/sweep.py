"""Train all cells of a sweep, several at once, then print the table and write the tables and plots.

  poolbench sweep pool=max,average,overlapping seeds=3 data=cifar10 data.root=data
  poolbench sweep sweep=demo            a file of conf/sweep/, or a folder of experiments/
  poolbench sweep sweep=demo hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
                                        a job a cell, on a cluster (docs/clusters.md)

Killed at any moment, the same command goes on; what is done is not trained again; two sweeps in one folder share the
work. The exit code is 0 only when every cell is done.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from poolbench.cli.options import add_overrides

if TYPE_CHECKING:
    from poolbench.sweep.cells import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baseline",
        metavar="POOL",
        help="what others are compared with (native if all groups have it, else max, else native)",
    )
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.cli.cells import tell_what_is_left, train
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    launcher, overrides = launcher_options(arguments.overrides)  # an empty list: processes of this machine
    plan = make_plan(overrides, arguments.config_dir, trust=arguments.trust)
    if not arguments.overrides:
        return _ask(plan)
    if arguments.baseline is not None:
        from poolbench.records.groups import pool_labels
        from poolbench.report.summary import check_baseline

        check_baseline(pool_labels([cell.config for cell in plan.cells]), arguments.baseline)
    failed = train(plan, launcher)

    from poolbench.report import write_report

    folders = [cell.folder for cell in plan.cells if (cell.folder / "result.json").exists()]
    if folders:
        write_report(folders, plan.report_dir, baseline=arguments.baseline).show()
        print(f"Tables and plots: {plan.report_dir}/")
    return 1 if tell_what_is_left(plan, failed, arguments.config_dir) else 0


def _ask(plan: "Plan") -> int:
    """Say what a sweep of which nothing is said would train, and how to ask for that or for more."""
    from poolbench.messages import counted

    (cell,) = plan.cells
    names = cell.config["names"]
    print(
        f"poolbench: error: a sweep of what? Without options it would be one cell: pool={names['pool']} "
        f"model={names['model']} data={names['data']}, {counted(cell.config['trainer']['epochs'], 'epoch')} "
        f"({cell.run_id}, {cell.state()}).\n"
        "  poolbench run                               trains that\n"
        "  poolbench sweep pool=max,average seeds=3    two pools, three seeds each; `poolbench plan` shows them first\n"
        "  poolbench sweep sweep=demo                  a sweep of a file; `poolbench list sweeps` names them",
        file=sys.stderr,
    )
    return 2
