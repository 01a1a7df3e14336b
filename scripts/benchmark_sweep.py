"""What a sweep costs beside its trainings: the start of a cell, and the overhead in all.

    python scripts/benchmark_sweep.py [--seconds 60] [--cells 6] [--workers 2] [--starts 10]

- start: from the moment that the sweep gives a cell to a worker to the first training step, for cells that follow
  another one: a process forked from a server that has torch loaded, the model assembled and its operations counted,
  the data mapped. Measured inside the training, by a pool that notes the time of its first step.
- overhead: of a sweep with cells of about ``--seconds`` each: workers x wall time, less the time that cells spent in
  training and reading accuracies, as a share of the latter. Planning, checking and the first start of the server
  of workers are in it; so is what the last worker waits for the other.

Both are shares or small differences of one run; the machine's other work adds to them, never takes away.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from poolbench.sweep.cells import Plan
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import run_plan

POOL = """
import time
from torch import nn
from torch.nn import functional as F

class Timed(nn.Module):
    ratio = 2.0
    noted = []

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        if self.training and not self.noted:
            self.noted.append(True)
            print("first step", time.monotonic(), flush=True)
        return F.max_pool2d(x, 2)
"""
CELL = ["data=shapes", "model=fast_cnn_tiny", "trainer.sizes=null", "trainer.threads=1"]


class Watcher:
    """Notes when each cell was given to a worker."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.failed = 0

    def started(self, cell) -> None:
        self.begun[cell.run_id] = time.monotonic()

    def ended(self, cell, state: str, reason: str) -> None:
        self.failed += state == "failed"

    def tick(self) -> None: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a cell (60)")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--starts", type=int, default=10, help="cells whose start is measured (10)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("timed_pool.py").write_text(POOL)
        options = ["data.train_samples=500", "data.test_samples=100", "trainer.epochs=1", "trainer.batch_size=250"]
        plan = made(*options, f"seeds={arguments.starts + 1}", "runs_dir=starts", workers=1)
        starts = starts_of(plan)[1:]  # the first one waits for the server of workers to load torch
        quartiles = statistics.quantiles(starts, n=4)
        print(
            f"start of a cell: median {statistics.median(starts):.3f} s, "
            f"quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}"
        )

        probe = made("trainer.epochs=1", "runs_dir=probe", workers=1)
        run(probe)
        seconds = results(probe)[0]["train_seconds"]
        epochs = max(1, round(arguments.seconds / seconds))
        began = time.monotonic()
        plan = made(f"trainer.epochs={epochs}", f"seeds={arguments.cells}", "runs_dir=long", workers=arguments.workers)
        run(plan)
        wall = time.monotonic() - began
        spent = [result["cell_seconds"] for result in results(plan)]
        overhead = arguments.workers * wall / sum(spent) - 1
        print(
            f"{len(spent)} cells of {statistics.mean(spent):.1f} s on average ({min(spent):.1f} to {max(spent):.1f}), "
            f"{arguments.workers} at once: {wall:.1f} s, overhead {100 * overhead:.1f} %"
        )
    return 0


def made(*options: str, workers: int) -> Plan:
    pool = ["pool=custom", "pool._target_=timed_pool.Timed"]
    return make_plan([*CELL, *pool, *options, f"sweep.workers={workers}"])


def run(plan: Plan) -> Watcher:
    watcher = Watcher()
    if run_plan(plan, watcher):
        sys.exit("a cell failed")
    return watcher


def starts_of(plan: Plan) -> list[float]:
    begun = run(plan).begun
    first = {
        cell.run_id: float((cell.folder / "log.txt").read_text().partition("first step ")[2].split()[0])
        for cell in plan.cells
    }
    return [first[cell.run_id] - begun[cell.run_id] for cell in plan.cells]


def results(plan: Plan) -> list[dict]:
    return [json.loads((cell.folder / "result.json").read_text()) for cell in plan.cells]


if __name__ == "__main__":
    sys.exit(main())
