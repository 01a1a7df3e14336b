"""Try rule 2 on made-up experiments and write what came out, docs/power.md's tables: ten minutes each.

  python scripts/simulate_rule2.py                 words of claims, 4,000 experiments a row
  python scripts/simulate_rule2.py --repeats 1000  a quick look
  python scripts/simulate_rule2.py best            what is not told apart from the best
  python scripts/simulate_rule2.py nets            intervals over nets
  python scripts/simulate_rule2.py rules           what either rule decides at the noise of the published cells

Each row is a design; its numbers say how often, in per cent, a family of claims got a word where that word is wrong,
the worst of the kinds of claims, and how often the first claim, one that an arm is better, was decided when its gain
is the smallest difference of interest.
"""

import argparse
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from poolbench.claims.verdicts import errors, gain_tests
from poolbench.statistics.nets import LEAST_TO_PREDICT
from poolbench.statistics.simulation import Design, best_left_out, covered, decided, drawn_gains
from poolbench.statistics.words import CANNOT_TELL, CONTRADICTS, SUPPORTS, TOO_SMALL

NOISE = 0.24  # points: of an accuracy after arm and block, about what scripts/measure_noise.py says
BLOCKS, ARMS = (3, 6, 10), (2, 3, 5, 8)
SPREADS = {
    "equal": {},
    "drawn, prior df 11": {"alike": 11.0},
    "drawn, prior df 4": {"alike": 4.0},
    "control twice the others": {"control": 2.0},
    "equal, a fifth missing": {"missing": 0.2},
}
# Where a word is wrong: kind, true gain in units of the noise (the smallest difference of interest is 1), word.
WRONG = (
    ("better", 0.0, SUPPORTS),
    ("better", 0.0, TOO_SMALL),
    ("better", 1.0, CONTRADICTS),
    ("better", 1.0, TOO_SMALL),
    ("not_worse", -1.0, SUPPORTS),
    ("not_worse", 0.0, CONTRADICTS),
    ("equal", 1.0, SUPPORTS),
    ("equal", 1.0, CONTRADICTS),
)


def row(task: tuple[int, int, str, tuple[int, ...], int]) -> str:
    """A line of the table."""
    blocks, arms, spread, looks, repeats = task
    design = Design(blocks, arms, **SPREADS[spread])
    runs = {
        (kind, gain): decided(design, kind, gain, 1.0, repeats, seed=2026, looks=looks)
        for kind, gain in dict.fromkeys((kind, gain) for kind, gain, _ in WRONG)
    }
    worst = {word: max(runs[kind, gain][word] for kind, gain, own in WRONG if own == word) for _, _, word in WRONG}
    cells = " | ".join(f"{100 * worst[word]:.1f}" for word in (SUPPORTS, TOO_SMALL, CONTRADICTS))
    at = f"{blocks}" + (f", looks at {', '.join(map(str, looks))}" if looks else "")
    return f"| {at} | {arms} | {spread} | {cells} | {100 * runs['better', 1.0]['first']:.0f} |"


def best_row(task: tuple[int, int, str, int]) -> str:
    """A line of the second table."""
    blocks, arms, spread, repeats = task
    share = best_left_out(Design(blocks, arms, **SPREADS[spread]), repeats, seed=2026)
    return f"| {blocks} | {arms} | {spread} | {100 * share:.1f} |"


def both_rules(design: Design, gain: float, smallest: float, repeats: int, seed: int = 2026) -> tuple[float, float]:
    """How often the first claim, one that an arm is better, is decided by rule 1 and by rule 2, in the same made-up
    experiments."""
    first = 0
    for gains in drawn_gains(design, gain, repeats, seed):
        tests = [gain_tests("better", own, smallest) for own in gains]
        first += tests[0].verdict(errors(tests)[0]) != CANNOT_TELL
    return first / repeats, decided(design, "better", gain, smallest, repeats, seed)["first"]


def rules_row(task: tuple[int, float, int]) -> str:
    """A line of the fourth table: five arms, the noise of published cells, a true gain of the smallest difference."""
    blocks, smallest, repeats = task
    shares = both_rules(Design(blocks, 5, alike=11.0), smallest / NOISE, smallest / NOISE, repeats)
    return f"| {blocks} | {smallest:g} | {' | '.join(f'{100 * share:.0f}' for share in shares)} |"


def net_row(task: tuple[int, float, int]) -> str:
    """A line of the third table."""
    nets, between, repeats = task
    mean, another = covered(nets, between, repeats, seed=2026)
    prediction = f"{100 * another:.1f}" if nets >= LEAST_TO_PREDICT else "–"
    return f"| {nets} | {between:g} | {100 * mean:.1f} | {prediction} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "table", nargs="?", choices=("words", "best", "nets", "rules"), default="words", help="which (words)"
    )
    parser.add_argument("--repeats", type=int, default=4_000, metavar="N", help="made-up experiments a row (4000)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (2)")
    arguments = parser.parse_args()
    if arguments.table != "words":
        heads = {
            "best": ["blocks", "arms", "spreads", "left out"],
            "nets": ["nets", "sd between", "mean", "another net"],
            "rules": ["blocks", "points", "rule 1", "rule 2"],
        }
        tasks = {
            "best": [(*design, arguments.repeats) for design in itertools.product(BLOCKS, (2, 5, 8), SPREADS)],
            "nets": [(*design, arguments.repeats) for design in itertools.product((3, 5, 8, 15), (0, 0.5, 1, 2, 4))],
            "rules": [(*design, arguments.repeats) for design in itertools.product((3, 6, 10, 20), (0.2, 0.5, 1.0))],
        }[arguments.table]
        rows = {"best": best_row, "nets": net_row, "rules": rules_row}
        _print(heads[arguments.table], rows[arguments.table], tasks, arguments.workers)
        return
    tasks = [(*design, (), arguments.repeats) for design in itertools.product(BLOCKS, ARMS, SPREADS)]
    # Where every claim is told in the end: Holm must not give away what settled nothing.
    tasks += [(40, 8, spread, (), arguments.repeats) for spread in ("equal", "drawn, prior df 4")]
    tasks += [(10, arms, "equal", looks, arguments.repeats) for arms in (2, 5) for looks in ((3, 10), (3, 6, 10))]
    head = ["blocks", "arms", "spreads", "supports", "too small", "contradicts", "decided"]
    _print(head, row, tasks, arguments.workers)


def _print(head: list[str], line_of: Callable[[Any], str], tasks: list[Any], workers: int) -> None:
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    # The least squares are small: threads of theirs beside the workers take six times as long.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for line in pool.map(line_of, tasks):
            print(line, flush=True)


if __name__ == "__main__":
    main()
