"""Records as cells leave them, with invented numbers: for tests of everything that reads records."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

POOLS = {  # name -> (accuracy, millions of FLOPs for the pool, images a second)
    "max": (0.800, 0.10, 1500),
    "average": (0.790, 0.13, 1520),
    "lp": (0.806, 0.30, 1180),
    "overlapping": (0.804, 0.22, 1410),
    "strided_conv": (0.812, 9.50, 820),
    "subsample": (0.760, 0.0, 1600),
    "stochastic": (0.795, 0.45, 700),
    "native": (0.801, 0.10, 1500),
}


def make_config(pool: str = "max", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A completed config. ``changes`` are dotted keys with ``__`` for the dot: ``trainer__epochs=3``."""
    config = {
        "seed": seed,
        "pool": {"_target_": f"poolbench.pooling.{pool.partition('(')[0].title()}", "kernel_size": 2, "stride": 2},
        "head": {"_target_": "poolbench.heads.GlobalAverage", "hidden": []},
        "model": {"_target_": "poolbench.models.ConvNet", "widths": [32, 64, 128]},
        "data": {"_target_": "poolbench.data.CIFAR10", "root": "data", "validation": 0.0},
        "optimizer": {"_target_": "poolbench.training.optimizers.sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"_target_": "poolbench.training.schedules.cosine"},
        "trainer": {"epochs": 8, "batch_size": 128, "precision": "fp32", "device": "auto", "threads": None},
        "runs_dir": "runs",
        "names": {
            "pool": pool,
            "head": "global_average",
            "model": "convnet",
            "data": "cifar10",
            "optimizer": "sgd",
            "schedule": "cosine",
        },
    }
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        part = config
        for key in path:
            part = part[key]
        part[last] = value
    config.setdefault("run_id", f"{config['names']['pool']}-{config['names']['model']}-s{seed}-{_tag(config)}")
    return config


def write_cell(
    runs: Path, config: dict[str, Any], state: str = "done", environment: dict[str, Any] | None = None, **result: Any
) -> Path:
    """Write the record of ``config`` under ``runs``; ``result`` replaces numbers of the result."""
    folder = runs / config["run_id"]
    folder.mkdir(parents=True, exist_ok=True)
    pool, seed, epochs = config["names"]["pool"], config["seed"], config["trainer"]["epochs"]
    accuracy, pool_flops, speed = POOLS.get(pool.partition("(")[0], (0.8, 0.2, 1000))
    noise = np.random.default_rng([seed, *pool.encode()])
    accuracy += np.random.default_rng(seed).normal(0, 0.004) + noise.normal(0, 0.003)
    rows = metric_rows(accuracy + 0.05, epochs, noise, config["data"]["validation"] > 0)
    minute = 10 * seed + 0.1 * len(pool)
    measured = {
        "schema_version": 1,
        "run_id": config["run_id"],
        "test_accuracy": round(accuracy, 4),
        "test_loss": 0.6,
        "train_accuracy": round(accuracy + 0.07, 5),
        "train_loss": 0.4,
        "validation_accuracy": rows[-1]["validation_accuracy"] if rows else None,
        "validation_loss": None,
        **_counts(pool_flops),
        "pool_flops": int(pool_flops * 1e6),
        "train_flops": int(3 * (35e6 + pool_flops * 1e6) * 50_000 * epochs),
        "images_seen": 50_000 * epochs,
        "epochs": epochs,
        "train_seconds": round(50_000 * epochs / speed, 2),
        "cell_seconds": round(50_000 * epochs / speed + 12, 2),
        "images_per_second": round(speed * (1 + noise.normal(0, 0.02)), 1),
        "peak_memory_bytes": 700_000_000,
        "test_samples": 10_000,
        "train_samples": 50_000,
        "resumed": 0,
        "mixed_environment": False,
        "finished": f"2024-05-01T10:{int(minute) % 60:02d}:{int(60 * (minute % 1)) + 5:02d}+00:00",
    }
    status = {
        "schema_version": 1,
        "run_id": config["run_id"],
        "state": state,
        "epoch": epochs,
        "epochs": epochs,
        "error": "it broke" if state == "failed" else None,
        "host": "box",
        "pid": 1,
        "started": f"2024-05-01T10:{int(minute) % 60:02d}:{int(60 * (minute % 1)):02d}+00:00",
        "updated": f"2024-05-01T10:{int(minute) % 60:02d}:{int(60 * (minute % 1)) + 5:02d}+00:00",
    }
    place = {
        "poolbench": "0.1.0",
        "commit": "1234567890abcdef",
        "dirty": False,
        "python": "3.11.9",
        "torch": "2.15.0",
        "cpu": "AMD EPYC",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "fingerprint": "0011223344",
        **(environment or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "environment.json").write_text(json.dumps(place))
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if state == "done":
        (folder / "result.json").write_text(json.dumps(measured | result))
    return folder


def metric_rows(final: float, epochs: int, noise: np.random.Generator, validation: bool) -> list[dict[str, Any]]:
    """A learning curve that rises towards ``final``."""
    rows = []
    for epoch in range(1, epochs + 1):
        accuracy = final - 0.45 * float(np.exp(-3.5 * epoch / epochs)) + 0.004 * noise.normal()
        row = {"epoch": epoch, "learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": round(accuracy, 5)}
        row |= {"validation_loss": 1.1 if validation else None}
        row |= {"validation_accuracy": round(accuracy - 0.05, 4) if validation else None}
        rows.append(row | {"seconds": 30.0, "images_per_second": 1500.0})
    return rows


def _counts(pool_flops: float) -> dict[str, int]:
    return {"parameters": 120_000 + int(pool_flops * 1000), "forward_flops": int(35e6 + pool_flops * 1e6)}


def speeds_of(timed: dict[str, list[float]], **changes: Any) -> dict[str, Any]:
    """What `poolbench bench nets --json` leaves of the nets with these pools.

    Args:
        timed: pool -> milliseconds of a training pass in each round; a forward pass takes a third at the largest batch.
        changes: of the configs, as for :func:`make_config`.
    """
    rows = []
    for pool, times in timed.items():
        config = make_config(pool, **changes)
        own = {name: config[name] for name in ("model", "pool", "head", "names")}
        own |= {"data": {"size": [32, 32], "classes": 10}, "trainer": {"channels_last": True}}
        third = [one / 3 for one in times]
        rows.append(
            {"pool": pool, "group": "convnet, 32x32", "config": own, **_counts(POOLS[pool.partition("(")[0]][1])}
            | {"forward": [{"batch": 1, "rounds_ms": times}, {"batch": 128, "rounds_ms": third}]}
            | {"train": {"batch": 128, "rounds_ms": times}}
        )
    rounds = len(next(iter(timed.values())))
    settings = {"device": "cpu", "threads": 2, "rounds": rounds, "batches": [1, 128], "precision": "fp32"}
    return {
        "schema_version": 1,
        "baseline": next(iter(timed)),
        "machine": {"cpu": "AMD EPYC", "device": "cpu", "torch": "2.15.0"},
        "settings": {**settings, "load_per_core": 0.1},
        "rows": rows,
    }


def make_runs(runs: Path, pools: Any = ("max", "average", "lp"), seeds: int = 3, **changes: Any) -> Path:
    """A folder of finished cells: every pool with every seed."""
    for pool in pools:
        for seed in range(seeds):
            write_cell(runs, make_config(pool, seed, **changes))
    return runs


def _tag(config: dict[str, Any]) -> str:
    from poolbench.records.identity import digest, identity

    return digest(identity(config))
