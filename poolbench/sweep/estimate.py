"""What the rest of a plan should cost, told from records of like cells; nothing is trained or measured for it."""

import heapq
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from poolbench.checks import is_number
from poolbench.options import names
from poolbench.records.environment import available_cores, cpu_name, torch_build
from poolbench.records.identity import OUTSIDE, digest, identity
from poolbench.records.once import once
from poolbench.records.overview import share_done
from poolbench.records.read import Record, RecordError, read_json, read_records
from poolbench.records.state import DONE, INTERRUPTED, RUNNING
from poolbench.sweep.cells import Cell, Plan

SEEDS, OTHER_BUDGET, OTHER_POOL = "other seeds", "another budget or recipe", "another pool"

_KINDS = ("_target_", "size")  # of data: what says how much work an image is


@dataclass(frozen=True)
class Estimate:
    """What one cell should cost from now on.

    Args:
        seconds: on one worker; None when no like cell was trained.
        train_flops: of what is left of its training.
        checkpoint_bytes: that its record will take on disk in addition.
        basis: what the like cells differ in: ``other seeds``, ``another budget or recipe``, ``another pool``, or "".
        records: how many like cells it is the median of.
    """

    seconds: float | None = None
    train_flops: float | None = None
    checkpoint_bytes: float | None = None
    basis: str = ""
    records: int = 0


@dataclass(frozen=True)
class _Known:
    """What a finished cell says about others like it."""

    keys: tuple[str, ...]  # how like: a key for each basis
    work: float | None  # images that it trained on
    threads: int | None
    cpu: str | None
    seconds: float
    train_flops: float | None
    checkpoint_bytes: int | None


