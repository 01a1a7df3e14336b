"""Your own images: one folder a class, under train/ and test/ or in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from poolbench.checks import Rule, checked, number, whole
from poolbench.data import pictures
from poolbench.data.base import FLIP_AND_CROP, DataError, DataInfo, DataSource
from poolbench.data.cache import Streamed, cache_key, cached_arrays, in_chunks
from poolbench.data.folders import MOST_NAMED, File, Layout, laid_out


class ImageFolder(DataSource):
    """Your own images of any size, `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*` alone.

    Where there is no `test`, `val` (or `valid`, `validation`) is the test set. Where there is `train` alone, or where
    the folders of classes lie under `root` itself, a share of each class is held out as the test set: always the same
    one, whatever the seed, by the names of the files. A plan says what was chosen.

    Each image is turned upright as its camera noted, made RGB, shrunk (antialiased, bilinear) or enlarged until its
    short side is `size`, and cropped to the centre square; once, then kept in the cache: 3 * size * size bytes an image
    in a file that need not fit into memory. Files that do not end like images are passed over. Whether the others can
    be read is looked at before anything is trained, in `plan` too: once, and again when files change.

    Args:
        root: the folder.
        size: height and width of the images, in pixels, at least 2.
        test_share: share of each class that is held out as the test set where there is no folder of one, in (0, 1).
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
        test_share: float = 0.2,
    ) -> None:
        checked("data.size", size, Rule(whole(2).allowed, "a whole number of pixels from 2 up"))
        super().__init__(validation, augmentation, (size, size), train_samples, test_samples)
        self.root = Path(root).expanduser()
        self.test_share = float(checked("data.test_share", test_share, number(0, 1, open=True)))

    def info(self) -> DataInfo:
        train, test = self._files("train"), self._files("test")
        return DataInfo(
            num_classes=len(self.layout.train),
            size=self.size,
            train_samples=self.kept(len(train)),
            test_samples=self.kept_for_test(len(test)),
            classes=tuple(self.layout.train),
            fingerprint=cache_key(sorted((file.path, file.size) for file in train + test)),
        )

    def check(self) -> None:
        _ = self._looks

    def notes(self) -> list[str]:
        narrow, wide, low, high = self._looks["sizes"].tolist()
        seen = f"{wide}x{high}" if (narrow, low) == (wide, high) else f"{narrow}x{low} to {wide}x{high}"
        train, test = (f"{len(self._files(split)):,}" for split in ("train", "test"))
        height, width = self.size
        return [
            f"{self.root}: {train} training and {test} test images of {seen} pixels, resized to {width}x{height}, "
            f"{len(self.layout.train)} classes",
            *self.layout.notes,
        ]

    def cache_key(self) -> str:
        files = sorted(tuple(file) for file in self._files("train") + self._files("test"))
        return cache_key(2, self.size, files, *([self.test_share] if self.layout.drawn else []))

    def build(self) -> dict[str, np.ndarray | Streamed]:
        arrays: dict[str, np.ndarray | Streamed] = {"classes": np.array(list(self.layout.train))}
        broken: dict[str, str] = {}
        for split, classes in (("train", self.layout.train), ("test", self.layout.test)):
            files = self._files(split)
            chunks = partial(self._chunks, [file.path for file in files], broken, split == "test")
            arrays[f"{split}_images"] = Streamed((len(files), *self.size, 3), chunks, f"{self.root}: {split} images")
            counts = [len(classes[name]) for name in self.layout.train]
            arrays[f"{split}_labels"] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return arrays

    def _chunks(self, paths: list[str], broken: dict[str, str], last: bool) -> Iterator[np.ndarray]:
        """The images of ``paths``. ``broken`` gets those that cannot be decoded, which after the ``last`` are named."""
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            for part in in_chunks(len(paths), 3 * self.size[0] * self.size[1]):
                images = np.zeros((part.stop - part.start, *self.size, 3), dtype=np.uint8)
                for row, image in enumerate(pool.map(self._decode, paths[part])):
                    if isinstance(image, str):
                        broken[paths[part.start + row]] = image
                    else:
                        images[row] = image
                yield images
        if last:
            self._refuse(broken)

    @cached_property
    def _looks(self) -> dict[str, np.ndarray]:
        """``sizes`` of the images: least and largest width, least and largest height. Raises: DataError naming those
        that cannot be read."""
        files = sorted(tuple(file) for file in self._files("train") + self._files("test"))
        # An entry of the cache says that these files were looked at and are good.
        return cached_arrays(
            "image_folder_looked_at", cache_key(1, files), lambda: self._looked_at([path for path, *_ in files])
        )

    def _looked_at(self, paths: list[str]) -> dict[str, np.ndarray]:
        with ThreadPoolExecutor() as pool:
            looks = list(pool.map(lambda path: pictures.looked_at(self.root / path), paths))
        self._refuse({path: look for path, look in zip(paths, looks, strict=True) if isinstance(look, str)})
        widths, heights = np.array(looks).T
        return {"sizes": np.array([widths.min(), widths.max(), heights.min(), heights.max()])}

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
    def layout(self) -> Layout:
        """What is under the root. Raises: DataError for what cannot be told."""
        return laid_out(self.root, self.test_share)

    def _files(self, split: str) -> list[File]:
        """The images of `split`, class by class."""
        classes = self.layout.train if split == "train" else self.layout.test
        return [file for name in self.layout.train for file in classes[name]]
