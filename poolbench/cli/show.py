"""One record: its config, learning curve and result. RUN is its folder, its run_id, or the beginning or end of that."""

import argparse
from pathlib import Path

from poolbench.cli.words import percent
from poolbench.records.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where records are (runs)")


def main(arguments: argparse.Namespace) -> int:
    import yaml

    from poolbench.records.find import find_record
    from poolbench.records.read import read_record
    from poolbench.records.state import cell_state

    folder = find_record(arguments.run, arguments.runs_dir)
    record = read_record(folder)
    print(f"{printable(folder)}: {cell_state(folder)}\n")
    print(yaml.safe_dump(record.config, sort_keys=False))
    if record.metrics:
        print("epoch  learning rate  train loss  train  validation  images/s")
    for row in record.metrics:
        print(
            f"{row['epoch']:>5}  {row['learning_rate']:>13.5f}  {row['train_loss']:>10.4f}  "
            f"{percent(row['train_accuracy']):>6}  {percent(row['validation_accuracy']):>9}  "
            f"{row['images_per_second']:>8.0f}"
        )
    for title, values in (("result", record.result), ("environment", record.environment)):
        if values:
            print(f"\n{title}")
            for key, value in values.items():
                print(f"  {printable(key):<22}{printable(value)}")
    error = (record.status or {}).get("error")
    if error:
        print(f"\nerror: {printable(error)}")
    return 0
