"""What a large report and a large plan cost: seconds of the processor in the user's code, and the largest memory.

    python scripts/benchmark_scale.py [--records 10080] [--seeds 198] [--figures] [--keep DIR]

- report: of ``--records`` invented records (42 pools, 10 seeds and as many settings as that takes), as folders and as
  one archive: each part for itself, and the whole. Figures cost most and are drawn only once, so they are left out
  unless ``--figures`` is given; then they are drawn in the report from the archive.
- plan: 42 pools in 12 models with ``--seeds`` seeds each, 99,792 cells, as `poolbench plan` makes and prints it.

Each is measured in a process of its own. What else the machine does changes such seconds by some tenths.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEEDS, BATCHES = 10, (32, 64, 128, 256)
MODELS = (
    *("all_cnn", "all_cnn_c_all", "capsnet_small", "convnet", "convnet_small", "cuda_convnet"),
    *("fast_cnn", "fast_cnn_tiny", "fast_cnn_small", "lenet", "nin", "vgg"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_080, help="of the report (10080)")
    parser.add_argument("--seeds", type=int, default=198, help="of the plan, 504 cells each (198)")
    parser.add_argument("--figures", action="store_true", help="draw them too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the records are made, and found the next time")
    parser.add_argument("--part", choices=("records", "report", "plan"), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.part == "records":
        make_records(arguments.source, arguments.records)
    elif arguments.part == "report":
        measure_report(arguments.source, arguments.figures)
    elif arguments.part == "plan":
        measure_plan(arguments.seeds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure_all(arguments, arguments.keep or Path(folder))
    return 0


def measure_all(arguments: argparse.Namespace, place: Path) -> None:
    """Each part in a process of its own, for its memory."""
    records = ["--records", str(arguments.records)]
    runs, archive = place / "runs", place / "archive" / "records.jsonl"
    if not archive.is_file():
        _run("records", "--source", str(place), *records)
    _run("report", "--source", str(runs))
    _run("report", "--source", str(archive), *(["--figures"] if arguments.figures else []))
    _run("plan", "--seeds", str(arguments.seeds))


def make_records(place: Path, many: int) -> None:
    """``many`` records in ``place/runs``, and all of them in ``place/archive/records.jsonl``."""
    from poolbench.pooling import POOLS
    from poolbench.records.collect import write_archive
    from poolbench.records.read import read_records
    from tests.report.synthetic import make_config, write_cell

    runs, pools = place / "runs", list(POOLS.table)
    for number in range(many):
        setting, own = divmod(number, SEEDS * len(pools))
        net, batch = divmod(setting, len(BATCHES))
        changes = {"model__widths": [32 + net, 64, 128], "names__model": f"convnet{net}"}
        pool, seed = pools[own // SEEDS], own % SEEDS
        write_cell(runs, make_config(pool, seed, **changes, trainer__batch_size=BATCHES[batch]))
    archive = place / "archive" / "records.jsonl"
    archive.parent.mkdir()
    write_archive(read_records(runs)[0], archive)


def measure_report(source: Path, figures: bool) -> None:
    from poolbench.report import Page, make_report, write_made
    from poolbench.report.drawings import bring_up_to_date

    report = make_report(source)
    _told(f"report of {len(report.records):,} records from {source.name}: read and reckoned")
    with tempfile.TemporaryDirectory() as output:
        made = write_made(replace(report, drawings=[]), output, page=Page("Scale"))
        print(made.text[:0], end="")
        size = (Path(output) / "index.html").stat().st_size
        _told(f"and written, the page of {size / 1e6:.1f} MB too")
    if figures:
        with tempfile.TemporaryDirectory() as output:
            bring_up_to_date(Path(output), report.drawings)
            _told(f"and {len(report.drawings)} figures drawn")


def measure_plan(seeds: int) -> None:
    from poolbench.cli.plan import look_ahead
    from poolbench.pooling import POOLS

    options = [f"pool={','.join(POOLS.table)}", f"model={','.join(MODELS)}", f"seeds={seeds}", "data=shapes"]
    ahead = look_ahead([*options, "runs_dir=none_yet"], [], [])
    lines = [*ahead.cell_lines(), *ahead.notes]
    _told(f"plan of {len(ahead.plan.cells):,} cells in {len(lines):,} lines")


def _run(part: str, *options: str) -> None:
    subprocess.run([sys.executable, __file__, "--part", part, *options], check=True)


def _told(what: str) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    megabytes = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    print(f"{what}: {used.ru_utime:.1f} s (and {used.ru_stime:.1f} s of the system's), {megabytes:.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
