"""How much computation and time a net needs for an accuracy: train the sweep ``2026_time_to_accuracy`` and draw it.

    python scripts/benchmark_time_to_accuracy.py [data.root=DIR trainer.precision=bf16 ...]     # train, then draw
    python scripts/benchmark_time_to_accuracy.py --draw results/2026_time_to_accuracy           # draw alone

Each point is a whole training with its schedule, never a place on the way of a longer one. Time is that of training
steps, evaluation left out, and means something only where all cells ran on one machine, one at a time or as many at
once throughout; cells of another processor or precision than most have no time here.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from poolbench.cli.main import main as poolbench
from poolbench.records.groups import data_set
from poolbench.records.read import Record, read_records
from poolbench.report.notes import spans
from poolbench.report.plots import save
from poolbench.report.spent import spent_figure

SWEEP = "2026_time_to_accuracy"
TARGETS = ((0.85, 1e13), (0.90, 4e13), (0.925, 1e14), (0.94, 2.9e14))  # what we were after: accuracy within FLOPs


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--draw", type=Path, metavar="RECORDS", help="folder or archive of records to draw, no training"
    )
    parser.add_argument("overrides", nargs="*", help="further options of the sweep, as data.root=DIR")
    given = parser.parse_args(arguments)
    source = given.draw
    if source is None:
        code = poolbench(["sweep", f"sweep={SWEEP}", *given.overrides])
        if code:
            return code
        runs = [text.partition("=")[2] for text in given.overrides if text.startswith("runs_dir=")]
        source = Path(runs[-1] if runs else "runs")
    records, problems = read_records(source)
    for problem in problems:
        print(f"Not read: {problem}", file=sys.stderr)
    cells = pd.DataFrame([point(record) for record in records if record.result is not None])
    if cells.empty:
        print(f"no finished cell in {source}", file=sys.stderr)
        return 1
    cells.loc[cells["machine"] != cells["machine"].mode()[0], "train_seconds"] = float("nan")
    output = source if source.is_dir() and (source / "records.jsonl").exists() else Path("report") / SWEEP
    output.mkdir(parents=True, exist_ok=True)
    for path in save(spent_figure(cells, title(cells), TARGETS), output / "time_to_accuracy"):
        print(path)
    print(table(cells))
    return 0


def point(record: Record) -> dict[str, Any]:
    """What a finished cell adds to the figure."""
    config, result = record.config, record.result
    assert result is not None
    name, trainer = str(config["names"]["model"]).partition("(")[0], config["trainer"]
    skipping = ", easy images skipped" if trainer.get("skip_easy") else ""
    mirrored = ", mirrored" if config["model"].get("mirror") else ""
    return {
        "net": ("fast_cnn" if name.startswith("fast_cnn") else config["model"].get("name", name)) + mirrored + skipping,
        "data": data_set(str(config["names"]["data"])),
        "seed": config["seed"],
        "recipe": f"{config['names']['model']}, {trainer['epochs']} epochs{skipping}",
        "machine": f"{record.environment.get('device')} {record.environment.get('cpu')} {trainer['precision']}",
        "test_accuracy": result["test_accuracy"],
        "flip_averaged_accuracy": result.get("flip_averaged_accuracy"),
        "train_flops": result["train_flops"],
        "train_seconds": result["train_seconds"],
    }


def title(cells: pd.DataFrame) -> str:
    """What the figure shows, of which cells."""
    seeds = set(cells["seed"])
    return (
        f"Test error against what training spent\n{', '.join(sorted(set(cells['data'])))}: "
        f"{len(set(cells['recipe']))} recipes, {len(cells)} trainings, seed{'s' * (len(seeds) > 1)} {spans(seeds)}"
    )


def table(cells: pd.DataFrame) -> str:
    """Means over seeds, a line for each recipe, as Markdown."""
    lines = [
        "| recipe | seeds | training FLOPs | test acc. % | its range | flip-averaged % | training s |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for recipe, own in sorted(cells.groupby("recipe"), key=lambda item: item[1]["train_flops"].mean()):
        accuracy = 100 * own["test_accuracy"]
        flipped = pd.to_numeric(own["flip_averaged_accuracy"]).mean() * 100
        seconds = own["train_seconds"].median()
        lines.append(
            f"| {recipe} | {len(own)} | {own['train_flops'].mean():.3g} | {accuracy.mean():.2f} | "
            f"{accuracy.min():.2f} to {accuracy.max():.2f} | {'–' if pd.isna(flipped) else f'{flipped:.2f}'} | "
            f"{'–' if pd.isna(seconds) else f'{seconds:.0f}'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
