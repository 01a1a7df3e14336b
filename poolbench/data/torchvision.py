"""Classification sets of torchvision by their names: its own classes and downloads, converted once."""

from __future__ import annotations

import hashlib
import inspect
import operator
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from poolbench.checks import TRUTH, Rule, checked, or_null, whole
from poolbench.data import pictures
from poolbench.data.base import DataError, DataInfo, DataSource, checked_augmentation, with_statistics
from poolbench.data.cache import Streamed, cache_key, cached_arrays, in_chunks
from poolbench.registry import nearest

# What torchvision calls the two parts of a set, the first that there is.
SPLITS = {"train": ("train", "trainval", "train-standard"), "test": ("test", "val", "valid")}
# Digits, letters and signs are other ones in a mirror, or none; of photographs flip=true is usual.
CROPPED = {"flip": False, "crop": 4, "cutout": 0}
_WANTED = "a classification set of torchvision, of images with a label each and with a test set"
# These it splits too, into what is no image, or has no one label.
_OF_OTHER_KINDS = (
    *("MovingMNIST", "PhotoTour", "Cityscapes", "CelebA", "WIDERFace", "Kinetics", "HMDB51", "UCF101", "Kitti"),
    *("LFWPairs", "VisionDataset"),
)
_GIVEN = ("root", "train", "download", "transform", "target_transform", "transforms")  # are ours to set
_NAME = Rule(lambda value: isinstance(value, str) and value.isidentifier(), "the name of a set of torchvision, as SVHN")
_OPTIONS = Rule(lambda value: value is None or isinstance(value, Mapping), "a mapping of options")
_ANY_SIZE = 1 << 16  # pixels; until it is known how large the images are


