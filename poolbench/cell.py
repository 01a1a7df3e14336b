"""One training: from a completed config to a record, or from a record back to the trained model."""

import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.configuration import ConfigError
from poolbench.data.augment import Batches, plain_batches
from poolbench.data.base import DataInfo, DataSource, Images
from poolbench.limits import check
from poolbench.measure.cost import cost
from poolbench.models.sites import Heads, Sites, Trunk, build
from poolbench.records import environment, store
from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.state import DAMAGED, DONE, record_state
from poolbench.records.times import now
from poolbench.registry import call, locate
from poolbench.training import checkpoint, process
from poolbench.training.loop import Progress, TrainingFailed, evaluate, train
from poolbench.training.optimizers import Optimizers
from poolbench.training.schedules import Schedule

Announce = Callable[[dict[str, Any]], None]  # takes what status.json holds


@dataclass
class Parts:
    """What a config assembles."""

    source: DataSource
    info: DataInfo
    model: Trunk
    optimizers: Callable[[nn.Module], Optimizers]
    schedule: Schedule


def component(group: str, block: dict[str, Any]) -> Callable[..., Any]:
    """What builds the component that ``block`` describes; further arguments may be given when it is called.

    Raises: ConfigError when there is no such thing as its ``_target_``.
    """
    target = block["_target_"]
    options = {key: value for key, value in block.items() if key != "_target_"}
    function = locate(target, f"{group}._target_={target}")
    name = f"{group} {target.rpartition('.')[2]!r}"
    return lambda *first, **more: call(partial(function, *first), name, {**options, **more})


def assemble(config: dict[str, Any]) -> Parts:
    """Build everything that ``config`` names and check that it fits together, on the CPU, without touching data.

    Raises: ValueError naming the option or the site that is wrong; DataError for data that is missing.
    """
    check(config)
    trainer = config["trainer"]
    process.check_precision(trainer["precision"], process.choose_device(trainer["device"]))
    source: DataSource = component("data", config["data"])()
    source.check()
    info = source.info()
    samples, _ = source.split_sizes(info.train_samples)
    if trainer["batch_size"] > samples:
        raise ConfigError(
            f"trainer.batch_size must be at most the {samples} training images, got {trainer['batch_size']}"
        )
    pools = config["pool"] if isinstance(config["pool"], list) else [config["pool"]]
    makers = [component("pool", block) for block in pools]
    model = build(
        locate(config["model"]["_target_"], f"model._target_={config['model']['_target_']}"),
        Sites(makers if isinstance(config["pool"], list) else makers[0], config["seed"]),
        Heads(component("head", config["head"])),
        info.num_classes,
        info.size,
        config["seed"],
        {key: value for key, value in config["model"].items() if key != "_target_"},
    )
    if trainer["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    parts = Parts(
        source, info, model, component("optimizer", config["optimizer"]), component("schedule", config["schedule"])()
    )
    parts.optimizers(model)  # its options are checked where it is made
    return parts


def train_cell(
    config: dict[str, Any],
    code: dict[str, Any],
    threads: int | None = None,
    device: str | None = None,
    announce: Announce = lambda status: None,
) -> str:
    """Train the cell that ``config`` names, or go on where it was killed, and leave its record.

    Args:
        config: completed, with ``run_id``.
        code: what :func:`poolbench.records.environment.code_version` said when the program started.
        threads, device: what ``null`` and ``auto`` in the config stand for here.
        announce: gets each status as it is written.
    Returns: ``done``, ``failed`` (the record says why) or ``busy`` (another process has the cell).
    Raises: OSError when the record cannot be written.
    """
    folder = Path(config["runs_dir"]) / config["run_id"]
    folder.mkdir(parents=True, exist_ok=True)
    claim = store.Claim(folder)
    if not claim.acquire():
        return "busy"
    with _heartbeat(claim):
        try:
            state = record_state(folder)
            if state == DONE:
                return "done"
            if state == DAMAGED or not _readable_checkpoint(folder, config["run_id"]):
                aside = store.set_aside(folder)
                announce({"state": "damaged", "run_id": config["run_id"], "error": f"set aside as {aside.name}"})
                folder.mkdir(parents=True)
                claim = store.Claim(folder)
                if not claim.acquire():
                    return "busy"
            store.sweep_temporaries(folder)
            return _Training(folder, config, code, threads, device, announce).run()
        finally:
            claim.release()


