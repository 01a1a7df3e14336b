"""One training: from a completed config to a record."""

import math
import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.assembly import assemble
from poolbench.data.augment import Batches, plain_batches
from poolbench.data.base import DataError, Images
from poolbench.measure.cost import cost
from poolbench.measure.invariance import read_probes
from poolbench.models.sites import Trunk, derive
from poolbench.records import environment, store
from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.read import RecordError, read_json
from poolbench.records.state import DAMAGED, DONE, record_state
from poolbench.records.times import now
from poolbench.training import checkpoint, determinism, process
from poolbench.training.loop import Progress, TrainingFailed, autocast, averaged, evaluate, resized_size, train
from poolbench.training.skipping import images_in

_PREPARE_IMAGES = 5000  # what a model may look at before its first step

Announce = Callable[[dict[str, Any]], None]  # takes what status.json holds


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
            if state != DAMAGED:
                store.sweep_temporaries(folder)
            if state == DONE:
                return "done"
            if state != DAMAGED:
                with suppress(_UselessCheckpoint):
                    return _Training(claim, config, code, threads, device, announce).run()
            if not claim.holds():  # while we slept another process began anew
                return "busy"
            aside = store.set_aside(folder)
        finally:
            claim.release()
    announce({"state": "damaged", "run_id": config["run_id"], "error": f"set aside as {aside.name}"})
    return train_cell(config, code, threads, device, announce)


