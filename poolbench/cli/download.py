"""Fetch a data set, verify it and prepare it: `poolbench download cifar10 data.root=data`."""

import argparse

from poolbench.cli.options import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a data set that `poolbench list data` names")
    add_overrides(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.configuration import composer
    from poolbench.data import DATA

    with composer(arguments.config_dir) as compose:
        block = compose.complete([f"data={arguments.name}", *arguments.overrides])["data"]
    target = block.pop("_target_")
    source = DATA.create(target, **block)
    source.prepare()
    info = source.info()
    height, width = info.size
    print(
        f"{arguments.name}: {info.train_samples:,} training and {info.test_samples:,} test images of {height}x{width}, "
        f"{info.num_classes} classes, ready"
    )
    return 0