class _Training:
    """One attempt at a cell, by the owner of its folder."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        code: dict[str, Any],
        threads: int | None,
        device: str | None,
        announce: Announce,
    ):
        self.folder, self.config, self.code, self.announce = folder, config, code, announce
        self.trainer = config["trainer"]
        self.threads = self.trainer["threads"] or threads
        self.device_option = (
            device if device is not None and self.trainer["device"] == "auto" else self.trainer["device"]
        )
        self.progress = Progress()
        self.status: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": config["run_id"],
            "state": "running",
            "epoch": 0,
            "epochs": self.trainer["epochs"],
            "train_accuracy": None,
            "seconds_left": None,
            "images_per_second": None,
            "error": None,
            "host": environment.platform.node(),
            "pid": os.getpid(),
            "started": now(),
            "updated": now(),
        }

    def run(self) -> str:
        try:
            store.write_yaml(self.folder / "config.yaml", self.config)
            self._tell()
            result = self._train()
            store.write_metrics(self.folder / "metrics.csv", self.progress.history)
            # The last file, since it is what makes a cell done.
            store.write_json(self.folder / "result.json", result)
        except KeyboardInterrupt:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, TrainingFailed | ValueError | OSError) else repr(error)
            with suppress(OSError):
                (self.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            self._tell(state="failed", error=reason)
            if isinstance(error, OSError):
                raise
            return "failed"
        (self.folder / "error.txt").unlink(missing_ok=True)
        self._tell(state="done", epoch=self.trainer["epochs"], seconds_left=0.0)
        return "done"

    def _train(self) -> dict[str, Any]:
        device = process.choose_device(self.device_option)
        threads, kept = process.set_up(device, self.threads, self.trainer["keep_memory"])
        parts = assemble({**self.config, "trainer": {**self.trainer, "device": str(device)}})
        described = environment.describe(
            process.device_name(device), threads, torch.backends.cpu.get_cpu_capability(), kept, self.code
        )
        store.write_json(self.folder / "environment.json", described)
        model = parts.model.to(device)
        costs = cost(model, parts.info.size)
        optimizers = parts.optimizers(model)
        scaler = torch.amp.GradScaler(device.type, enabled=self.trainer["precision"] == "fp16")
        path = self.folder / "checkpoint.pt"
        if path.exists():
            self.progress = checkpoint.restore(checkpoint.read(path, self.config["run_id"]), model, optimizers, scaler)
            self.progress.attempts += 1
        self.progress.fingerprints = sorted({*self.progress.fingerprints, described["fingerprint"]})
        self._began = time.perf_counter() - self.progress.cell_seconds

        images = parts.source.load(self.config["seed"])
        look = _Look(images, device, self.trainer["evaluation_batch_size"])
        batches = Batches(
            images.train_images,
            images.train_labels,
            self.trainer["batch_size"],
            images.mean,
            images.std,
            parts.source.augmentation,
            device,
        )

        self._images_per_epoch = len(batches) * self.trainer["batch_size"]

        def after_epoch(progress: Progress) -> None:
            progress.cell_seconds = time.perf_counter() - self._began
            checkpoint.save(path, model, optimizers, scaler, progress, self.config["run_id"])
            store.write_metrics(self.folder / "metrics.csv", progress.history)

        held_out = len(images.validation_images) > 0
        train(
            model,
            batches,
            partial(look, images.validation_images, images.validation_labels) if held_out else None,
            optimizers,
            parts.schedule,
            scaler,
            self.trainer,
            self.config["seed"],
            self.progress,
            self._during,
            after_epoch,
        )
        if not path.exists():  # no epoch was asked for: the untrained net is the result
            after_epoch(self.progress)
        return self._result(model, images, look, costs, device, held_out)

    def _result(
        self,
        model: nn.Module,
        images: Images,
        look: "_Look",
        costs: dict[str, Any],
        device: torch.device,
        held_out: bool,
    ) -> dict[str, Any]:
        """Read everything at the end, the test set for the first and only time."""
        precision, progress = self.trainer["precision"], self.progress
        test_loss, test_accuracy = evaluate(model, look(images.test_images, images.test_labels), precision)
        # Without augmentation and in evaluation mode, as the test set is read, or the gap would compare two things.
        some = slice(0, self.trainer["train_evaluation"])
        train_loss, train_accuracy = evaluate(
            model, look(images.train_images[some], images.train_labels[some]), precision
        )
        validation_loss, validation_accuracy = (None, None)
        if held_out:
            validation = look(images.validation_images, images.validation_labels)
            validation_loss, validation_accuracy = evaluate(model, validation, precision)
        losses = [loss for loss in (test_loss, train_loss, validation_loss) if loss is not None]
        if not all(map(_is_finite, losses)):
            raise TrainingFailed(
                "a loss at the end is not finite: try a smaller optimizer.lr or a longer schedule.warmup"
            )
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.config["run_id"],
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            "validation_accuracy": validation_accuracy,
            "validation_loss": validation_loss,
            **costs,
            # A step is counted as three forward passes: one forward, two backward.
            "train_flops": 3 * costs["forward_flops"] * progress.images,
            "images_seen": progress.images,
            "epochs": progress.epoch,
            "train_seconds": progress.seconds,
            "cell_seconds": time.perf_counter() - self._began,
            "images_per_second": progress.images / progress.seconds if progress.seconds else None,
            "peak_memory_bytes": process.peak_memory(device),
            "train_samples": len(images.train_images),
            "validation_samples": len(images.validation_images),
            "test_samples": len(images.test_images),
            "resumed": progress.attempts,
            "mixed_environment": len(progress.fingerprints) > 1,
            "finished": now(),
        }

    def _during(self, done: float, row: dict[str, Any]) -> None:
        images_left = (self.trainer["epochs"] - done) * self._images_per_epoch
        self._tell(
            epoch=done,
            train_accuracy=row["train_accuracy"],
            images_per_second=row["images_per_second"],
            seconds_left=images_left / row["images_per_second"],
        )

    def _tell(self, **news: Any) -> None:
        self.status |= {**news, "updated": now()}
        # A status that cannot be written is no reason to stop: the checkpoint and the result are.
        with suppress(OSError):
            store.write_json(self.folder / "status.json", self.status)
        self.announce(dict(self.status))


class _Look:
    """Batches of a part of the data, without augmentation."""

    def __init__(self, images: Images, device: torch.device, batch_size: int):
        self.images, self.device, self.batch_size = images, device, batch_size

    def __call__(self, images: Tensor, labels: Tensor) -> Any:
        return plain_batches(images, labels, self.batch_size, self.images.mean, self.images.std, self.device)


@dataclass
class Trained:
    """A trained model and what is needed to use it.

    ``transform`` takes images as the data set has them, uint8 ``(N, H, W, 3)`` or ``(H, W, 3)``, tensor, array or
    PIL image, and gives what ``model`` takes, float ``(N, 3, H, W)``, normalised, not augmented.
    """

    model: nn.Module
    config: dict[str, Any]
    transform: Callable[[Any], Tensor]
    classes: tuple[str, ...]


def load(run: str | os.PathLike[str], runs_dir: str | os.PathLike[str] = "runs") -> Trained:
    """Give back the trained model of a record, in evaluation mode, on the CPU.

    Args:
        run: the record's folder, or its ``run_id`` or a unique beginning of it in ``runs_dir``.
        runs_dir: where records are.
    Raises: ValueError when there is no such record, or it cannot be read; FileNotFoundError without a checkpoint.
    """
    from poolbench.records.find import find_record

    folder = find_record(run, Path(runs_dir))
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    if not (folder / "checkpoint.pt").exists():
        raise FileNotFoundError(f"{folder} has no checkpoint.pt: the cell has not finished an epoch, or it was pruned")
    state = checkpoint.read(folder / "checkpoint.pt", config["run_id"])
    parts_of = {**config, "trainer": {**config["trainer"], "device": "cpu", "precision": "fp32"}}
    parts = assemble(parts_of)
    parts.model.load_state_dict(state["model"])
    images = parts.source.load(config["seed"])

    def transform(pictures: Any) -> Tensor:
        import numpy

        batch = torch.as_tensor(numpy.array(pictures))
        if batch.dim() == 3:
            batch = batch[None]
        if batch.dtype != torch.uint8 or batch.shape[-1] != 3:
            raise ValueError(f"images must be uint8 (N, H, W, 3), got {batch.dtype} {tuple(batch.shape)}")
        labels = torch.zeros(len(batch), dtype=torch.int64)
        return next(iter(plain_batches(batch, labels, len(batch), images.mean, images.std)))[0]

    return Trained(parts.model.eval(), config, transform, images.classes)


@contextmanager
def _heartbeat(claim: store.Claim) -> Any:
    """Show every few seconds that the owner lives, from a thread of its own: loading and evaluating take their time."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(store.HEARTBEAT_SECONDS):
            claim.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _readable_checkpoint(folder: Path, name: str) -> bool:
    if not (folder / "checkpoint.pt").exists():
        return True
    try:
        checkpoint.read(folder / "checkpoint.pt", name)
    except ValueError:
        return False
    return True


def _is_finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
