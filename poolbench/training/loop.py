"""The training loop, start to end."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.models.sites import derive
from poolbench.training.optimizers import Optimizers
from poolbench.training.schedules import Schedule

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


def train(
    model: nn.Module,
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
) -> None:
    """Train ``model`` for ``trainer["epochs"]`` epochs, from wherever ``progress`` stands.

    Every epoch seeds its random streams anew from (seed, purpose, epoch): the order of samples, the augmentation and
    the draws of random pools. So no pool can move another's streams, and an epoch repeated after a crash is the same.

    Args:
        model: maps ``(N, 3, H, W)`` to logits ``(N, K)``.
        batches: a :class:`poolbench.data.augment.Batches`.
        validation: makes batches of the validation split, or None without one.
        optimizers, schedule, scaler: hold no progress that ``progress`` does not imply, their own state apart.
        trainer: the config's ``trainer``.
        during: called about once a second with the number of epochs done, in parts, and the running row.
        after_epoch: called after each epoch; what it saves is where a killed training goes on.
    Raises: TrainingFailed when the loss is no longer finite.
    """
    steps = len(batches)
    device = next(model.parameters()).device
    forward = torch.compile(model) if trainer["compile"] else model
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
        for step, (x, y) in enumerate(batches.epoch(order, draws)):
            optimizers.scale(schedule((epoch * steps + step) / (trainer["epochs"] * steps)))
            if not trainer["channels_last"]:  # batches are, by the way they are made
                x = x.contiguous()
            with autocast(trainer["precision"], device):
                logits = forward(x)
                loss = F.cross_entropy(logits.float(), y, label_smoothing=smoothing)
            scaler.scale(loss).backward()
            optimizers.gather()
            for optimizer in optimizers.optimizers:
                scaler.step(optimizer)
            scaler.update()
            optimizers.zero_grad()
            images += len(y)
            total_loss += loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
            now = time.perf_counter()
            # Reading a number off an accelerator waits for it, so it is done once a second and not at every step.
            if now - shown >= PROGRESS_SECONDS or step == steps - 1:
                shown = now
                row = {
                    "epoch": epoch + 1,
                    "learning_rate": optimizers.lr,
                    "train_loss": _finite(total_loss.item() / images, epoch, step),
                    "train_accuracy": correct.item() / images,
                }
                during(epoch + (step + 1) / steps, {**row, "images_per_second": images / (now - start)})
        seconds = time.perf_counter() - start
        loss_, accuracy = (None, None)
        if validation is not None:
            torch.manual_seed(derive(seed, "validation", epoch))  # for pools that draw in evaluation too
            loss_, accuracy = evaluate(model, validation(), trainer["precision"])
        row |= {"validation_loss": loss_, "validation_accuracy": accuracy}
        row |= {"seconds": seconds, "images_per_second": images / seconds}
        progress.history.append(row)
        progress.epoch += 1
        progress.seconds += seconds
        progress.images += images
        after_epoch(progress)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], precision: str = "fp32") -> tuple[float, float]:
    """Mean cross-entropy and accuracy (a fraction) of ``model`` in evaluation mode over ``batches``."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for x, y in batches:
        with autocast(precision, x.device):
            logits = model(x).float()
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += int((logits.argmax(1) == y).sum())
        count += len(y)
    return loss / count, correct / count


def autocast(precision: str, device: torch.device) -> Any:
    """The context for forward passes in ``precision``."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def _finite(loss: float, epoch: int, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the training loss became {loss} in epoch {epoch + 1}, by step {step + 1}: "
            "try a smaller optimizer.lr or a longer schedule.warmup"
        )
    return loss