class _Training:
    """One attempt at a cell, by the owner of its folder."""

    def __init__(
        self,
        claim: store.Claim,
        config: dict[str, Any],
        code: dict[str, Any],
        threads: int | None,
        device: str | None,
        announce: Announce,
    ):
        self.claim, self.folder, self.config, self.code, self.announce = claim, claim.folder, config, code, announce
        self.trainer = config["trainer"]
        self.threads = self.trainer["threads"] or threads
        self.device_option = (
            device if device is not None and self.trainer["device"] in ("auto", "cuda") else self.trainer["device"]
        )
        self.progress = Progress()
        self.operations: set[str] = set()  # that are not deterministic
        self.described: dict[str, Any] = {}  # environment.json
        self._began = time.perf_counter()
        # Of each epoch:
        self._images: list[int] = []
        self._flops: list[int] = []  # forward, of an image at the size that it has there
        self.status: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": config["run_id"],
            "state": "running",
            "epoch": 0,
            "epochs": self.trainer["epochs"],
            "share_done": None,
            "train_accuracy": None,
            "seconds_left": None,
            "images_per_second": None,
            "error": None,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": now(),
            "updated": now(),
        }

    def run(self) -> str:
        try:
            store.write_yaml(self.folder / "config.yaml", self.config, self._check_ownership)
            self._tell()
            with determinism.asked_for(self.operations):
                result = self._train()
            self._note_operations()
            store.write_metrics(self.folder / "metrics.csv", self.progress.history, self._check_ownership)
            # The last file, since it is what makes a cell done.
            store.write_json(self.folder / "result.json", result, guard=self._check_ownership)
        except _UselessCheckpoint:
            raise
        except _ClaimLost:
            return "busy"
        except Exception as error:
            if not self.claim.holds():
                return "busy"
            reason = str(error) if isinstance(error, TrainingFailed | ValueError | DataError) else repr(error)
            if isinstance(error, OSError):
                reason = store.os_reason(error)
            with suppress(OSError):
                (self.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            with suppress(_ClaimLost):
                self._tell(state="failed", error=reason, lasting=isinstance(error, TrainingFailed))
            if isinstance(error, OSError):
                raise
            return "failed"
        with suppress(OSError, _ClaimLost):  # the cell is done all the same
            self._tell(state="done", epoch=self.trainer["epochs"], share_done=1.0, seconds_left=0.0)
            (self.folder / "error.txt").unlink(missing_ok=True)
        return "done"

    def _train(self) -> dict[str, Any]:
        device = process.choose_device(self.device_option)
        threads, kept = process.set_up(device, self.threads, self.trainer["keep_memory"])
        parts = assemble({**self.config, "trainer": {**self.trainer, "device": str(device)}})
        self.described = described = environment.describe(
            process.device_name(device),
            threads,
            torch.backends.cpu.get_cpu_capability(),
            kept,
            self.code,
            self.config,
            determinism.switches(),
        )
        self.operations |= _operations_before(self.folder)
        self._note_operations(first=True)
        model = parts.model.to(device)
        costs = cost(model, parts.info.size)
        sizes = [resized_size(parts.info.size, side) for side in self.trainer["sizes"] or [max(parts.info.size)]]
        counted = {tuple(parts.info.size): costs["forward_flops"]}
        for size in sizes:
            if size not in counted:
                counted[size] = cost(model, size)["forward_flops"]
        self._flops = [counted[sizes[epoch % len(sizes)]] for epoch in range(self.trainer["epochs"])]
        optimizers = parts.optimizers(model)
        scaler = torch.amp.GradScaler(device.type, enabled=self.trainer["precision"] == "fp16")
        path = self.folder / "checkpoint.pt"
        began = time.perf_counter()
        images = parts.source.load(self.config["seed"])
        look = _Look(images, device, self.trainer["evaluation_batch_size"])
        if not path.exists():
            self._prepare(model, images, look)
        average = averaged(model, self.trainer)
        if path.exists():
            try:
                state = checkpoint.read(path, self.config["run_id"])
                self.progress = checkpoint.restore(state, model, optimizers, scaler, average)
            except torch.OutOfMemoryError:  # says nothing of the checkpoint
                raise
            except (ValueError, RuntimeError, TypeError, KeyError) as error:  # torn, or of another version of the code
                raise _UselessCheckpoint from error
            self.progress.attempts += 1
        # The code counts as well: half of a training by one version and half by another is neither's.
        environment_now = f"{described['fingerprint']} {described['poolbench']} {described['commit']}"
        self.progress.fingerprints = sorted({*self.progress.fingerprints, environment_now})
        self._began = began - self.progress.cell_seconds

        # So that a model can be used where its data is not.
        data = {"size": parts.info.size, "classes": images.classes, "mean": images.mean, "std": images.std}
        batches = Batches(
            images.train_images,
            images.train_labels,
            self.trainer["batch_size"],
            images.mean,
            images.std,
            parts.source.augmentation,
            device,
        )

        self._images = [
            images_in(self.trainer["skip_easy"], epoch, self.trainer["epochs"], len(batches.images), batches.batch_size)
            for epoch in range(self.trainer["epochs"])
        ]
        self._tell(epoch=self.progress.epoch, share_done=self._share_done(self.progress.epoch))

        def after_epoch(progress: Progress) -> None:
            progress.cell_seconds = time.perf_counter() - self._began
            run_id, guard = self.config["run_id"], self._check_ownership
            checkpoint.save(path, model, optimizers, scaler, progress, run_id, data, average, guard)
            store.write_metrics(self.folder / "metrics.csv", progress.history, guard)
            self._note_operations()

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
            average,
        )
        fits = callable(getattr(model.head, "fit", None))
        if not self.progress.settled and (average is not None or fits or not path.exists()):
            if average is not None:
                model.load_state_dict(average.module.state_dict())
            if fits:
                self._fit(model, images, look)
            self.progress.settled = True
            after_epoch(self.progress)
        if fits:
            costs = cost(model, parts.info.size)  # the fitted head is another than the one that trained the trunk
        return self._result(model, images, look, costs, device, held_out)

    def _prepare(self, model: Trunk, images: Images, look: "_Look") -> None:
        """Let a model that wants it take its first weights from training images; the same ones for every seed."""
        if callable(getattr(model, "prepare", None)):
            some = slice(0, _PREPARE_IMAGES)
            model.prepare(torch.cat([x for x, _ in look(images.train_images[some], images.train_labels[some])]))

    def _fit(self, model: Trunk, images: Images, look: "_Look") -> None:
        """Let the head be fitted to what the trained trunk makes of the training images."""
        model.eval()

        @torch.no_grad()
        def maps() -> Iterator[tuple[Tensor, Tensor]]:
            for x, y in look(images.train_images, images.train_labels):
                with autocast(self.trainer["precision"], x.device):
                    yield model.features(x).float(), y

        model.head.fit(maps, torch.Generator().manual_seed(derive(self.config["seed"], "fit")))

    def _result(
        self,
        model: Trunk,
        images: Images,
        look: "_Look",
        costs: dict[str, Any],
        device: torch.device,
        held_out: bool,
    ) -> dict[str, Any]:
        """Read everything at the end, the test set for the first and only time, or never without ``trainer.test``."""
        precision, progress = self.trainer["precision"], self.progress
        torch.manual_seed(derive(self.config["seed"], "evaluation"))  # for pools that draw in evaluation too
        test_loss, test_accuracy, flip_averaged = (None, None, None)
        test = partial(look, images.test_images, images.test_labels)
        if self.trainer["test"]:
            test_loss, test_accuracy, flip_averaged = evaluate(model, test(), precision, self.trainer["flip_averaging"])
        # Without augmentation and in evaluation mode, as the test set is read, or the gap would compare two things.
        some = slice(0, self.trainer["train_evaluation"])
        train_loss, train_accuracy, _ = evaluate(
            model, look(images.train_images[some], images.train_labels[some]), precision
        )
        validation_loss, validation_accuracy = (None, None)
        if held_out:
            validation = look(images.validation_images, images.validation_labels)
            validation_loss, validation_accuracy, _ = evaluate(model, validation, precision)
        losses = [loss for loss in (test_loss, train_loss, validation_loss) if loss is not None]
        if not all(map(math.isfinite, losses)):
            raise TrainingFailed(
                "a loss at the end is not finite: try a smaller optimizer.lr or a longer schedule.warmup"
            )
        memory = process.peak_memory(device)  # of the training, whatever is read on top
        probe = self.config.get("probe") or {} if self.trainer["test"] else {}
        probes = read_probes(model, test, probe, self.config["seed"], precision)
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.config["run_id"],
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "flip_averaged_accuracy": flip_averaged,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            "validation_accuracy": validation_accuracy,
            "validation_loss": validation_loss,
            **costs,
            # A step is counted as three forward passes, one forward and two backward, at the size of its epoch.
            "train_flops": 3 * sum(self._images[epoch] * self._flops[epoch] for epoch in range(progress.epoch)),
            "images_seen": progress.images,
            "epochs": progress.epoch,
            "train_seconds": progress.seconds,
            "cell_seconds": time.perf_counter() - self._began,
            "images_per_second": progress.images / progress.seconds if progress.seconds else None,
            "peak_memory_bytes": memory,
            "train_samples": len(images.train_images),
            "validation_samples": len(images.validation_images),
            "test_samples": len(images.test_images) if self.trainer["test"] else 0,
            "resumed": progress.attempts,
            "mixed_environment": len(progress.fingerprints) > 1,
            **probes,
            "finished": now(),
        }

    def _note_operations(self, first: bool = False) -> None:
        """Have the record tell which operations torch called not deterministic so far."""
        names = sorted(self.operations)
        if first or names != self.described["nondeterministic_operations"]:
            self.described["nondeterministic_operations"] = names
            store.write_json(self.folder / "environment.json", self.described, guard=self._check_ownership)

    def _check_ownership(self) -> None:
        """Called right before each file takes its place, so that an owner that slept and was passed over changes
        nothing any more."""
        if not self.claim.holds():
            raise _ClaimLost

    def _during(self, done: float, row: dict[str, Any]) -> None:
        epoch = row["epoch"] - 1
        seconds = self._images[epoch] / row["images_per_second"]  # of the whole epoch
        share, of_epoch = self._share_done(done), self._share_done(epoch + 1) - self._share_done(epoch)
        self._tell(
            epoch=done,
            share_done=share,
            train_accuracy=row["train_accuracy"],
            images_per_second=row["images_per_second"],
            seconds_left=(1 - share) / of_epoch * seconds,
        )

    def _share_done(self, epochs: float) -> float:
        """The share of the training's FLOPs that ``epochs`` epochs take: small images and those left out count less."""
        work = [images * max(1, flops) for images, flops in zip(self._images, self._flops, strict=True)]
        whole = int(epochs)
        begun = (epochs - whole) * work[whole] if epochs > whole else 0
        return (sum(work[:whole]) + begun) / max(1, sum(work))

    def _tell(self, **news: Any) -> None:
        self.status |= {**news, "updated": now()}
        # A status that cannot be written is no reason to stop: the checkpoint and the result are.
        with suppress(OSError):
            store.write_json(self.folder / "status.json", self.status, durable=False, guard=self._check_ownership)
        with suppress(OSError):  # nor is a terminal that was closed
            self.announce(dict(self.status))


def _operations_before(folder: Path) -> set[str]:
    """What an earlier attempt at the cell in ``folder`` noted: this one may not repeat all of its operations."""
    with suppress(RecordError, OSError):
        names = (read_json(folder / "environment.json") or {}).get("nondeterministic_operations")
        return {str(name) for name in names} if isinstance(names, list) else set()
    return set()


class _UselessCheckpoint(Exception):
    """The checkpoint cannot be gone on from."""


class _ClaimLost(Exception):
    """Another process took this one for dead and has the cell now."""


class _Look:
    """Batches of a part of the data, without augmentation."""

    def __init__(self, images: Images, device: torch.device, batch_size: int):
        self.images, self.device, self.batch_size = images, device, batch_size

    def __call__(self, images: Tensor, labels: Tensor) -> Any:
        return plain_batches(images, labels, self.batch_size, self.images.mean, self.images.std, self.device)


@contextmanager
def _heartbeat(claim: store.Claim) -> Iterator[None]:
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
