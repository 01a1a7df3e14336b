"""Your own images: one folder a class, under train/ and test/."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from poolbench.checks import Rule, checked, whole
from poolbench.data import pictures
from poolbench.data.base import FLIP_AND_CROP, DataError, DataInfo, DataSource
from poolbench.data.cache import cache_key, cached_arrays

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
OTHER_NAMES = (
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
    "testing",
    "test",
)  # of the test set with others, in any case
MOST_NAMED = 20  # broken images in one message

File = tuple[str, int, int]  # path below root, bytes, mtime in ns


class ImageFolder(DataSource):
    """Your own images, `root/train/<class>/*` and `root/test/<class>/*`, of any size.

    Each is turned upright as its camera noted, made RGB, shrunk (antialiased, bilinear) or enlarged until its short
    side is `size`, and cropped to the centre square; once, then kept in the cache. All of them must fit in memory:
    3 * size * size bytes an image. Files that do not end like images are passed over. Whether the others can be read
    is looked at before anything is trained, in `plan` too: once, and again when files change.

    Args:
        root: folder that holds `train` and `test`.
        size: height and width of the images, in pixels, at least 2.
        validation, augmentation, train_samples, test_samples: see `DataSource`.
    Raises: ValueError naming the option; DataError if a folder is not laid out like that, or naming the images that
        cannot be read.
    """

    name = "image_folder"

    def __init__(
        self,
        root: str = "data",
        size: int = 32,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = FLIP_AND_CROP,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        checked("data.size", size, Rule(whole(2).allowed, "a whole number of pixels from 2 up"))
        super().__init__(validation, augmentation, (size, size), train_samples, test_samples)
        self.root = Path(root).expanduser()

    def info(self) -> DataInfo:
        train, test, classes = self._splits
        return DataInfo(
            num_classes=len(classes),
            size=self.size,
            train_samples=self.kept(len(train)),
            test_samples=self.kept_for_test(len(test)),
            classes=classes,
            fingerprint=cache_key(sorted((path, size) for path, size, _ in train + test)),
        )

    def check(self) -> None:
        train, test, _ = self._splits
        files = sorted(train + test)
        # An entry of the cache says that these files were looked at and are good.
        cached_arrays(
            "image_folder_readable", cache_key(1, files), lambda: self._looked_at([path for path, *_ in files])
        )

    def cache_key(self) -> str:
        train, test, _ = self._splits
        return cache_key(2, self.size, sorted(train + test))

    def build(self) -> dict[str, np.ndarray]:
        train, test, classes = self._splits
        arrays = {"classes": np.array(classes)}
        broken: dict[str, str] = {}
        for split, files in (("train", train), ("test", test)):
            paths = [path for path, _, _ in files]
            images = np.empty((len(paths), *self.size, 3), dtype=np.uint8)
            with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
                for row, image in enumerate(pool.map(self._decode, paths)):
                    if isinstance(image, str):
                        broken[paths[row]] = image
                    else:
                        images[row] = image
            labels = [classes.index(path.split("/")[1]) for path in paths]
            arrays |= {f"{split}_images": images, f"{split}_labels": np.array(labels, dtype=np.int64)}
        self._refuse(broken)
        return arrays

    def _looked_at(self, paths: list[str]) -> dict[str, np.ndarray]:
        with ThreadPoolExecutor() as pool:
            faults = pool.map(lambda path: pictures.fault(self.root / path), paths)
            self._refuse({path: fault for path, fault in zip(paths, faults, strict=True) if fault})
        return {"images": np.array(len(paths))}

    def _decode(self, path: str) -> np.ndarray | str:
        """uint8 (size, size, 3), or why there is none."""
        try:
            with pictures.opened(self.root / path) as image:
                return pictures.fitted(image, self.size)
        except Exception as error:  # a broken file may raise nearly anything
            return pictures.reason(error)

    def _refuse(self, broken: dict[str, str]) -> None:
        """Raises: DataError naming the files of `broken`, path to reason, if there are any."""
        if not broken:
            return
        named = [f"{self.root / path} cannot be read as an image: {why}" for path, why in broken.items()]
        if len(named) == 1:
            raise DataError(named[0])
        more = [f"and {len(named) - MOST_NAMED:,} more"] if len(named) > MOST_NAMED else []
        raise DataError("\n  ".join([f"{len(named):,} images cannot be read:", *named[:MOST_NAMED], *more]))

    @cached_property
    def _splits(self) -> tuple[list[File], list[File], tuple[str, ...]]:
        """Files of train and of test, sorted, and the classes."""
        splits = {split: self._classes(split) for split in ("train", "test")}
        train, test = (set(found) for found in splits.values())
        if train != test:
            raise DataError(
                f"{self.root}/train and {self.root}/test must have the same classes; "
                f"only in train: {_listed(train - test)}; only in test: {_listed(test - train)}"
            )
        files = [[file for name in sorted(found) for file in found[name]] for found in splits.values()]
        return files[0], files[1], tuple(sorted(train))

    def _classes(self, split: str) -> dict[str, list[File]]:
        folder = self.root / split
        names = _folders(folder)
        if not names:
            raise DataError(
                f"there are no images at {folder}/<class>/: data.root={str(self.root)!r} must hold "
                "train/<class>/<images> and test/<class>/<images>, the same classes in both" + self._hint(split)
            )
        found = {name: self._files(folder / name) for name in names}
        if empty := {str(folder / name) for name, files in found.items() if not files}:
            raise DataError(
                f"{_listed(empty)} {'hold' if len(empty) > 1 else 'holds'} no images ({' '.join(SUFFIXES)})"
            )
        return found

    def _files(self, folder: Path) -> list[File]:
        """The images in ``folder`` and below, links followed, each once: a link may lead to what is there already."""
        files: list[File] = []
        seen: set[tuple[int, int]] = set()
        _unseen(folder, seen)
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders.sort()  # of two names for one file always the same is taken
            folders[:] = [name for name in folders if _unseen(os.path.join(parent, name), seen)]
            for name in sorted(names):
                if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                    path = Path(parent, name)
                    size, changed = -1, -1
                    with suppress(OSError):  # a link that leads nowhere, say, which reading it will tell
                        stat = path.stat()
                        size, changed = stat.st_size, stat.st_mtime_ns
                    if _unseen(path, seen):
                        files.append((path.relative_to(self.root).as_posix(), size, changed))
        return sorted(files)

    def _hint(self, split: str) -> str:
        """What may be meant where the folder `split` is not there."""
        if not self.root.is_dir():
            return f"; there is no folder {self.root}"
        within = _folders(self.root)
        near = [self.root.absolute().parent, *(self.root.absolute() / name for name in within)]
        if split == "train" and (whole := [folder for folder in near if _folders(folder / "train")]):
            meant = whole[0] if self.root.is_absolute() else os.path.relpath(whole[0])
            return f". Did you mean {'its parent' if whole[0] == near[0] else 'the folder in it'}, data.root={meant}?"
        others = [name for name in within if name.lower() in OTHER_NAMES and name != "test"]
        if split == "test" and others:
            return (
                f". {self.root / others[0]} is not read: rename it to test, or link test to it, if it is to be the test"
                " set, which is read once, after training. Images to choose by are split off from train "
                "(data.validation=0.1)"
            )
        return f"; it holds the folders {_listed(within[:10])}" if within else "; it holds no folders"


def _unseen(path: str | Path, seen: set[tuple[int, int]]) -> bool:
    """Whether what is at ``path`` is not among ``seen``; adds it."""
    try:
        found = os.stat(path)
    except OSError:
        return True
    known = (found.st_dev, found.st_ino) in seen
    seen.add((found.st_dev, found.st_ino))
    return not known


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
