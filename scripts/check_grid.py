"""Train every combination of pool, model and head for one step, and tell which cannot be.

    python scripts/check_grid.py                              # pairs; some minutes on 2 cores
    python scripts/check_grid.py --full --workers 8           # every pool with every model and every head
    python scripts/check_grid.py --models vgg,nin --pools lp  # some of them, as after a failure

Pairs are every pool in every model under its own head, every head on every model with max pooling, every pool in
convnet under every head, and every file of ``conf/model`` as it is. The models of the grid are small ones, those of
``tests/contract/test_models.py``. Images have 32x32 pixels, and 64x64 where a combination refuses those.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pages.models import presets

from poolbench.heads import HEADS
from poolbench.models import MODELS, create_model
from poolbench.pooling import POOLS

SIZES, CLASSES = ((32, 32), (64, 64)), 10
IMAGES, IMAGES_OF_PRESETS = 4, 2  # of a step; two are the least for batch normalisation of maps of one pixel


class Cell(NamedTuple):
    """One combination, by names."""

    model: str
    pool: str = "native"
    head: str = "native"
    variant: int = 0  # which of the small models of that name
    preset: str = ""  # a file of conf/model, in place of the small model

    def __str__(self) -> str:
        variant = f" {small_models(self.model)[self.variant]}" if self.variant else ""
        return f"model={self.preset or self.model}{variant} pool={self.pool} head={self.head}"


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code; 1 if some combination cannot be trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all combinations instead of pairs")
    for kind in ("models", "pools", "heads"):
        parser.add_argument(f"--{kind}", type=lambda text: text.split(","), help="only these, names with commas")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each; 0: none but this one")
    chosen = parser.parse_args(arguments)
    cells = [cell for cell in grid(chosen.full) if _is_wanted(cell, chosen)]
    began, failures = time.perf_counter(), []
    for number, (cell, error) in enumerate(_checked(cells, chosen.workers), start=1):
        if error:
            failures.append((cell, error))
            print(f"{cell}: {error}", flush=True)
        if number % 100 == 0:
            print(f"[{number}/{len(cells)}] {time.perf_counter() - began:.0f} s", flush=True)
    print(f"\n{len(cells)} combinations, {len(failures)} failed, {time.perf_counter() - began:.0f} s")
    for error, failed in itertools.groupby(sorted(failures, key=lambda pair: (pair[1], pair[0])), lambda pair: pair[1]):
        print(f"\n{error}", *(f"  {cell}" for cell, _ in failed), sep="\n")
    return 1 if failures else 0


def grid(full: bool) -> list[Cell]:
    """All combinations, or the pairs; and the presets."""
    models = [(name, variant) for name in MODELS.table for variant in range(len(small_models(name)))]
    if full:
        every_head = ["native", *HEADS.table]
        cells = {Cell(m, pool, head, v) for (m, v), pool, head in itertools.product(models, POOLS.table, every_head)}
    else:
        cells = {Cell(m, pool, variant=v) for (m, v), pool in itertools.product(models, POOLS.table)}
        cells |= {Cell(m, "max", head, v) for (m, v), head in itertools.product(models, HEADS.table)}
        cells |= {Cell("convnet", pool, head) for pool, head in itertools.product(POOLS.table, HEADS.table)}
    return sorted(cells) + [Cell(model, preset=preset) for model, found in presets().items() for preset in found]


def train_one_step(cell: Cell) -> str:
    """Why a combination does not train; empty if it does."""
    errors = []
    for size in SIZES:
        try:
            _step(cell, size)
            return ""
        except Exception as error:  # whatever it is, the others go on
            errors.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
            if not isinstance(error, ValueError):
                break
    return errors[0]


def _step(cell: Cell, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    options = presets()[cell.model][cell.preset] if cell.preset else small_models(cell.model)[cell.variant]
    model = create_model(cell.model, cell.pool, cell.head, CLASSES, size, **options)
    x = torch.randn(IMAGES_OF_PRESETS if cell.preset else IMAGES, 3, *size)
    y = torch.arange(len(x))
    if callable(getattr(model, "prepare", None)):
        model.prepare(torch.randn(256, 3, *size))
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
    loss, logits = model.loss(x, y, 0.1)
    _require(logits.shape == (len(x), CLASSES), f"logits of shape {tuple(logits.shape)}")
    _require(bool(loss.isfinite()), f"a loss of {loss.item()}")
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    _require(all(gradient.isfinite().all() for gradient in gradients), "a gradient is not finite")
    reached = [parameter.grad for parameter in model.features.parameters() if parameter.grad is not None]
    _require(any(gradient.any() for gradient in reached), "no gradient reaches the trunk")
    optimizer.step()
    with torch.no_grad():
        _require(bool(model.eval()(x).isfinite().all()), "logits after a step are not finite")


@cache
def small_models(name: str) -> tuple[dict[str, Any], ...]:
    """Options that make a model small, one set for each kind of it, as its contract is tested."""
    folder = str(Path(__file__).resolve().parents[1] / "tests/contract")
    if folder not in sys.path:
        sys.path.append(folder)
    from test_models import SMALL

    return SMALL.get(name, ({},))


def _checked(cells: list[Cell], workers: int) -> Iterator[tuple[Cell, str]]:
    """Each combination and what is wrong with it, as they are done."""
    if workers == 0:
        yield from ((cell, train_one_step(cell)) for cell in cells)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        running = {processes.submit(train_one_step, cell): cell for cell in cells}
        for done in as_completed(running):
            yield running[done], done.result()


def _is_wanted(cell: Cell, chosen: argparse.Namespace) -> bool:
    def among(name: str, names: Iterable[str] | None) -> bool:
        return names is None or name in names

    model = among(cell.model, chosen.models) or (cell.preset != "" and among(cell.preset, chosen.models))
    return model and among(cell.pool, chosen.pools) and among(cell.head, chosen.heads)


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
