"""The training loop, start to end."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from poolbench import accelerator
from poolbench.models.sites import Trunk, derive
from poolbench.training.course import Course, Epoch
from poolbench.training.schedules import Schedule
from poolbench.training.skipping import skipped
from poolbench.training.state import Progress, TrainingState

Batch = tuple[Tensor, Tensor]  # images (N, 3, H, W) as the model takes them, labels (N,)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROGRESS_SECONDS = 1.0


class TrainingFailed(RuntimeError):
    """The training cannot go on, for a reason that repeating it would not change."""


def train(
    state: TrainingState,
    course: Course,
    batches: Any,
    schedule: Schedule,
    seed: int,
    validation: Callable[[], Iterable[Batch]] | None = None,
    during: Callable[[float, dict[str, Any]], None] = lambda done, row: None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train from wherever ``state`` stands to the end of ``course``.

    Every epoch seeds its random streams anew from (seed, purpose, epoch): the order of samples, the augmentation, which
    easy images are skipped and the draws of random pools. So no pool can move another's streams, and an epoch repeated
    after a crash is the same.

    Args:
        state: the net, which maps ``(N, 3, H, W)`` to logits ``(N, K)``, what trains it, and its progress.
        course: what each epoch has.
        batches: a :class:`poolbench.data.augment.Batches`.
        schedule: the learning rate's factor by the share of the steps that is done.
        validation: makes batches of the validation split, or None without one.
        during: called about once a second with the number of epochs done, in parts, and the running row.
        after_epoch: called after each epoch; what it saves is where a killed training goes on.
    Raises: TrainingFailed when the loss is no longer finite.
    """
    progress = state.progress
    loss_of = torch.compile(state.model.loss) if course.trainer.compile else state.model.loss
    for epoch in course.epochs[progress.epoch :]:
        start = time.perf_counter()
        row = train_epoch(state, course, epoch, batches, schedule, seed, loss_of, during)
        seconds = time.perf_counter() - start
        loss, accuracy = (None, None)
        if validation is not None:
            torch.manual_seed(derive(seed, "validation", epoch.number))  # for pools that draw in evaluation too
            read = evaluate(state.counting, validation(), course.trainer.precision)
            loss, accuracy = read.loss, read.accuracy
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        row |= {"seconds": seconds, "images_per_second": epoch.images / seconds}
        progress.history.append(row)
        progress.epoch += 1
        progress.seconds += seconds
        progress.images += epoch.images
        after_epoch(progress)


def train_epoch(
    state: TrainingState,
    course: Course,
    epoch: Epoch,
    batches: Any,
    schedule: Schedule,
    seed: int,
    loss_of: Callable[..., tuple[Tensor, Tensor]],
    during: Callable[[float, dict[str, Any]], None],
) -> dict[str, Any]:
    """Train ``state`` for one epoch; see :func:`train`. ``loss_of`` is the model's ``loss``, perhaps compiled.

    Returns: the epoch's number from 1, its last learning rate, and loss and accuracy over its images.
    """
    trainer, model, optimizers = course.trainer, state.model, state.optimizers
    device = next(model.parameters()).device
    losses = state.losses_of(len(batches.images), device) if trainer.skip_easy else None
    order, augmentation = _stream(seed, "order", epoch.number), _stream(seed, "augmentation", epoch.number)
    mirrored = _mirrored(epoch, len(batches.images), seed) if trainer.alternate_flip else None
    skip = None if losses is None else skipped(losses, epoch.skipped, _stream(seed, "skip", epoch.number))
    torch.manual_seed(derive(seed, "operators", epoch.number))
    model.train()
    if trainer.frozen_statistics:
        freeze_statistics(model)
    total_loss = torch.zeros((), dtype=accelerator.widest(device), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    start = shown = time.perf_counter()
    images, row = 0, dict[str, Any]()
    for step, (x, y, chosen) in enumerate(batches.epoch(order, augmentation, mirrored, skip)):
        optimizers.scale(schedule(course.share_of_steps(epoch, step)))
        if not trainer.channels_last:  # batches are, by the way they are made
            x = x.contiguous()
        if epoch.side is not None:
            x = resized(x, epoch.side)
        with autocast(trainer.precision, device):
            loss, logits = loss_of(x, y, trainer.label_smoothing)
        state.step(loss)
        images += len(y)
        total_loss += loss.detach() * len(y)
        correct += (logits.detach().argmax(1) == y).sum()
        if losses is not None:
            losses[chosen] = F.cross_entropy(logits.detach().float(), y, reduction="none")
        now = time.perf_counter()
        # Reading a number off an accelerator waits for it, so it is done once a second and not at every step.
        if now - shown >= PROGRESS_SECONDS or step == epoch.steps - 1:
            shown = now
            row = {
                "epoch": epoch.number + 1,
                "learning_rate": optimizers.lr,
                "train_loss": _finite(total_loss.item() / images, epoch, step),
                "train_accuracy": correct.item() / images,
            }
            done = epoch.number + (step + 1) / epoch.steps
            during(done, {**row, "images_per_second": images / (now - start)})
    return row


def freeze_statistics(model: nn.Module) -> None:
    """Let the layers of ``model`` that keep running means and variances use these, as in evaluation, until the next
    ``model.train()``; their weights still learn."""
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.training = False


def _stream(seed: int, *purpose: str | int) -> Generator:
    return Generator().manual_seed(derive(seed, *purpose))


def _mirrored(epoch: Epoch, samples: int, seed: int) -> Tensor:
    """Which of the images ``epoch`` shows mirrored: half of them, the next one the other half."""
    return (torch.randint(2, (samples,), generator=_stream(seed, "flip")) + epoch.number) % 2


@dataclass(frozen=True)
class Reading:
    """What a net says of ``N`` images.

    Args:
        loss: mean of the model's ``criterion``; accuracy: a fraction.
        flip_averaged: accuracy of logits averaged over each image and its mirror image, where that was asked for.
        right: ``(N,)``, whether each image was given its class.
        log_probability: ``(N,)``, of each image's class; None of a net whose loss is not cross-entropy, which gives no
            chances.
        labels: ``(N,)``.
    """

    loss: float
    accuracy: float
    flip_averaged: float | None
    right: Tensor
    log_probability: Tensor | None
    labels: Tensor


@torch.no_grad()
def evaluate(model: Trunk, batches: Iterable[Batch], precision: str = "fp32", flip: bool = False) -> Reading:
    """Read ``batches`` in evaluation mode; with ``flip`` also the accuracy averaged over mirror images."""
    model.eval()
    loss, flipped = 0.0, 0
    right, chances, labels = [], [], []
    for x, y in batches:
        with autocast(precision, x.device):
            logits = model(x).float()
            if flip:
                both = logits + model(x.flip(3)).float()
                flipped += int((both.argmax(1) == y).sum())
        loss += model.criterion(logits, y).item() * len(y)
        right.append((logits.argmax(1) == y).cpu())
        chances.append(logits.log_softmax(1).gather(1, y[:, None])[:, 0].cpu())
        labels.append(y.cpu())
    every, count = torch.cat(right), sum(map(len, right))
    return Reading(
        loss=loss / count,
        accuracy=int(every.sum()) / count,
        flip_averaged=flipped / count if flip else None,
        right=every,
        log_probability=torch.cat(chances) if getattr(model, "reads_chances", False) else None,
        labels=torch.cat(labels),
    )


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


def _finite(loss: float, epoch: Epoch, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the training loss became {loss} in epoch {epoch.number + 1}, by step {step + 1}: "
            "try a smaller optimizer.lr or a longer schedule.warmup"
        )
    return loss
