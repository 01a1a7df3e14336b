"""Train the cell of a record once more, from scratch, and say whether it comes out the same.

  poolbench rerun max-convnet-shapes-s0
  poolbench rerun results/2026_five_pools:max-convnet-cifar10-s0 data.root=data

RUN is a record's folder, its run_id, or a unique beginning or end of that; PLACE:RUN is one of another folder of
records or of an archive. The new record goes to ./reruns, the old one stays as it is; killed, the same command goes on,
and a cell that is done there is compared again without training. It uses as many threads as the old one did, since
their number changes the last bits. Overrides may say where and on what it runs (data.root, data.download, data.mirrors,
runs_dir, trainer.device, trainer.threads, trainer.keep_memory), and not what the cell is: that would be another, for
`poolbench run`.

A record may be somebody else's: of the code that it names only components of poolbench and layers of torch.nn and
torchvision.ops are taken, others with --trust PACKAGE, which may lie in the working folder. Of its data the place
counts and not the addresses to download from, and nothing is downloaded unless you say data.download=true.

The exit code is 0 when the results are the same to the last bit, 1 when not, or when the training failed.
"""

import argparse
import sys
from pathlib import Path

from poolbench.cli.options import add_trust, take_in_working_folder
from poolbench.records.labels import cell_name
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="option=value", help="as data.root=data trainer.device=cpu")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the old record is (runs)")
    parser.add_argument("--into", type=Path, metavar="DIR", help="folder for the new record (reruns)")
    add_trust(parser, "the record")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.cli.diff import show
    from poolbench.records.difference import difference
    from poolbench.records.find import find_run
    from poolbench.records.read import read_record
    from poolbench.sweep.rerun import given_options, rerun_config
    from poolbench.trust import check_trust

    old = find_run(arguments.run, arguments.runs_dir)
    if old.result is None:
        raise ValueError(f"{old.run_id} has no result to compare with: it is {old.state}")
    try:
        check_trust(old.config, arguments.trust)
    except ValueError as error:
        raise ValueError(f"{error}, --trust PACKAGE") from error
    if arguments.trust:
        take_in_working_folder()
    config = rerun_config(old, given_options(arguments.overrides), arguments.into)
    folder = Path(config["runs_dir"]) / config["run_id"]
    if folder.resolve() == old.path.resolve():
        raise ValueError(f"{folder} is the record itself: --into says where another may be")
    if (folder / "result.json").exists():
        print(f"{printable(cell_name(config))} was trained there before; another --into trains it once more.")
    from poolbench.cli.run import train_here
    from poolbench.sweep.workers import writable

    writable(Path(config["runs_dir"]))
    if train_here(config) == "failed":
        error = (read_record(folder).status or {}).get("error")
        print(f"poolbench: the rerun failed: {printable(error)} ({folder / 'error.txt'} has more)", file=sys.stderr)
        return 1
    found = difference(old, read_record(folder))
    print()
    show(found)
    return 0 if found["same_result"] else 1
