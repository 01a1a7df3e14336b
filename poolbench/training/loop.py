"""The training loop, start to end."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poolbench.models.sites import Trunk, derive
from poolbench.training.optimizers import Optimizers
from poolbench.training.schedules import Schedule
from poolbench.training.skipping import images_in, share, skipped

Batch = tuple[Tensor, Tensor]  # images (N, 3, H, W) as the model takes them, labels (N,)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROGRESS_SECONDS = 1.0


class TrainingFailed(RuntimeError):
    """The training cannot go on, for a reason that repeating it would not change."""


@dataclass
class Progress:
    """How far a training is; all that a checkpoint needs beside weights and optimiser."""

    epoch: int = 0  # finished epochs
    history: list[dict[str, Any]] = field(default_factory=list)  # one row of metrics.csv per finished epoch
    seconds: float = 0.0  # spent in training steps, evaluation not counted
    images: int = 0  # seen in training
    cell_seconds: float = 0.0  # spent on the cell in all, up to the last finished epoch
    attempts: int = 0  # how often it was taken up again
    fingerprints: list[str] = field(default_factory=list)  # of the environments that it ran in
    losses: Tensor | None = None  # of each training image when it was last seen, where easy ones are skipped
    settled: bool = False  # what comes after the last epoch is done: averaged weights in place, the head fitted


def averaged(model: Trunk, trainer: dict[str, Any]) -> AveragedModel | None:
    """The running average of the weights that ``trainer.weight_averaging`` asks for, or None."""
    decay = trainer["weight_averaging"]
    # With the statistics of normalisations: those of the last weights do not belong to averaged ones.
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def train(
    model: Trunk,
    batches: Any,
    validation: Callable[[], Iterable[Batch]] | None,
    optimizers: Optimizers,
    schedule: Schedule,
    scaler: torch.amp.GradScaler,
    trainer: dict[str, Any],
    seed: int,
    progress: Progress,
    during: Callable[[float, dict[str, Any]], None] = lambda done, row: None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
    average: AveragedModel | None = None,
) -> None:
    """Train ``model`` for ``trainer["epochs"]`` epochs, from wherever ``progress`` stands.

    Every epoch seeds its random streams anew from (seed, purpose, epoch): the order of samples, the augmentation, which
    easy images are skipped and the draws of random pools. So no pool can move another's streams, and an epoch repeated
    after a crash is the same.

    Args:
        model: maps ``(N, 3, H, W)`` to logits ``(N, K)``.
        batches: a :class:`poolbench.data.augment.Batches`.
        validation: makes batches of the validation split, or None without one.
        optimizers, schedule, scaler: hold no progress that ``progress`` does not imply, their own state apart.
        trainer: the config's ``trainer``.
        during: called about once a second with the number of epochs done, in parts, and the running row.
        after_epoch: called after each epoch; what it saves is where a killed training goes on.
        average: follows the weights, one update a step, and is what validation reads.
    Raises: TrainingFailed when the loss is no longer finite; ValueError when ``trainer.skip_easy`` leaves no batch.
    """
    steps = _steps(trainer, len(batches.images), batches.batch_size)
    device = next(model.parameters()).device
    loss_of = torch.compile(model.loss) if trainer["compile"] else model.loss
    smoothing = trainer["label_smoothing"]
    while progress.epoch < trainer["epochs"]:
        epoch = progress.epoch
        order, draws = (torch.Generator().manual_seed(derive(seed, what, epoch)) for what in ("order", "augmentation"))
        torch.manual_seed(derive(seed, "operators", epoch))
        model.train()
        total_loss = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        start = shown = time.perf_counter()
        images = 0
        mirrored = None
        if trainer["alternate_flip"]:
            coins = torch.Generator().manual_seed(derive(seed, "flip"))
            mirrored = (torch.randint(2, (len(batches.images),), generator=coins) + epoch) % 2
        sides = trainer["sizes"] or [None]
        side = sides[epoch % len(sides)]
        skip = None
        if trainer["skip_easy"]:
            if progress.losses is None:
                progress.losses = torch.full((len(batches.images),), math.inf)
            progress.losses = progress.losses.to(device)
            coins = torch.Generator().manual_seed(derive(seed, "skip", epoch))
            skip = skipped(progress.losses, share(trainer["skip_easy"], epoch, trainer["epochs"]), coins)
        for step, (x, y, chosen) in enumerate(batches.epoch(order, draws, mirrored, skip)):
            optimizers.scale(schedule((sum(steps[:epoch]) + step) / sum(steps)))
            if not trainer["channels_last"]:  # batches are, by the way they are made
                x = x.contiguous()
            if side is not None:
                x = resized(x, side)
            with autocast(trainer["precision"], device):
                loss, logits = loss_of(x, y, smoothing)
            scaler.scale(loss).backward()
            optimizers.gather()
            for optimizer in optimizers.optimizers:
                scaler.step(optimizer)
            scaler.update()
            optimizers.zero_grad()
            if average is not None:
                average.update_parameters(model)
            images += len(y)
            total_loss += loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
            if progress.losses is not None:
                progress.losses[chosen] = F.cross_entropy(logits.detach().float(), y, reduction="none")
            now = time.perf_counter()
            # Reading a number off an accelerator waits for it, so it is done once a second and not at every step.
            if now - shown >= PROGRESS_SECONDS or step == steps[epoch] - 1:
                shown = now
                row = {
                    "epoch": epoch + 1,
                    "learning_rate": optimizers.lr,
                    "train_loss": _finite(total_loss.item() / images, epoch, step),
                    "train_accuracy": correct.item() / images,
                }
                during(epoch + (step + 1) / steps[epoch], {**row, "images_per_second": images / (now - start)})
        seconds = time.perf_counter() - start
        loss_, accuracy = (None, None)
        if validation is not None:
            torch.manual_seed(derive(seed, "validation", epoch))  # for pools that draw in evaluation too
            now_ = model if average is None else average.module
            loss_, accuracy, _ = evaluate(now_, validation(), trainer["precision"])
        row |= {"validation_loss": loss_, "validation_accuracy": accuracy}
        row |= {"seconds": seconds, "images_per_second": images / seconds}
        progress.history.append(row)
        progress.epoch += 1
        progress.seconds += seconds
        progress.images += images
        after_epoch(progress)


@torch.no_grad()
def evaluate(
    model: Trunk, batches: Iterable[Batch], precision: str = "fp32", flip: bool = False
) -> tuple[float, float, float | None]:
    """Mean loss (the model's ``criterion``) and accuracy (a fraction) of ``model`` in evaluation mode over ``batches``.

    Args:
        flip: also read the accuracy of logits averaged over each image and its mirror image.
    Returns: loss, accuracy, flip-averaged accuracy or None.
    """
    model.eval()
    loss, correct, flipped, count = 0.0, 0, 0, 0
    for x, y in batches:
        with autocast(precision, x.device):
            logits = model(x).float()
            if flip:
                both = logits + model(x.flip(3)).float()
                flipped += int((both.argmax(1) == y).sum())
        loss += model.criterion(logits, y).item() * len(y)
        correct += int((logits.argmax(1) == y).sum())
        count += len(y)
    return loss / count, correct / count, flipped / count if flip else None


def resized(x: Tensor, side: int) -> Tensor:
    """Images ``(N, 3, H, W)`` whose longer side becomes ``side`` pixels, low-passed before they shrink."""
    size = resized_size((x.shape[-2], x.shape[-1]), side)
    if size == tuple(x.shape[-2:]):
        return x
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def resized_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``(H, W)`` after the longer of both has become ``side`` pixels."""
    height, width = (max(1, round(length * side / max(size))) for length in size)
    return height, width


def autocast(precision: str, device: torch.device) -> Any:
    """The context for forward passes in ``precision``."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def _steps(trainer: dict[str, Any], samples: int, batch_size: int) -> list[int]:
    """Steps of each epoch."""
    skip, epochs = trainer["skip_easy"], trainer["epochs"]
    steps = [images_in(skip, epoch, epochs, samples, batch_size) // batch_size for epoch in range(epochs)]
    if 0 in steps:
        raise ValueError(
            f"trainer.skip_easy={skip} leaves less than a batch of {batch_size} of the {samples} training images: "
            "make it or trainer.batch_size smaller"
        )
    return steps


def _finite(loss: float, epoch: int, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the training loss became {loss} in epoch {epoch + 1}, by step {step + 1}: "
            "try a smaller optimizer.lr or a longer schedule.warmup"
        )
    return loss
