"""How near a whole training is to its bare arithmetic, and how far ahead of the usual recipe.

    python scripts/benchmark_training.py [--threads 2] [--rounds 12] [--batches 20]

Three trainings of the reference ``convnet`` take turns, a segment of the same number of steps each, in one process, so
that a slow minute of the machine hits all of them; what is quoted is the median over the rounds of the ratio within a
round, with its quartiles. Absolute figures are printed for orientation only.

- whole: poolbench's own loop with everything a cell does: images from memory, flip and crop per image, metrics,
  status, a checkpoint after each segment.
- bare: the same model, optimiser and settings on one fixed batch; nothing else. What the arithmetic costs.
- usual: torchvision transforms on PIL images and a DataLoader, default memory format, the better of 0 and 2 workers.

All three have the allocator setting (``trainer.keep_memory``), which the usual recipe would not have.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

import poolbench
from poolbench.data.augment import Batches
from poolbench.options import Trainer
from poolbench.records import environment, files
from poolbench.training import checkpoint, process
from poolbench.training.course import Course
from poolbench.training.loop import train
from poolbench.training.optimizers import Optimizers, sgd
from poolbench.training.schedules import cosine
from poolbench.training.state import Progress, TrainingState

BATCH = 128
AUGMENTATION = {"flip": True, "crop": 4, "cutout": 0}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Whole:
    """Our own training, as a cell runs it; a segment is an epoch of so many batches."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, folder: Path):
        self.model, self.optimizers = _parts(channels_last=True)
        self.batches = Batches(images, labels, BATCH, MEAN, STD, AUGMENTATION)
        self.state = TrainingState(self.model, self.optimizers, torch.amp.GradScaler("cpu", enabled=False))
        self.folder = folder

    def segment(self) -> None:
        trainer = Trainer(epochs=self.state.progress.epoch + 1, batch_size=BATCH)
        course = Course(trainer, len(self.batches.images))
        train(self.state, course, self.batches, cosine(), 0, during=self._tell, after_epoch=self._save)

    def _tell(self, done: float, row: dict[str, Any]) -> None:
        files.write_json(self.folder / "status.json", {"epoch": done, **row})

    def _save(self, progress: Progress) -> None:
        checkpoint.save(self.folder / "checkpoint.pt", self.state, "benchmark", {})
        files.write_metrics(self.folder / "metrics.csv", progress.history)


class Bare:
    """The arithmetic alone: one batch, made once."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, steps: int):
        self.model, self.optimizers = _parts(channels_last=True)
        batches = Batches(images, labels, BATCH, MEAN, STD, AUGMENTATION)
        self.x, self.y, _ = next(iter(batches.epoch(torch.Generator(), torch.Generator())))
        self.steps = steps

    def segment(self) -> None:
        self.model.train()
        for _ in range(self.steps):
            F.cross_entropy(self.model(self.x), self.y).backward()
            for optimizer in self.optimizers.optimizers:
                optimizer.step()
            self.optimizers.zero_grad()


class Usual:
    """A DataLoader over PIL images with torchvision's transforms, and the loop of any tutorial."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, workers: int):
        self.model, self.optimizers = _parts(channels_last=False)
        to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        crop = v2.RandomCrop(32, padding=4, padding_mode="reflect")
        transform = v2.Compose([crop, v2.RandomHorizontalFlip(), *to_tensor])
        self.loader = torch.utils.data.DataLoader(
            _Pictures(images, labels, transform),
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers else None,
        )

    def segment(self) -> None:
        self.model.train()
        for x, y in self.loader:
            self.optimizers.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            for optimizer in self.optimizers.optimizers:
                optimizer.step()


class _Pictures(torch.utils.data.Dataset):
    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: nn.Module):
        self.images, self.labels, self.transform = images.numpy(), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def _parts(channels_last: bool) -> tuple[nn.Module, Optimizers]:
    model = poolbench.create_model("convnet", pool="max")
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model, sgd(model)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batches", type=int, default=20, help="steps of a segment")
    arguments = parser.parse_args()
    process.set_up(torch.device("cpu"), arguments.threads, keep_memory=True)
    generator = torch.Generator().manual_seed(0)
    samples = BATCH * arguments.batches
    images = torch.randint(256, (samples, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (samples,), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            "whole": Whole(images, labels, Path(folder)),
            "bare": Bare(images, labels, arguments.batches),
            "usual, 0 workers": Usual(images, labels, 0),
            "usual, 2 workers": Usual(images, labels, 2),
        }
        for contender in contenders.values():
            contender.segment()  # not counted: first touches of memory, the start of workers
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender.segment()
                seconds[name].append(time.perf_counter() - start)
    print(
        f"{environment.cpu_name()}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{arguments.rounds} rounds of {arguments.batches} batches of {BATCH}"
    )
    for name, times in seconds.items():
        print(f"  {name:<18}{samples / statistics.median(times):8.0f} images/s (median)")
    _ratio("whole / bare", seconds["bare"], seconds["whole"])
    for workers in (0, 2):
        _ratio(f"whole / usual, {workers} workers", seconds[f"usual, {workers} workers"], seconds["whole"])
    return 0


def _ratio(name: str, numerator: list[float], denominator: list[float]) -> None:
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"  {name:<26}{middle:6.2f}  (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    sys.exit(main())