class Torchvision(DataSource):
    """A classification set of torchvision by its name, as SVHN, STL10 or Food101: any whose items are (image, label).

    It is built by torchvision's class, which downloads it too, and converted once: the first plan does it, and the
    cache keeps it, on disk however large. Where the class splits by `train=`, its two halves are training and test
    set, else those that it calls `train` (or trainval, train-standard) and `test` (or val, valid). Grey images are
    given to all three channels.

    Args:
        name: torchvision's name of the class. It has no default.
        root: folder that torchvision keeps the set in.
        download: whether torchvision may download it, if it can.
        options: what else its class takes, as `split: letters` of EMNIST.
        size: height and width in pixels that images are resized and cropped to, as `image_folder` does; None leaves
            them as they are, all of one size.
        validation, augmentation, train_samples, test_samples: see `DataSource`. Images are not mirrored by default.
    Raises: ValueError naming the option, also once the set was looked at: for a name that is none of a set with labels
        and a test set, or for images that differ in size. DataError where it cannot be had.
    """

    name = "torchvision"

    def __init__(
        self,
        name: str | None = None,
        root: str = "data",
        download: bool = True,
        options: Mapping[str, Any] | None = None,
        size: int | None = None,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = CROPPED,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        checked("data.size", size, or_null(whole(2)))
        side = size or _ANY_SIZE
        super().__init__(validation, augmentation, (side, side), train_samples, test_samples)
        self.set = checked("data.name", name, _NAME)
        self.root = Path(root).expanduser()
        self.download = checked("data.download", download, TRUTH)
        self.options = dict(checked("data.options", options, _OPTIONS) or {})
        if own := [option for option in self.options if option in _GIVEN]:
            raise ValueError(f"data.options must leave {', '.join(_GIVEN)} to poolbench, got {own[0]!r}")
        self.resized = size

    def info(self) -> DataInfo:
        arrays = self.arrays()
        classes = tuple(str(name) for name in arrays["classes"])
        return DataInfo(
            num_classes=len(classes),
            size=self.size,
            train_samples=self.kept(len(arrays["train_labels"])),
            test_samples=self.kept_for_test(len(arrays["test_labels"])),
            classes=classes,
            fingerprint=str(arrays["fingerprint"]),
        )

    def check(self) -> None:
        """Look at the set, which the first time is to download and to convert it: torchvision tells no sooner what it
        holds."""
        self.info()

    def notes(self) -> list[str]:
        arrays = self.arrays()
        train, test = (f"{len(arrays[f'{split}_labels']):,}" for split in SPLITS)
        classes, (height, width) = len(arrays["classes"]), self.size
        called = [str(name) for name in arrays["splits"]]
        of = "" if called == list(SPLITS) else f"; they are what torchvision calls {called[0]} and {called[1]}"
        return [f"{self.set}: {train} training and {test} test images of {height}x{width}, {classes} classes{of}"]

    def cache_key(self) -> str:
        return cache_key(1, self.set, str(self.root.absolute()), sorted(self.options.items()), self.resized)

    def arrays(self) -> dict[str, np.ndarray]:
        labels: dict[str, list[int]] = {}
        finish = partial(self._finished, labels=labels)
        arrays = cached_arrays(self.name, self.cache_key(), partial(self._built, labels), finish)
        self.size = (arrays["train_images"].shape[1], arrays["train_images"].shape[2])
        self.augmentation = checked_augmentation(self.augmentation, self.size)
        return arrays

    def _built(self, labels: dict[str, list[int]]) -> dict[str, np.ndarray | Streamed]:
        """The images of both parts, to be converted chunk by chunk; ``labels`` gets theirs meanwhile."""
        parts: dict[str, np.ndarray | Streamed] = {}
        called, names = [], []
        for split in SPLITS:
            found, own = self._opened(split)
            shape = (len(found), *self._item(found, 0)[0].shape)
            if parts and shape[1:] != parts["train_images"].shape[1:]:
                raise self._differing(shape[1:], parts["train_images"].shape[1:])
            chunks = partial(self._chunks, found, shape, labels, split)
            parts[f"{split}_images"] = Streamed(shape, chunks, f"{self.set}: {split} images")
            called.append(own)
            names.append(getattr(found, "classes", None))
        listed = names[0] if isinstance(names[0], list | tuple) else ()
        return parts | {"splits": np.array(called), "names": np.array([str(name) for name in listed], dtype=np.str_)}

    def _finished(self, arrays: dict[str, np.ndarray], labels: dict[str, list[int]]) -> dict[str, np.ndarray]:
        """``arrays`` with labels, classes, statistics and a fingerprint of all that."""
        least, most = (pick(pick(part) for part in labels.values()) for pick in (min, max))
        if least < 0:
            raise ValueError(f"data.name must be {_WANTED}, got {self.set!r}, which has a label of {least}")
        # Some name fewer things than they have labels.
        names = arrays["names"] if len(arrays["names"]) > most else np.array([str(one) for one in range(most + 1)])
        arrays = {**arrays, "classes": names}
        digest = hashlib.sha256(repr(names.tolist()).encode())
        for split in SPLITS:
            arrays[f"{split}_labels"] = np.array(labels[split], dtype=np.int64)
            digest.update(arrays[f"{split}_labels"].tobytes())
            images = arrays[f"{split}_images"]
            for part in in_chunks(len(images), images[:1].nbytes):
                digest.update(np.ascontiguousarray(images[part]).data)
        return with_statistics({**arrays, "fingerprint": np.array(digest.hexdigest()[:16])})

    def _chunks(
        self, found: Any, shape: tuple[int, ...], labels: dict[str, list[int]], split: str
    ) -> Iterator[np.ndarray]:
        labels[split] = []
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            for part in in_chunks(shape[0], prod(shape[1:])):
                items = list(pool.map(partial(self._item, found), range(part.start, part.stop)))
                if wrong := [image.shape for image, _ in items if image.shape != shape[1:]]:
                    raise self._differing(wrong[0], shape[1:])
                labels[split] += [label for _, label in items]
                yield np.stack([image for image, _ in items])

    def _item(self, found: Any, index: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, 3) and the label of an item. Raises: ValueError if it is no image with a label."""
        from PIL import Image

        try:
            item = found[index]
        except Exception as error:  # a broken file may raise nearly anything
            raise DataError(f"torchvision's {self.set}: item {index} cannot be read: {_said(error)}") from error
        try:
            image, label = item
            label = operator.index(label)
        except (TypeError, ValueError):
            image = label = None
        if not isinstance(image, Image.Image):
            kinds = [type(one).__name__ for one in item] if isinstance(item, tuple | list) else [type(item).__name__]
            raise ValueError(f"data.name must be {_WANTED}, got {self.set!r}, whose items are ({', '.join(kinds)})")
        try:
            if self.resized:
                return pictures.fitted(image, (self.resized, self.resized)), label
            return np.asarray(pictures.upright(image).convert("RGB")), label
        except Exception as error:
            raise DataError(f"torchvision's {self.set}: item {index} cannot be read: {_said(error)}") from error

    def _opened(self, split: str) -> tuple[Any, str]:
        """Torchvision's set of the part `split`, and what torchvision calls that part."""
        found = self._class()
        takes = parameters(found)
        key = "train" if "train" in takes else "split"
        if key not in takes:
            raise ValueError(
                f"data.name must be {_WANTED}, got {self.set!r}, which torchvision does not split: lay its images out "
                "for data=image_folder, which holds a part out for the test"
            )
        options = {**self.options, **({"download": self.download} if "download" in takes else {})}
        self._check_options(takes, key)
        for own in SPLITS[split]:
            choice = {"train": split == "train"} if key == "train" else {"split": own}
            try:
                with redirect_stdout(sys.stderr):  # `plan --json` has its own to say there
                    return found(str(self.root), **choice, **options), split if key == "train" else own
            except Exception as error:
                if isinstance(error, ValueError) and "for argument split" in str(error) and key == "split":
                    continue
                if isinstance(error, TypeError | ValueError):
                    raise ValueError(
                        f"data.options={self.options}: torchvision's {self.set}: {_said(error)}"
                    ) from error
                more = "" if self.download else " (data.download is false)"
                raise DataError(
                    f"torchvision's {self.set} cannot be had at data.root={str(self.root)!r}{more}: {_said(error)}"
                ) from error
        raise ValueError(f"data.name must be {_WANTED}, got {self.set!r}, which has none of {', '.join(SPLITS[split])}")

    def _check_options(self, takes: Mapping[str, inspect.Parameter], key: str) -> None:
        known = [name for name in takes if name not in (*_GIVEN, key)]
        for option in self.options:
            if option not in known:
                allowed = f"Its options: {', '.join(known)}" if known else "It has no options"
                raise ValueError(
                    f"data.options: torchvision's {self.set} has no option {option!r} to choose."
                    f"{nearest(str(option), known)} {allowed}"
                )
        needed = [name for name in known if takes[name].default is inspect.Parameter.empty and name not in self.options]
        if needed:
            raise ValueError(f"data.options must give {', '.join(needed)} for {self.set!r}, got {self.options}")

    def _class(self) -> type:
        from torchvision import datasets

        known = [name for name in datasets.__all__ if name not in _OF_OTHER_KINDS and _splits(getattr(datasets, name))]
        found = getattr(datasets, self.set, None)
        if self.set not in datasets.__all__ or not isinstance(found, type):
            raise ValueError(
                f"data.name must be {_WANTED}, got {self.set!r}.{nearest(self.set, known)} Known: {', '.join(known)}"
            )
        return found

    def _differing(self, one: tuple[int, ...], other: tuple[int, ...]) -> ValueError:
        sizes = " and ".join(f"{height}x{width}" for height, width, _ in (other, one))
        return ValueError(
            f"data.size must be a whole number of pixels for {self.set!r}, whose images differ in size ({sizes}), "
            f"got null"
        )


def parameters(found: type) -> dict[str, inspect.Parameter]:
    """What the constructor of a class takes by name, and those that it hands the rest to."""
    taken: dict[str, inspect.Parameter] = {}
    for owner in found.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        own = inspect.signature(vars(owner)["__init__"]).parameters
        named = {name: one for name, one in own.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        taken = {**named, **taken}
        if not any(one.kind is one.VAR_KEYWORD for one in own.values()):
            break
    return {name: one for name, one in taken.items() if name != "self"}


def _splits(found: Any) -> bool:
    """Whether it is a class of sets with a training and perhaps a test part; those for stereo and flow are not ours."""
    if not isinstance(found, type) or found.__module__.startswith("torchvision.datasets._"):
        return False
    return not {"train", "split"}.isdisjoint(parameters(found))


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
