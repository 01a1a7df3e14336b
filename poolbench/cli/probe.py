"""Read measures of cells that are trained already: invariance, information kept, robustness, calibration.

  poolbench probe runs probe=all                       every finished cell of a folder
  poolbench probe max-convnet probe.corruptions=[fog,jpeg] probe.samples=2000
  poolbench probe runs/max-convnet-cifar10-s0-... probe=invariance --root /data

RUN is a folder of records, one record's folder, or its run_id (or a unique beginning or end of that). The answers are a
file of their own in the record, probe-HASH.json, named by what was asked; result.json stays as it is, and asking again
reads nothing anew. Tables join them: docs/probes.md.
"""

import argparse
import re
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from poolbench.cli.options import add_config_dir, add_trust

    parser.add_argument("words", nargs="+", metavar="RUN|probe.option=value", help="cells, and what to read of them")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where records are (runs)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data is, if not where the record says")
    add_config_dir(parser)
    add_trust(parser, "a record")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.configuration import ConfigError
    from poolbench.data.base import DataError
    from poolbench.probing import finished_folders, probe_record
    from poolbench.records.find import find_record
    from poolbench.records.read import RecordError, read_record

    # A run_id may hold a "=", and always holds a "-".
    asked = [word for word in arguments.words if re.match(r"[+~]*[\w.]+=", word)]
    runs = [word for word in arguments.words if word not in asked]
    probe = _probe(asked or ["probe=all"], arguments.config_dir)
    if not runs:
        raise ConfigError("probe: say which cells: a folder of records, a record, or a run_id")
    folders = []
    for run in runs:
        place = Path(run)
        folders += finished_folders([place] if place.is_dir() else [find_record(run, arguments.runs_dir)])
    if not folders:
        raise ConfigError(f"probe: no finished cell in {', '.join(runs)}")
    failed = 0
    for number, folder in enumerate(dict.fromkeys(folders), start=1):
        head = f"[{number}/{len(folders)}] {folder.name}"
        try:
            content = probe_record(read_record(folder), probe, arguments.root, arguments.trust)
        except (ConfigError, DataError, RecordError, ValueError) as error:
            if len(folders) == 1:
                raise
            failed += 1
            print(f"{head}: {error}", flush=True)
            continue
        if content is None:
            print(f"{head}: read before", flush=True)
        else:
            print(f"{head}: {len(content['numbers'])} numbers in {content['seconds']:.0f} s", flush=True)
            if len(folders) == 1:
                _show(content["numbers"])
    return 1 if failed else 0


def _probe(words: list[str], folders: list[Path]) -> dict[str, Any]:
    """The completed options. Raises: ConfigError for a word that is none of a probe's, or a value that it cannot be."""
    from poolbench.configuration import ConfigError, composer
    from poolbench.records.probes import completed

    for word in words:
        if word.partition("=")[0].lstrip("+").split(".")[0] != "probe":
            raise ConfigError(f"{word}: probe takes options of a probe only, as probe=all or probe.rotate=[10]")
    with composer(folders) as compose:
        config = compose.complete(words)
    return completed(config["probe"])


def _show(numbers: dict[str, float]) -> None:
    width = max(map(len, numbers), default=0)
    for name, value in numbers.items():
        print(f"  {name:<{width}}  {value:.4f}")
