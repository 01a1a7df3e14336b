"""Race made-up arms and write what came of it, the table of docs/race.md.

  python scripts/simulate_race.py                   400 races a row, of 42 arms a tenth as many
  python scripts/simulate_race.py --repeats 40      a quick look

Each row is a field of arms: how many, and by how much their true means differ (standard deviation, in points). Of its
numbers the first holds where all arms are equally noisy, the second where they are not. In per cent of the races: no
arm within the difference of interest of the truly best was left; the best itself fell, though another as good may be
left.
Then the arms that were left, and the cells that were trained, in per cent of a full grid's.
"""

import argparse
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from poolbench.statistics.simulation import Field, raced

ARMS, SPREADS = (5, 10, 42), (0.0, 0.3, 1.0)  # points
ALIKE = (None, 4.0)  # degrees of freedom of the arms' variances: all equal, and as unequal as they may be
NOISE, DIFFERENCE = 0.3, 0.5  # points
MANY = 42  # arms: a race of so many takes seconds


def row(task: tuple[int, float, int]) -> str:
    """A line of the table."""
    arms, spread, repeats = task
    repeats = max(1, repeats // 10) if arms >= MANY else repeats
    runs = [raced(Field(arms, spread, NOISE, alike), DIFFERENCE, repeats, seed=2026) for alike in ALIKE]
    apart = "all equal" if spread == 0 else f"{spread}"
    close = " / ".join(f"{100 * found['none_close']:.1f}" for found in runs)
    # Equal arms are all the best, and none of them can be lost.
    lost = "-" if spread == 0 else " / ".join(f"{100 * found['best_lost']:.1f}" for found in runs)
    left = " / ".join(f"{found['left']:.1f}" for found in runs)
    cells = " / ".join(f"{100 * found['cells']:.0f}" for found in runs)
    return f"| {arms} | {apart} | {repeats} | {close} | {lost} | {left} | {cells} |"


def main() -> None:
    """Print the table, a row when it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400, metavar="N", help="races a row (400)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="processes (all cores)")
    arguments = parser.parse_args()
    print("| arms | spread | races | none left within 0.5 points | best lost | left | cells |")
    print("|---|---|---|---|---|---|---|")
    tasks = [(*one, arguments.repeats) for one in itertools.product(ARMS, SPREADS)]
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        for line in pool.map(row, tasks):
            print(line, flush=True)


if __name__ == "__main__":
    main()
