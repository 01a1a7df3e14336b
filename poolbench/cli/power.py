"""How many seeds a comparison needs, before anything is trained.

  poolbench power --sd 0.25 --difference 0.5 --arms 5
  poolbench power runs --difference 0.5           the spread and the arms are those of these records

Every number is in points, as accuracies are in per cent. --sd is the standard deviation of one test accuracy from
seed to seed, the mean of its seed and of its arm taken out. A claim that one arm is better than another is decided
when it gets one of the words of rule 2 (docs/power.md): that it is, that it is but by too little to matter, or that
it is not by as much as matters. The table says how often that happens for each number of seeds, when the true gain
is the smallest difference of interest, and when there is none.
"""

import argparse
import math
from pathlib import Path

from poolbench.messages import counted

SEEDS = (3, 4, 6, 8, 10, 15, 20, 30)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="records to take the spread from")
    parser.add_argument("--sd", type=float, metavar="POINTS", help="of one accuracy from seed to seed")
    parser.add_argument("--difference", type=float, required=True, metavar="POINTS", help="the smallest of interest")
    parser.add_argument("--arms", type=int, metavar="N", help="that are compared in each block (2)")
    parser.add_argument("--claims", type=int, default=1, metavar="N", help="of the family that they are judged in (1)")
    parser.add_argument("--kind", choices=("better", "not_worse", "equal"), default="better", help="of claim (better)")


def main(arguments: argparse.Namespace) -> int:
    from poolbench.statistics.power import ENOUGH, MOST_BLOCKS, blocks_for, power

    _check(arguments)
    sd, arms = arguments.sd, arguments.arms or 2
    if arguments.paths:
        sd, found = _spread(arguments.paths)
        arms = arguments.arms or found
        print(f"these records: an accuracy varies by {sd:.2f} points (sd) after arm and seed, {counted(found, 'arm')}")
    d = arguments.difference
    gains = {"the smallest difference": d, "none": 0.0} if arguments.kind == "better" else {"none": 0.0}
    what = f"{arguments.kind.replace('_', ' ')}, {d:g} points of interest, sd {sd:.3g}, {counted(arms, 'arm')}"
    print(f"chance to decide a claim of the kind {what}, {counted(arguments.claims, 'claim')} in the family\n")
    print(f"{'seeds':>6}" + "".join(f"{f'true gain {name}':>36}" for name in gains))
    for seeds in SEEDS:
        row = (power(arguments.kind, gain, d, sd, seeds, arms, arguments.claims) for gain in gains.values())
        print(f"{seeds:>6}" + "".join(f"{100 * chance:>34.0f} %" for chance in row))
    print()
    for name, gain in gains.items():
        needed = blocks_for(arguments.kind, gain, d, sd, arms, arguments.claims)
        seeds = f"more than {MOST_BLOCKS} seeds" if needed is None else counted(needed, "seed")
        print(f"{seeds} for {ENOUGH:.0%} when the true gain is {name}".replace("80%", "80 %"))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises: ValueError naming the option, its value and what is allowed."""
    if (arguments.sd is None) == (not arguments.paths):
        raise ValueError("give either --sd, as 0.3, or records to take it from")
    for option in ("sd", "difference"):
        value = getattr(arguments, option)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{option} must be a number of points above 0, got {value:g}")
    for option, least in (("arms", 2), ("claims", 1)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise ValueError(f"--{option} must be a whole number of at least {least}, got {value}")


def _spread(paths: list[Path]) -> tuple[float, int]:
    """The standard deviation of one accuracy after arm and seed, in points, over all groups of the records, and the
    most arms of a group. Raises: ValueError where nothing tells it."""
    import sys

    from poolbench.records.collect import collect
    from poolbench.records.read import read_records, told
    from poolbench.report.summary import by, counting, plain
    from poolbench.statistics.blocks import fit

    records, problems = read_records(paths)
    for problem in told(problems):
        print(f"poolbench: left out: {problem}", file=sys.stderr)
    squares, df, arms = 0.0, 0, 0
    for members in by(plain(collect(records)), "group").values():
        values = {
            pool: {(cell["seed"], cell["fingerprint"]): 100 * cell["test_accuracy"] for cell in own}
            for pool, own in by(counting(members), "pool").items()
        }
        try:
            fitted = fit(values)
        except ValueError:  # no two arms
            continue
        squares, df, arms = squares + fitted.squares, df + fitted.df, max(arms, len(fitted.effects))
    if not df:
        raise ValueError("no two arms of these records have two seeds in common: nothing tells the spread; give --sd")
    return math.sqrt(squares / df), arms
