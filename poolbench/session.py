"""One training, from a completed config to the numbers of its result; who may train it is not asked here."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.assembly import Parts, assemble, build_model, prepare
from poolbench.data.augment import Batches, plain_batches
from poolbench.limits import check
from poolbench.measure.cost import cost, seen_flops
from poolbench.measure.readings import read_measures
from poolbench.measure.subject import Subject
from poolbench.models.sites import Trunk, derive
from poolbench.options import Trainer
from poolbench.records import environment, files, outcomes
from poolbench.records.identity import SCHEMA_VERSION
from poolbench.records.read import RecordError, read_json
from poolbench.records.times import now
from poolbench.training import checkpoint, determinism, process
from poolbench.training.course import Course
from poolbench.training.loop import Reading, TrainingFailed, autocast, evaluate, resized_size, train
from poolbench.training.state import Progress, TrainingState, averaged


class UselessCheckpoint(Exception):
    """The checkpoint cannot be gone on from."""


@dataclass(frozen=True)
class Desk:
    """Where a session works.

    Args:
        folder: of the record: its files but config, status and result are the session's.
        guard: called before each file takes its place; raises where the folder is another process's by now.
        tell: takes what there is to say of how it gets on: epoch, share_done, train_accuracy, ...
        code: what :func:`poolbench.records.environment.code_version` said when the program started.
        threads, device: what ``null`` and ``auto`` in the config stand for here.
    """

    folder: Path
    guard: files.Guard
    tell: Callable[..., None]
    code: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None
    device: str | None = None


class Session:
    """A training in one process: built, taken up where it was, trained, settled and read.

    Raises: ConfigError for an option that is unknown or not allowed.
    """

    def __init__(self, config: dict[str, Any], desk: Desk):
        check(config)
        self.config, self.desk = config, desk
        self.trainer, self.seed = Trainer(**config["trainer"]), config["seed"]
        self.path = desk.folder / "checkpoint.pt"
        self.operations: set[str] = set()  # that are not deterministic
        self.described: dict[str, Any] = {}  # environment.json
        self._began = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns: what ``result.json`` holds.

        Raises: TrainingFailed, ValueError or DataError for what the user can mend; UselessCheckpoint.
        """
        try:
            with determinism.asked_for(self.operations):
                parts = self._build()
                self._begin(parts)
                self._train(parts)
                self._settle()
                result = self._read()
        except (NotImplementedError, TypeError, RuntimeError) as error:
            if (reason := accelerator.missing(error)) is None:
                raise
            raise TrainingFailed(reason) from error
        self._note_operations()
        files.write_metrics(self.desk.folder / "metrics.csv", self.progress.history, self.desk.guard)
        return result

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def _offered(self) -> str | None:
        """The device of the desk, where the config leaves open which of its kind it is."""
        kind = (self.desk.device or "").partition(":")[0]
        return self.desk.device if self.trainer.device in ("auto", kind) else None

    def _build(self) -> Parts:
        """Set the process up and make the net."""
        self.device = accelerator.choose(self._offered() or self.trainer.device)
        threads, kept = process.set_up(self.device, self.trainer.threads or self.desk.threads, self.trainer.keep_memory)
        parts = assemble(self.config, self.device)
        capability, switches = torch.backends.cpu.get_cpu_capability(), determinism.switches()
        name, driver = accelerator.name(self.device), accelerator.driver(self.device)
        self.described = environment.describe(
            name, threads, capability, kept, self.desk.code, self.config, switches, driver
        )
        self.operations |= _operations_before(self.desk.folder)
        self._note_operations(first=True)
        self.model, self.size = parts.model.to(self.device), parts.info.size
        self.costs = cost(self.model, self.size)
        # Now: a head that was fitted in the end, as a checkpoint may have it, is another.
        self.flops = {side: self._flops(side) for side in self.trainer.sizes or [None]}
        return parts

    def _begin(self, parts: Parts) -> None:
        """Load the images and bring the net to where its training begins, or stood."""
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.trainer.precision == "fp16")
        optimizers = parts.optimizers(self.model)
        began = time.perf_counter()
        self.images = parts.source.load(self.seed)
        self.held_out = len(self.images.validation_images) > 0
        if not self.path.exists():
            prepare(self.model, self.images, self._look)
        self.state = TrainingState(self.model, optimizers, scaler, averaged(self.model, self.trainer))
        if self.path.exists():
            self._restore()
        # The code counts as well: half of a training by one version and half by another is neither's.
        here = f"{self.described['fingerprint']} {self.described['poolbench']} {self.described['commit']}"
        self.progress.fingerprints = sorted({*self.progress.fingerprints, here})
        self._began = began - self.progress.cell_seconds

    def _restore(self) -> None:
        try:
            self.state.load_state_dict(checkpoint.read(self.path, self.config["run_id"]))
        except torch.OutOfMemoryError:  # says nothing of the checkpoint
            raise
        except (ValueError, RuntimeError, TypeError, KeyError) as error:  # torn, or of another version of the code
            raise UselessCheckpoint from error
        self.progress.attempts += 1

    def _train(self, parts: Parts) -> None:
        images, labels = self.images.train_images, self.images.train_labels
        mean, std, augmentation = self.images.mean, self.images.std, parts.source.augmentation
        batches = Batches(images, labels, self.trainer.batch_size, mean, std, augmentation, self.device)
        self.course = Course(self.trainer, len(batches.images), self.flops)
        self.desk.tell(epoch=self.progress.epoch, share_done=self.course.share_of_work(self.progress.epoch))
        validation = partial(self._look, self.images.validation_images, self.images.validation_labels)
        train(
            self.state,
            self.course,
            batches,
            parts.schedule,
            self.seed,
            validation if self.held_out else None,
            self._during,
            self._save,
        )

    def _flops(self, side: int | None) -> int:
        size = self.size if side is None else resized_size(self.size, side)
        return seen_flops(self.costs if size == tuple(self.size) else cost(self.model, size))

    def _during(self, done: float, row: dict[str, Any]) -> None:
        epoch = self.course.epochs[row["epoch"] - 1]
        seconds = epoch.images / row["images_per_second"]  # of the whole epoch
        before, after, share = (self.course.share_of_work(n) for n in (epoch.number, epoch.number + 1, done))
        self.desk.tell(
            epoch=done,
            share_done=share,
            train_accuracy=row["train_accuracy"],
            images_per_second=row["images_per_second"],
            seconds_left=(1 - share) / (after - before) * seconds,
        )

    def _save(self, progress: Progress) -> None:
        progress.cell_seconds = time.perf_counter() - self._began
        images = self.images
        # So that a model can be used where its data is not.
        data = {"size": self.size, "classes": images.classes, "mean": images.mean, "std": images.std}
        checkpoint.save(self.path, self.state, self.config["run_id"], data, self.desk.guard)
        files.write_metrics(self.desk.folder / "metrics.csv", progress.history, self.desk.guard)
        self._note_operations()

    def _settle(self) -> None:
        """Do what comes after the last epoch: put averaged weights in place, fit the head."""
        fits = callable(getattr(self.model.head, "fit", None))
        average = self.state.average
        if not self.progress.settled and (average is not None or fits or not self.path.exists()):
            if average is not None:
                self.model.load_state_dict(average.module.state_dict())
            if fits:
                batches = partial(self._look, self.images.train_images, self.images.train_labels)
                _fit(self.model, batches, self.trainer.precision, self.seed)
            self.progress.settled = True
            self._save(self.progress)
        if fits:
            self.costs = cost(self.model, self.size)  # the fitted head is another than the one that trained the trunk

    def _read(self) -> dict[str, Any]:
        """Read everything at the end, the test set for the first and only time, or never without ``trainer.test``."""
        trainer, progress, images = self.trainer, self.progress, self.images
        torch.manual_seed(derive(self.seed, "evaluation"))  # for pools that draw in evaluation too
        test = partial(self._look, images.test_images, images.test_labels)
        tested = self._evaluate(test(), trainer.flip_averaging) if trainer.test else None
        # Without augmentation and in evaluation mode, as the test set is read, or the gap would compare two things.
        some = slice(0, trainer.train_evaluation)
        trained = self._evaluate(self._look(images.train_images[some], images.train_labels[some]))
        held_out = None
        if self.held_out:
            held_out = self._evaluate(self._look(images.validation_images, images.validation_labels))
        _refuse_infinite(*(read.loss for read in (tested, trained, held_out) if read is not None))
        memory = process.peak_memory(self.device)  # of the training, whatever is read on top
        probes = _probed(self, test) if trainer.test else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.config["run_id"],
            "test_accuracy": tested and tested.accuracy,
            "test_loss": tested and tested.loss,
            "flip_averaged_accuracy": tested and tested.flip_averaged,
            **(_more_of(self, tested, test()) if tested else {}),
            "train_accuracy": trained.accuracy,
            "train_loss": trained.loss,
            "validation_accuracy": held_out and held_out.accuracy,
            "validation_loss": held_out and held_out.loss,
            **self.costs,
            "train_flops": None if self.costs["forward_flops"] is None else self.course.train_flops(progress.epoch),
            "images_seen": progress.images,
            "epochs": progress.epoch,
            "train_seconds": progress.seconds,
            "cell_seconds": time.perf_counter() - self._began,
            "images_per_second": progress.images / progress.seconds if progress.seconds else None,
            "peak_memory_bytes": memory,
            "train_samples": len(images.train_images),
            "validation_samples": len(images.validation_images),
            "test_samples": len(images.test_images) if trainer.test else 0,
            "resumed": progress.attempts,
            "mixed_environment": len(progress.fingerprints) > 1,
            **probes,
            "finished": now(),
        }

    def _evaluate(self, batches: Any, flip: bool = False) -> Reading:
        return evaluate(self.model, batches, self.trainer.precision, flip)

    def _look(self, images: Tensor, labels: Tensor) -> Any:
        """Batches of a part of the data, without augmentation."""
        mean, std = self.images.mean, self.images.std
        return plain_batches(images, labels, self.trainer.evaluation_batch_size, mean, std, self.device)

    def _note_operations(self, first: bool = False) -> None:
        """Have the record tell which operations torch called not deterministic so far."""
        names = sorted(self.operations)
        if first or names != self.described["nondeterministic_operations"]:
            self.described["nondeterministic_operations"] = names
            files.write_json(self.desk.folder / "environment.json", self.described, guard=self.desk.guard)


