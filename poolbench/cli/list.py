"""What exists, each with one line and its paper: `poolbench list pools`, heads, models, data, ... or all."""

import argparse
import textwrap

WHAT = ("pools", "heads", "models", "data", "optimizers", "schedules", "sweeps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=WHAT, help="one kind; all without it")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.data import DATA
    from poolbench.heads import HEADS
    from poolbench.models import MODELS
    from poolbench.pooling import POOLS

    registries = {"pools": POOLS, "heads": HEADS, "models": MODELS, "data": DATA}
    for what in [arguments.what] if arguments.what else WHAT:
        if not arguments.what:
            print(f"{what}:")
        if what in ("optimizers", "schedules", "sweeps"):
            _files(what)
            continue
        for name in registries[what].names():
            line, source = registries[what].describe(name)
            _entry(name, line, source)
        if what != "data":
            _entry("custom", f"a {what[:-1]} of your own: {what[:-1]}=custom {what[:-1]}._target_=mypkg.MyClass", "")
    return 0


def _entry(name: str, line: str, source: str) -> None:
    line = line.replace("`", "")  # docstrings mark code so
    print(f"{name:<16}{textwrap.fill(line, 79, initial_indent=' ' * 16, subsequent_indent=' ' * 16).strip()}")
    if source:
        print(textwrap.fill(source.rstrip("."), 79, initial_indent=" " * 16, subsequent_indent=" " * 16))


def _files(what: str) -> None:
    """What stands for itself in files of configs, by their first comment."""
    from poolbench.configuration import config_dir, experiments_dir

    folder = config_dir() / what.removesuffix("s")
    files = [(path.stem, path) for path in sorted(folder.glob("*.yaml")) if path.stem != "grid"]
    if what == "sweeps":
        files += [(path.parent.name, path) for path in sorted(experiments_dir().glob("*/experiment.yaml"))]
    for name, path in files:
        comment = [row[1:].strip() for row in path.read_text(encoding="utf-8").splitlines()[:4] if row.startswith("#")]
        _entry(name, " ".join(comment), "")
