"""What every data set shares: the options of a source, the split into training and validation, and what it hands out.

Importing this file does not import torch, so that planning a sweep stays cheap.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from poolbench.checks import TRUTH, Rule, checked, or_null, share, whole
from poolbench.data.cache import Streamed, cached_arrays, in_chunks, rows_of

if TYPE_CHECKING:
    from torch import Tensor

# The usual augmentation of 32x32 pictures; sources take it as the default of `augmentation`. Never change it in place.
FLIP_AND_CROP = {"flip": True, "crop": 4, "cutout": 0}
NO_AUGMENTATION = {"flip": False, "crop": 0, "cutout": 0}


class DataError(RuntimeError):
    """Data that is missing, damaged or cannot be had; the message says what to do."""


@dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before it is loaded.

    size is (height, width) in pixels; train_samples counts the images before the validation split is taken off;
    fingerprint is a short string that changes when the content does.
    """

    num_classes: int
    size: tuple[int, int]
    train_samples: int
    test_samples: int
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Images:
    """A loaded data set: uint8 images (N, H, W, 3), int64 labels (N,); validation may have no rows.

    mean and std are of the whole training set (validation included, so that both uses normalise alike), per channel,
    in units where black is 0 and white is 1. Tensors may be maps of files larger than memory: read them, do not write
    to them, and take no copy of all.
    """

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class DataSource:
    """A data set: where it is, how it is split, how its training images are augmented.

    A new one sets `name` and defines `info`, `check`, `cache_key` and `build`, and `fetch` if there is something to
    download before building.

    Args:
        validation: share of the training set that is kept for validation, in [0, 1).
        augmentation: flip (mirror half of the images), crop (pixels of reflected border that a random crop may shift
            into, 0 for none), cutout (side in pixels of a square filled with the mean, 0 for none). A missing key, or
            None for all, is off.
        size: (height, width) of the images, in pixels; not an option of the user but of the subclass.
        train_samples: how many training images there are, those for validation included; None: all. The draw is the
            same for every seed, holds the images of any smaller one, and has every class in proportion. Images are
            normalised by the whole training set's mean and std all the same.
        test_samples: how many test images are read, drawn in the same way; None: all.
    Raises: ValueError naming the option, its value and what is allowed.
    """

    name = "data"

    def __init__(
        self,
        validation: float,
        augmentation: Mapping[str, int | bool] | None,
        size: tuple[int, int],
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        self.most = checked("data.train_samples", train_samples, or_null(whole(1)))
        self.most_tested = checked("data.test_samples", test_samples, or_null(whole(1)))
        self.validation = float(checked("data.validation", validation, share()))
        self.size = size
        self.augmentation = checked_augmentation(augmentation, size)

    def info(self) -> DataInfo:
        """Sizes and classes, without torch. Raises: DataError if the data is missing."""
        raise NotImplementedError

    def check(self) -> None:
        """Look whether the data is there, or may be downloaded; cheap, no network. Raises: DataError if not."""
        raise NotImplementedError

    def cache_key(self) -> str:
        """Short string that changes whenever `build` would return something else."""
        raise NotImplementedError

    def build(self) -> dict[str, np.ndarray | Streamed]:
        """Read or make arrays: train_images, test_images (uint8 NHWC), train_labels, test_labels (int64), classes.

        Images that may not fit into memory are left `Streamed`.
        """
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What a plan should tell of the data: what it found, and what it chose where nothing was said."""
        return []

    def fetch(self) -> None:
        """Get what `build` reads, downloading it if need be. Raises: DataError if it cannot be had."""
        self.check()

    def prepare(self) -> None:
        """Make later loads quick: fetch and fill the cache. Safe to repeat, also by two processes at once."""
        self.fetch()
        self.arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of `build` with mean and std (3,), memory-mapped from the cache where possible."""
        return cached_arrays(self.name, self.cache_key(), self.build, with_statistics)

    def kept(self, available: int) -> int:
        """How many of so many training images are used. Raises: ValueError when more are asked for."""
        return _at_most("train_samples", self.most, available, "training")

    def kept_for_test(self, available: int) -> int:
        """How many of so many test images are read. Raises: ValueError when more are asked for."""
        return _at_most("test_samples", self.most_tested, available, "test")

    def split_sizes(self, train_samples: int) -> tuple[int, int]:
        """Number of images for (training, validation) out of `train_samples`. Raises: ValueError if either is empty."""
        held_out = round(train_samples * self.validation)
        if self.validation and not 0 < held_out < train_samples:
            raise ValueError(
                f"data.validation={self.validation} of {train_samples} images leaves {train_samples - held_out} for "
                f"training and {held_out} for validation; both need at least one"
            )
        return train_samples - held_out, held_out

    def load(self, seed: int) -> Images:
        """Load everything; the validation images are drawn from the training set by `seed`.

        All training images without validation stay a map of the cache, shared between processes, and so do all test
        images; parts are a copy, on disk where they are large.
        """
        import torch

        self.fetch()
        arrays = self.arrays()
        labels = arrays["train_labels"]
        count = self.kept(len(labels))
        kept = nested(labels, count) if count < len(labels) else None
        train_size, validation_size = self.split_sizes(count)
        train, validation = kept, np.arange(0)
        if validation_size:
            digest = hashlib.sha256(f"{seed}/validation".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            order = torch.randperm(count, generator=generator).numpy()
            train, validation = np.sort(order[:train_size]), np.sort(order[train_size:])
            if kept is not None:
                train, validation = kept[train], kept[validation]
        labels = arrays["test_labels"]
        count = self.kept_for_test(len(labels))
        tested = nested(labels, count, "test_samples") if count < len(labels) else None
        train_images, train_labels = _part(arrays, "train", train)
        validation_images, validation_labels = _part(arrays, "train", validation)
        test_images, test_labels = _part(arrays, "test", tested)
        return Images(
            train_images=train_images,
            train_labels=train_labels,
            validation_images=validation_images,
            validation_labels=validation_labels,
            test_images=test_images,
            test_labels=test_labels,
            classes=tuple(str(name) for name in arrays["classes"]),
            mean=tuple(arrays["mean"].tolist()),
            std=tuple(arrays["std"].tolist()),
        )


def _at_most(option: str, asked: int | None, available: int, which: str) -> int:
    if asked is not None and asked > available:
        raise ValueError(f"data.{option} must be at most the {available} {which} images, got {asked}; null is all")
    return available if asked is None else asked


def _part(arrays: Mapping[str, np.ndarray], split: str, rows: np.ndarray | None) -> tuple[Tensor, Tensor]:
    """Images and labels of some rows of `split`, or of all without a copy."""
    import torch

    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if rows is not None:
        images, labels = rows_of(images, rows), labels[rows]
    with warnings.catch_warnings():  # the largest are maps that are only read, and nobody writes to them
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images), torch.from_numpy(labels)


def nested(labels: np.ndarray, count: int, option: str = "train_samples") -> np.ndarray:
    """The rows, in their order, of `count` images: a smaller count's are among them, and every class is there in
    proportion. The same for every seed; each `option` draws for itself."""
    digest = hashlib.sha256(option.encode()).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
    shuffled = draw.permutation(len(labels))
    own = labels[shuffled]
    order = np.argsort(own, kind="stable")  # by class, within it as shuffled
    classes, first, sizes = np.unique(own[order], return_index=True, return_counts=True)
    which = np.searchsorted(classes, own[order])
    # The r-th of n images of a class comes after (r + 1/2) / n of all.
    due = (np.arange(len(labels)) - first[which] + 0.5) / sizes[which]
    return np.sort(shuffled[order[np.lexsort((which, due))[:count]]])


def checked_augmentation(augmentation: Mapping[str, int | bool] | None, size: tuple[int, int]) -> dict[str, int | bool]:
    """The complete dict(flip, crop, cutout) for images of `size`. Raises: ValueError naming the option."""
    if augmentation is None:
        return dict(NO_AUGMENTATION)
    if not isinstance(augmentation, Mapping):
        raise ValueError(f"data.augmentation must be a mapping of flip, crop, cutout, got {augmentation!r}")
    unknown = sorted(set(augmentation) - set(NO_AUGMENTATION), key=str)
    if unknown:
        raise ValueError(f"data.augmentation has no option {unknown[0]!r}; it has {', '.join(NO_AUGMENTATION)}")
    complete = {**NO_AUGMENTATION, **augmentation}
    checked("data.augmentation.flip", complete["flip"], TRUTH)
    (height, width), side = size, min(size)
    # Reflection repeats no border pixel, so that it can reach one pixel less than the image is wide.
    for option, largest in (("crop", side - 1), ("cutout", side)):
        words = f"a whole number of pixels from 0 to {largest} for images of {height}x{width}"
        pixels = Rule(whole(0, largest).allowed, words)
        checked(f"data.augmentation.{option}", complete[option], pixels)
    return complete


def with_statistics(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`arrays` with mean and std, float64 (3,), of the training images' channels in [0, 1] units, a chunk at a time."""
    counts = np.zeros((3, 256), dtype=np.int64)
    images = arrays["train_images"]
    for part in in_chunks(len(images), images[:1].nbytes * 8):  # counting makes eight bytes of each
        for channel in range(3):
            counts[channel] += np.bincount(images[part, ..., channel].ravel(), minlength=256)
    # From counts of the 256 levels, so that the figures are exact and the same on every machine.
    levels = np.arange(256) / 255
    pixels = counts.sum(axis=1)
    mean = counts @ levels / pixels
    std = np.sqrt(counts @ levels**2 / pixels - mean**2)
    std[std < 1e-6] = 1.0  # a constant channel: normalising must not divide by nothing
    return {**arrays, "mean": mean, "std": std}
