"""Your own images: one folder a class, under train/ and test/."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from poolbench.data.base import FLIP_AND_CROP, DataError, DataInfo, DataSource
from poolbench.data.cache import cache_key

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder(DataSource):
    """Your own images, `root/train/<class>/*` and `root/test/<class>/*`, of any size.

    Each is turned upright as its camera noted, made RGB, shrunk (antialiased, bilinear) or enlarged until its short
    side is `size`, and cropped to the centre square; once, then kept in the cache. All of them must fit in memory:
    3 * size * size bytes an image. Files that do not end like images are passed over.

    Args:
        root: folder that holds `train` and `test`.
        size: height and width of the images, in pixels, at least 2.
        validation, augmentation: see `DataSource`.
    Raises: ValueError naming the option; DataError if a folder is not laid out like that or an image is unreadable.
    """

    name = "image_folder"

    def __init__(
        self,
        root: str = "data",
        size: int = 32,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = FLIP_AND_CROP,
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise ValueError(f"data.size must be a whole number of pixels from 2 up, got {size!r}")
        super().__init__(validation, augmentation, size=(size, size))
        self.root = Path(root).expanduser()

    def info(self) -> DataInfo:
        train, test, classes = self._splits
        return DataInfo(
            num_classes=len(classes),
            size=self.size,
            train_samples=len(train),
            test_samples=len(test),
            classes=classes,
            fingerprint=cache_key(sorted((path, size) for path, size, _ in train + test)),
        )

    def check(self) -> None:
        self._splits  # noqa: B018 - listing the files finds what is wrong with them

    def cache_key(self) -> str:
        train, test, _ = self._splits
        return cache_key(1, self.size, sorted(train + test))

    def build(self) -> dict[str, np.ndarray]:
        train, test, classes = self._splits
        arrays = {"classes": np.array(classes)}
        for split, files in (("train", train), ("test", test)):
            paths = [path for path, _, _ in files]
            images = np.empty((len(paths), *self.size, 3), dtype=np.uint8)
            with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
                for row, image in enumerate(pool.map(self._decode, paths)):
                    images[row] = image
            labels = [classes.index(path.split("/")[1]) for path in paths]
            arrays |= {f"{split}_images": images, f"{split}_labels": np.array(labels, dtype=np.int64)}
        return arrays

    @cached_property
    def _splits(self) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]], tuple[str, ...]]:
        """Files of train and of test as (path below root, bytes, mtime in ns), sorted, and the classes."""
        splits = {split: self._classes(split) for split in ("train", "test")}
        train, test = (set(found) for found in splits.values())
        if train != test:
            raise DataError(
                f"{self.root}/train and {self.root}/test must have the same classes; "
                f"only in train: {_listed(train - test)}; only in test: {_listed(test - train)}"
            )
        files = [[file for name in sorted(found) for file in found[name]] for found in splits.values()]
        return files[0], files[1], tuple(sorted(train))

    def _classes(self, split: str) -> dict[str, list[tuple[str, int, int]]]:
        folder = self.root / split
        names = sorted(p.name for p in folder.iterdir() if _is_class(p)) if folder.is_dir() else []
        if not names:
            raise DataError(
                f"there are no images at {folder}/<class>/: data.root={str(self.root)!r} must hold "
                "train/<class>/<images> and test/<class>/<images>, the same classes in both"
            )
        found = {name: self._files(folder / name) for name in names}
        for name, files in found.items():
            if not files:
                raise DataError(f"{folder / name} holds no images ({' '.join(SUFFIXES)})")
        return found

    def _files(self, folder: Path) -> list[tuple[str, int, int]]:
        files = []
        for parent, _, names in os.walk(folder, followlinks=True):
            for name in names:
                if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                    path = Path(parent, name)
                    try:
                        stat = path.stat()
                    except OSError as error:  # a link that leads nowhere, say
                        raise DataError(f"{path} cannot be read: {error}") from error
                    files.append((path.relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime_ns))
        return sorted(files)

    def _decode(self, path: str) -> np.ndarray:
        """uint8 (size, size, 3). Raises: DataError naming the file."""
        from PIL import Image, ImageOps

        try:
            with Image.open(self.root / path) as image:
                # Pillow turns deeper pixels into 8 bits by cutting off everything above 255.
                if image.mode.startswith("I;16"):
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                elif image.mode in ("I", "F"):
                    raise ValueError("its pixels are 32 bits deep; save it with 8 or 16")
                upright = ImageOps.exif_transpose(image).convert("RGB")
                return np.asarray(ImageOps.fit(upright, self.size, Image.Resampling.BILINEAR))
        except Exception as error:  # a broken file may raise nearly anything
            raise DataError(f"{self.root / path} cannot be read as an image: {error}") from error


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