def estimate(
    plan: Plan, states: Mapping[str, str], workers: int | None = None, also: Iterable[Record] = ()
) -> dict[str, Estimate]:
    """``run_id`` -> what the cell should cost, for every cell of ``plan`` that is not done.

    The median of the finished cells in ``runs_dir`` that are most like it: the same but for the seed; else the same
    pool, model and kind of data with another budget or recipe, scaled by the number of training images; else the same
    with another pool. Among those the nearest in budget count, and of them those with the same processor and threads as
    here if there are any. A cell that has begun costs what is left of it.

    Args:
        states: of the cells, as :meth:`Plan.states` tells them.
        workers: cells at once; None for what :func:`cells_at_once` says.
        also: further records to tell from, as published ones.
    """
    left = [cell for cell in plan.cells if states[cell.run_id] != DONE]
    if not left:
        return {}
    runs_dir = Path(left[0].config["runs_dir"])
    known = _known([*(read_records(runs_dir)[0] if runs_dir.is_dir() else ()), *also])
    share = max(1, available_cores() // (workers or cells_at_once(plan)))
    memo: dict[tuple[Any, ...], Estimate] = {}
    estimates = {}
    for cell in left:
        threads = cell.trainer.threads or share
        keys, work = _keys(cell.config), _work(cell.trainer.epochs, cell.train_samples)
        if (keys, work, threads) not in memo:
            memo[keys, work, threads] = _from(known, keys, work, threads)
        whole = memo[keys, work, threads]
        begun = states[cell.run_id] in (RUNNING, INTERRUPTED)
        rest = 1 - _share_done(cell) if begun else 1.0
        estimates[cell.run_id] = Estimate(
            None if whole.seconds is None else rest * whole.seconds,
            None if whole.train_flops is None else rest * whole.train_flops,
            0 if (cell.folder / "checkpoint.pt").exists() else whole.checkpoint_bytes,
            whole.basis,
            whole.records,
        )
    return estimates


def cells_at_once(plan: Plan) -> int:
    """How many cells a sweep of ``plan`` trains at once on this machine, as far as can be told without torch."""
    if plan.options["workers"]:
        return int(plan.options["workers"])
    return _accelerators({cell.trainer.device for cell in plan.cells}) or available_cores()


def _accelerators(devices: set[str]) -> int:
    """How many GPUs of this machine cells on ``devices`` share."""
    if sys.platform == "darwin":
        return int(platform.machine() == "arm64" and bool(devices & {"auto", "mps"}))
    kind, files, variable = ("cuda", "nvidia[0-9]*", "CUDA_VISIBLE_DEVICES")
    if torch_build() == "xpu":
        kind, files, variable = ("xpu", "dri/renderD*", "ZE_AFFINITY_MASK")
    gpus = len(list(Path("/dev").glob(files))) if devices & {"auto", kind} else 0
    visible = os.environ.get(variable)
    return gpus if visible is None else min(gpus, len([name for name in visible.split(",") if name.strip()]))


def wall_seconds(estimates: Iterable[Estimate], workers: int) -> float:
    """Time until the last of the cells with an estimate ends, begun in their order as workers become free."""
    free = [0.0] * workers
    for one in estimates:
        if one.seconds is not None:
            heapq.heappush(free, heapq.heappop(free) + one.seconds)
    return max(free)


def _known(records: Iterable[Record]) -> list[_Known]:
    known = []
    for record in records:
        seconds = (record.result or {}).get("cell_seconds")
        if is_number(seconds) and seconds > 0:
            try:
                known.append(_of(record, float(seconds)))
            except (TypeError, AttributeError, KeyError):  # somebody else's, of parts that we do not know
                continue
    return known


def _of(record: Record, seconds: float) -> _Known:
    result, checkpoint = record.result or {}, record.path / "checkpoint.pt"
    return _Known(
        keys=_keys(record.config),
        work=_work(result.get("epochs"), result.get("train_samples")),
        threads=record.environment.get("threads"),
        cpu=record.environment.get("cpu"),
        seconds=seconds,
        train_flops=result.get("train_flops"),
        checkpoint_bytes=checkpoint.stat().st_size if checkpoint.is_file() else None,
    )


def _keys(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What cells have in common that are alike in one of the ways that there are, the closest first."""
    return _keys_of({key: value for key, value in config.items() if key != "seed" and key not in OUTSIDE})


@once
def _keys_of(config: dict[str, Any]) -> tuple[str, ...]:
    same = identity(config)
    kind = {
        "head": same["head"],
        "model": same["model"],
        "data": {key: same["data"].get(key) for key in _KINDS},
        "optimizer": same["optimizer"].get("_target_"),
        "trainer": {key: value for key, value in same["trainer"].items() if key not in names(cheap=True)},
    }
    return digest(same), digest({**kind, "pool": same["pool"]}), digest(kind)


def _work(epochs: Any, samples: Any) -> float | None:
    return float(epochs * samples) or None if isinstance(epochs, int) and isinstance(samples, int) else None


def _from(known: list[_Known], keys: tuple[str, ...], work: float | None, threads: int) -> Estimate:
    """The median of the cells that are most like the one with ``keys``."""
    for place, basis in enumerate((SEEDS, OTHER_BUDGET, OTHER_POOL)):
        like = [one for one in known if one.keys[place] == keys[place]]
        if basis != SEEDS:  # also how far away in budget
            like = [one for one in like if work is not None and one.work is not None]
            far = [abs(math.log(one.work / work)) for one in like if one.work and work]
            like = [one for one, distance in zip(like, far, strict=True) if distance == min(far)]
        for here in (lambda one: one.cpu == cpu_name(), lambda one: one.threads == threads):
            like = [one for one in like if here(one)] or like
        if like:
            return _median(like, [1.0 if basis == SEEDS else (work or 1) / (one.work or 1) for one in like], basis)
    return Estimate()


def _median(like: list[_Known], scales: list[float], basis: str) -> Estimate:
    flops = [one.train_flops * scale for one, scale in zip(like, scales, strict=True) if one.train_flops is not None]
    sizes = [one.checkpoint_bytes for one in like if one.checkpoint_bytes is not None]
    return Estimate(
        median(one.seconds * scale for one, scale in zip(like, scales, strict=True)),
        median(flops) if flops else None,
        median(sizes) if sizes else None,
        basis,
        len(like),
    )


def _share_done(cell: Cell) -> float:
    """How much of a cell that has begun is behind it: what ran after its last whole epoch is repeated."""
    try:
        status = read_json(cell.folder / "status.json") or {}
    except RecordError:
        return 0.0
    epoch, share = status.get("epoch"), status.get("share_done")
    if not is_number(epoch) or not (share is None or is_number(share)):
        return 0.0
    share = share_done({**status, "epochs": cell.trainer.epochs})
    return share if cell.state() == RUNNING or epoch <= 0 else share * math.floor(epoch) / epoch
