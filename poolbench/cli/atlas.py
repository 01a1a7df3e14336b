"""Every pool over many nets: its gain, what to expect in a net not tried, and whether such expectations are kept.

  poolbench atlas results/2026_atlas --output results/2026_atlas
  poolbench atlas runs --features nets.yaml --properties consistency,forward_flops

A net is a model on a data set. Each is left out in turn and predicted by the others; the count of gains inside their
intervals is compared with what a simulation expects. --features names numbers of nets (a YAML list of entries as
{model: resnet, data: cifar10, depth: 7}) that differences between nets may go with, --properties numbers of records
that the pools' gains may go with. --output writes atlas.md, atlas.csv (a row a pool), gains.csv (a row a pool and net)
and the figures expected and gains; without it the tables are printed alone.
"""

import argparse
import sys
from pathlib import Path

SIMULATIONS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = "folders of records, single ones, or archives (default: all published experiments)"
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help=where)
    parser.add_argument("--control", default="max", metavar="POOL", help="what gains are over (max)")
    scales = "points: of accuracy; log-error: the errors' logarithms (points)"
    parser.add_argument("--scale", choices=("points", "log-error"), default="points", help=scales)
    parser.add_argument("--features", type=Path, metavar="FILE", help="numbers of the nets")
    parser.add_argument("--properties", default="", metavar="LIST", help="numbers of records, as consistency")
    repeats = f"how often the count is simulated ({SIMULATIONS})"
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, metavar="N", help=repeats)
    parser.add_argument("--output", type=Path, metavar="DIR", help="write files there")


def main(arguments: argparse.Namespace) -> int:
    if arguments.simulations < 1:
        raise ValueError(f"--simulations must be a whole number of at least 1, got {arguments.simulations}")
    from poolbench.claims.published import published_archives
    from poolbench.records.collect import collect, write_csv
    from poolbench.records.files import write_text
    from poolbench.records.read import read_records, told
    from poolbench.records.speeds import find_speeds
    from poolbench.report.advice import evidence
    from poolbench.report.atlas import make_atlas
    from poolbench.report.atlas_plots import expected_figure, gains_figure
    from poolbench.report.atlas_tables import case_rows, markdown, pool_rows, read_features
    from poolbench.report.plots import save

    features = read_features(arguments.features) if arguments.features else {}
    places = arguments.paths or published_archives()
    records, problems = read_records(places)
    if not records:
        reasons = "".join(f"\n  {problem}" for problem in told(problems))
        raise ValueError(f"there is no record in {', '.join(map(str, places))}{reasons}")
    properties = _properties(arguments.properties, collect(records).columns)
    speeds, no_speeds = find_speeds([], (record.path.parent for record in records))
    for problem in told([*problems, *no_speeds]):
        print(f"poolbench: left out: {problem}", file=sys.stderr)
    scale = arguments.scale.replace("-", " ")
    atlas = make_atlas(records, arguments.control, scale, features, properties, arguments.simulations)
    costs = evidence(records, speeds, arguments.control).pools
    text = markdown(atlas, costs)
    print(text, end="")
    if arguments.output is not None:
        folder: Path = arguments.output
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "atlas.md", f"# Pools over nets\n\n{text}")
        write_csv(pool_rows(atlas, costs), folder / "atlas.csv")
        write_csv(case_rows(atlas), folder / "gains.csv")
        drawn = {
            "expected": expected_figure(atlas, "What to expect of each pool"),
            "gains": gains_figure(atlas, f"Gain over {atlas.control} in each net"),
        }
        for name, figure in drawn.items():
            if figure is not None:
                save(figure, folder / name)
    return 0


def _properties(text: str, columns: "object") -> list[str]:
    """The names of ``consistency,forward_flops``. Raises: ValueError for one that no record has."""
    from poolbench.registry import nearest

    names = [part.strip() for part in text.split(",") if part.strip()]
    known = [str(name) for name in columns]  # type: ignore[attr-defined]
    for name in names:
        if name not in known:
            raise ValueError(f"--properties: no record has a number {name!r}.{nearest(name, known)}")
    return names
