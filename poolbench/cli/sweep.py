"""Train all cells of a sweep, several at once, then print the table and write the tables and plots.

  poolbench sweep pool=max,average,overlapping seeds=3 data=cifar10 data.root=data
  poolbench sweep sweep=demo            a file of conf/sweep/, or a folder of experiments/
  poolbench sweep sweep=demo hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
                                        a job a cell, on a cluster (docs/clusters.md)

Killed at any moment, the same command goes on; what is done is not trained again; two sweeps in one folder share the
work. The exit code is 0 only when every cell is done.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
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

    plan, launcher = asked(arguments.overrides, arguments.config_dir, arguments.trust, arguments.baseline)
    failed = train(plan, launcher)

    from poolbench.report import Page, write_report

    if folders := finished(plan):
        page = Page(f"Sweep {plan.name}")
        write_report(folders, plan.report_dir, baseline=arguments.baseline, page=page).show()
        print(f"Tables and plots: {plan.report_dir}/, all in one page: {plan.report_dir / 'index.html'}")
    return 1 if tell_what_is_left(plan, failed, arguments.config_dir) else 0


def asked(
    overrides: Sequence[str], config_dir: Sequence[Path], trust: Sequence[str], baseline: str | None
) -> "tuple[Plan, list[str]]":
    """The sweep that ``overrides`` ask for, checked whole, and the launcher's options: an empty list is for processes
    of this machine.

    Raises: ConfigError, also where nothing is asked for; ValueError for a ``baseline`` that no cell has.
    """
    from poolbench.sweep.launch import launcher_options
    from poolbench.sweep.plan import make_plan

    launcher, words = launcher_options(list(overrides))
    plan = make_plan(words, config_dir, trust=trust)
    if not overrides:
        _ask(plan)
    if baseline is not None:
        from poolbench.records.groups import pool_labels
        from poolbench.report.summary import check_baseline

        check_baseline(pool_labels([cell.config for cell in plan.cells]), baseline)
    return plan, launcher


def finished(plan: "Plan") -> list[Path]:
    """The folders of the cells that have a result."""
    return [cell.folder for cell in plan.cells if (cell.folder / "result.json").exists()]


def _ask(plan: "Plan") -> None:
    """Raises: ConfigError that says what a sweep of which nothing is said would train, and how to ask for that or for
    more."""
    from poolbench.configuration import ConfigError
    from poolbench.messages import counted

    (cell,) = plan.cells
    names = cell.config["names"]
    raise ConfigError(
        f"a sweep of what? Without options it would be one cell: pool={names['pool']} "
        f"model={names['model']} data={names['data']}, {counted(cell.config['trainer']['epochs'], 'epoch')} "
        f"({cell.run_id}, {cell.state()}).\n"
        "  poolbench run                               trains that\n"
        "  poolbench sweep pool=max,average seeds=3    two pools, three seeds each; `poolbench plan` shows them first\n"
        "  poolbench sweep sweep=demo                  a sweep of a file; `poolbench list sweeps` names them"
    )