def _probed(session: Session, test: Callable[[], Any]) -> dict[str, float]:
    """What the probes ask for, of the test images."""

    def untrained() -> nn.Module:
        model = build_model(session.config, len(session.images.classes), tuple(session.size)).to(session.device)
        prepare(model, session.images, session._look)
        return model.eval()

    images, precision = session.images, session.trainer.precision
    subject = Subject(session.model, test, tuple(images.mean), tuple(images.std), session.seed, precision, untrained)
    return read_measures(subject, session.config.get("probe") or {})


def _more_of(session: Session, tested: Reading, batches: Any) -> dict[str, float | None]:
    """Keep which test images were right, and what is read of them at no cost, or in a pass more."""
    _keep_outcomes(session.desk, tested, len(session.images.classes))
    with accelerator.undrawn(session.device):  # no draw moves
        torch.manual_seed(derive(session.seed, "mirrored"))
        mirrored = session._evaluate((x.flip(3), y) for x, y in batches)
    chances = tested.log_probability
    return {
        "mirror_mean_accuracy": (tested.accuracy + mirrored.accuracy) / 2,
        "largest_class_share": tested.labels.bincount().max().item() / len(tested.labels),
        "true_class_probability": None if chances is None else chances.double().exp().mean().item(),
    }


def _keep_outcomes(desk: Desk, tested: Reading, num_classes: int) -> None:
    content = outcomes.packed(tested.right.tolist(), tested.labels.tolist(), num_classes)
    files.write_json(desk.folder / outcomes.FILE, content, guard=desk.guard)
    if tested.log_probability is not None:
        with files.replacing(desk.folder / outcomes.CHANCES, guard=desk.guard) as file:
            # The least that float16 can say is as good as never.
            np.save(file, tested.log_probability.clamp(min=-65504).half().numpy(), allow_pickle=False)


def _operations_before(folder: Path) -> set[str]:
    """What an earlier attempt at the cell in ``folder`` noted: this one may not repeat all of its operations."""
    with suppress(RecordError, OSError):
        names = (read_json(folder / "environment.json") or {}).get("nondeterministic_operations")
        return {str(name) for name in names} if isinstance(names, list) else set()
    return set()


def _fit(model: Trunk, batches: Callable[[], Any], precision: str, seed: int) -> None:
    """Let the head be fitted to what the trained trunk makes of the training images."""
    model.eval()

    @torch.no_grad()
    def maps() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches():
            with autocast(precision, x.device):
                yield model.features(x).float(), y

    model.head.fit(maps, torch.Generator().manual_seed(derive(seed, "fit")))


def _refuse_infinite(*losses: float) -> None:
    if not all(map(math.isfinite, losses)):
        raise TrainingFailed("a loss at the end is not finite: try a smaller optimizer.lr or a longer schedule.warmup")
