"""Train all cells of a sweep, several at once, then print the table and write the tables and plots.

  poolbench sweep pool=max,average,overlapping seeds=3 data=cifar10 data.root=data
  poolbench sweep sweep=demo            a file of conf/sweep/, or a folder of experiments/
  poolbench sweep sweep=demo hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
                                        a job a cell, on a cluster (docs/clusters.md)

Killed at any moment, the same command goes on; what is done is not trained again; two sweeps in one folder share the
work. The exit code is 0 only when every cell is done.
"""

import argparse

from poolbench.cli.options import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", default="max", metavar="POOL", help="what differences are taken to (max)")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.cli.cells import tell_what_is_left, train
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    launcher, overrides = launcher_options(arguments.overrides)  # an empty list: processes of this machine
    plan = make_plan(overrides, arguments.config_dir)
    failed = train(plan, launcher)

    from poolbench.report import write_report

    folders = [cell.folder for cell in plan.cells if (cell.folder / "result.json").exists()]
    if folders:
        write_report(folders, plan.report_dir, baseline=arguments.baseline).show()
        print(f"Tables and plots: {plan.report_dir}/")
    return 1 if tell_what_is_left(plan, failed, arguments.config_dir) else 0
