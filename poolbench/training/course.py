"""The course of a training, worked out once: what each of its epochs has, and which share of the whole is done. Needs
no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from poolbench.options import Trainer


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Args:
        number: from 0.
        side: of its images, the longer one, in pixels; None for images as they are.
        skipped: the share of the training images that it leaves out.
        images: that it trains on, in whole batches.
        steps: batches.
        flops: of a forward pass of one of its images.
    """

    number: int
    side: int | None
    skipped: float
    images: int
    steps: int
    flops: int = 0


class Course:
    """The epochs of a training and what they have in all.

    Args:
        trainer: the options.
        samples: training images.
        flops: of a forward pass of one image, by its longer side in pixels, None for images as they are.
    Raises: ValueError when an epoch has no whole batch.
    """

    def __init__(self, trainer: Trainer, samples: int, flops: Mapping[int | None, int] | None = None):
        self.trainer = trainer
        sides = trainer.sizes or [None]
        epochs = []
        for number in range(trainer.epochs):
            side, skipped = sides[number % len(sides)], skipped_share(trainer, number)
            steps = (samples - left_out(skipped, samples)) // trainer.batch_size
            if not steps:
                raise ValueError(
                    f"trainer.skip_easy={trainer.skip_easy} leaves less than a batch of {trainer.batch_size} of the "
                    f"{samples} training images: make it or trainer.batch_size smaller"
                )
            images, counted = steps * trainer.batch_size, flops[side] if flops else 0
            epochs.append(Epoch(number, side, skipped, images, steps, counted))
        self.epochs = tuple(epochs)
        self.steps = sum(epoch.steps for epoch in epochs)
        self._first = [sum(epoch.steps for epoch in epochs[:number]) for number in range(len(epochs))]

    def share_of_steps(self, epoch: Epoch, step: int) -> float:
        """The share of the training's steps that are done before ``step`` of ``epoch``: what schedules go by."""
        return (self._first[epoch.number] + step) / self.steps

    def share_of_work(self, epochs: float) -> float:
        """The share of the training's FLOPs that ``epochs`` epochs take: small images and those left out count less."""
        work = [epoch.images * max(1, epoch.flops) for epoch in self.epochs]
        whole = int(epochs)
        begun = (epochs - whole) * work[whole] if epochs > whole else 0
        return (sum(work[:whole]) + begun) / max(1, sum(work))

    def train_flops(self, epochs: int) -> int:
        """FLOPs of the first ``epochs`` epochs: a step is three forward passes, one forward and two backward."""
        return 3 * sum(epoch.images * epoch.flops for epoch in self.epochs[:epochs])


def skipped_share(trainer: Trainer, epoch: int) -> float:
    """The share of the images that epoch number ``epoch``, from 0, leaves out by ``trainer.skip_easy``.

    None in the first quarter of the training, where little is known, nor in the last epoch, which every image has its
    part in.
    """
    return trainer.skip_easy if trainer.epochs // 4 + 1 <= epoch < trainer.epochs - 1 else 0.0


def left_out(share: float, samples: int) -> int:
    """How many of ``samples`` images ``share`` of them are."""
    return round(share * samples)
