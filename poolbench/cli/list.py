"""What exists, each with one line and its paper: `poolbench list pools`, heads, models, data, ... or all.

`--config-dir DIR` lists what DIR/pool/*.yaml and the like offer as well.
"""

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poolbench.cli.options import add_config_dir

WHAT = ("pools", "heads", "models", "data", "optimizers", "schedules", "probes", "sweeps")
SIZE = (32, 32)  # of the image for which a model's cost is told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=WHAT, help="one kind, heads and models with more; all without it")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    from poolbench.config_files import ConfigError
    from poolbench.data import DATA
    from poolbench.heads import HEADS
    from poolbench.models import MODELS
    from poolbench.pooling import POOLS

    if missing := [folder for folder in arguments.config_dir if not folder.is_dir()]:
        raise ConfigError(f"--config-dir: there is no folder {missing[0]}")
    registries = {"pools": POOLS, "heads": HEADS, "models": MODELS, "data": DATA}
    # They take torch, and building every model; the list of all does without.
    more = {"heads": _traits, "models": _costs}.get(arguments.what, dict)()
    if arguments.what == "models":
        print(f"Cost of one image of {SIZE[0]}x{SIZE[1]}, pooling counted, with the pools and the head of its paper.\n")
    for what in [arguments.what] if arguments.what else WHAT:
        if not arguments.what:
            print(f"{what}:")
        if what in ("optimizers", "schedules", "probes", "sweeps"):
            for name, line in _files(what):
                _entry(name, line)
            _own_entries(what, arguments.config_dir)
            continue
        for name in registries[what].names():
            line, source = registries[what].describe(name)
            _entry(name, line, more.get(name, ""), source.rstrip("."))
        if what == "models":
            for name, line in _files(what):
                if name not in (*MODELS.names(), "custom"):
                    _entry(name, line, more.get(name, ""))
        _own_entries(what, arguments.config_dir)
        if what != "data":
            _entry("custom", f"a {what[:-1]} of your own: {what[:-1]}=custom {what[:-1]}._target_=mypkg.MyClass")
    return 0


def _entry(name: str, *parts: str) -> None:
    indent = " " * 16
    # Docstrings mark code by backticks.
    parts = tuple(part.replace("`", "") for part in parts if part)
    lines = [textwrap.fill(part, 79, initial_indent=indent, subsequent_indent=indent) for part in parts]
    text = "\n".join(lines)
    print(f"{name:<16}{text.strip()}" if len(name) < 16 else f"{name}\n{text}")


def _own_entries(what: str, folders: list[Path]) -> None:
    """What the files in ``folders`` of the user's own offer: the first comment, else what they build, and the file."""
    from poolbench.config_files import read_file

    for folder in folders:
        for path in sorted((folder / what.removesuffix("s")).glob("*.yaml")):
            content = read_file(path)
            target = content.get("_target_") if isinstance(content, dict) else None
            _entry(path.stem, _comment(path) or (f"builds {target}" if target else ""), f"yours: {path}")


def _files(what: str) -> Iterator[tuple[str, str]]:
    """What stands for itself in files of configs, with their first comment."""
    from poolbench.config_files import config_dir, experiments_dir

    folder = config_dir() / what.removesuffix("s")
    files = [(path.stem, path) for path in sorted(folder.glob("*.yaml")) if path.stem != "grid"]
    if what == "sweeps":
        files += [(path.parent.name, path) for path in sorted(experiments_dir().glob("*/experiment.yaml"))]
    for name, path in files:
        yield name, _comment(path)


def _comment(path: Path) -> str:
    rows = path.read_text(encoding="utf-8").splitlines()[:4]
    return " ".join(row[1:].strip() for row in rows if row.startswith("#") and "@package" not in row)


def _traits() -> dict[str, str]:
    """Of each head: the maps that it takes, a loss of its own, a fit at the end."""
    from poolbench.heads import HEADS
    from poolbench.heads.base import Head

    traits = {}
    for name in HEADS.names():
        head = HEADS.find(name)
        said = ["any size of map" if getattr(head, "any_size", True) else "one size of map"]
        if any(getattr(head, part, None) not in (None, getattr(Head, part)) for part in ("criterion", "training_loss")):
            said.append("a loss of its own")
        if callable(getattr(head, "fit", None)):
            said.append("fitted once the trunk is trained")
        traits[name] = ", ".join(said)
    return traits


def model_files() -> dict[str, dict[str, Any]]:
    """What each file of a model builds: ``_target_`` and options, with those of the file that it starts from."""
    from poolbench.config_files import config_dir, our_block

    return {path.stem: our_block("model", path.stem) for path in sorted((config_dir() / "model").glob("*.yaml"))}


def _costs() -> dict[str, str]:
    """Of each model and each file of one: parameters and operations."""
    from poolbench.models import MODELS

    files = {name: block for name, block in model_files().items() if name != "custom"}
    installed = {name: {"_target_": name} for name in MODELS.names() if name not in files}
    return {
        name: _cost(block["_target_"], {option: value for option, value in block.items() if option != "_target_"})
        for name, block in {**files, **installed}.items()
    }


def _cost(model: Any, options: dict[str, Any]) -> str:
    import torch

    from poolbench.measure.cost import cost
    from poolbench.models import create_model

    for device in ("meta", "cpu"):  # without a value of any weight where that is possible
        try:
            with torch.device(device):
                found = cost(create_model(model, input_size=SIZE, **options), SIZE)
            parameters, flops = found["parameters"] / 1e6, found["forward_flops"] / 1e6
            return f"{_short(parameters, 2)} M parameters, {_short(flops, 0)} MFLOPs"
        except ValueError as error:
            return f"no cost: {error}"
        except RuntimeError:  # some steps, as those without autocast, are for real devices
            if device == "cpu":
                raise
    raise AssertionError("unreachable")


def _short(value: float, digits: int) -> str:
    """With as many digits, and one more significant where there would be none."""
    return f"{value:,.{digits}f}" if round(value, digits) >= 10**-digits else f"{value:.1g}"
