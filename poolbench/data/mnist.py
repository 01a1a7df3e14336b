"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28x28 grey pixels."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from poolbench.data.base import DataError
from poolbench.data.cache import temporary_folder
from poolbench.data.published import Published

# Folders of the four .gz files. PyTorch's copy, that of the Common Visual Data Foundation, and fgnt's on GitHub; the
# original host, yann.lecun.com, answers no more.
MNIST_MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://raw.githubusercontent.com/fgnt/mnist/master",
]
# Keras's copy, and the authors' own two.
FASHION_MNIST_MIRRORS = [
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
]
# A mirrored digit is none, or another: 2 and 5.
SHIFTED = {"flip": False, "crop": 2, "cutout": 0}
SHIFTED_AND_FLIPPED = {"flip": True, "crop": 2, "cutout": 0}
_HEADS = {"images": 16, "labels": 8}  # bytes before the first value


class MNIST(Published):
    """MNIST: handwritten digits, white on black, 28x28 grey pixels given to all three channels.

    The files are torchvision's, `MNIST/raw/train-images-idx3-ubyte` and the like, as they are or packed (`.gz`). They
    are checked against their checksums once and then kept in the cache.

    Args:
        root: folder that holds, or shall hold, the folder `MNIST/raw`. Written to only to download.
        download: whether absent files may be downloaded. What is there is never replaced.
        mirrors: URLs of folders of `train-images-idx3-ubyte.gz` and its kin, tried in turn, each file verified.
        validation, augmentation, train_samples, test_samples: see `DataSource`. Digits are not mirrored.
    Raises: ValueError naming the option.
    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.
    """

    name = "mnist"
    title = "MNIST"
    folder = "MNIST/raw"
    files: ClassVar[dict[str, int]] = {
        "train-images-idx3-ubyte": 47_040_016,
        "train-labels-idx1-ubyte": 60_008,
        "t10k-images-idx3-ubyte": 7_840_016,
        "t10k-labels-idx1-ubyte": 10_008,
    }
    # MD5 of the files unpacked: packers differ, and what they pack does not.
    checksums: ClassVar[tuple[str, ...]] = (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    )
    train_samples, test_samples = 60_000, 10_000
    classes = tuple("0123456789")
    fingerprint = "6bbc9ace"
    side = 28

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        mirrors: Sequence[str] = MNIST_MIRRORS,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = SHIFTED,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        super().__init__(root, download, mirrors, validation, augmentation, train_samples, test_samples)

    def build(self) -> dict[str, np.ndarray]:
        arrays = {"classes": np.array(self.classes)}
        for name in self.files:
            split, kind = ("test" if name.startswith("t10k") else "train"), name.split("-")[1]
            values = np.frombuffer(self._content(name), np.uint8, offset=_HEADS[kind])
            if kind == "labels":
                arrays[f"{split}_labels"] = values.astype(np.int64)
            else:
                arrays[f"{split}_images"] = np.repeat(values.reshape(-1, *self.size, 1), 3, axis=3)
        return arrays

    def absent(self) -> list[str]:
        return [name for name in self.files if self.found(name) is None]

    def found(self, name: str) -> Path | None:
        return super().found(name) or super().found(f"{name}.gz")

    def get(self, absent: list[str]) -> None:
        """Fetch, verify and unpack each beside its final place, then rename: half a download is never seen."""
        try:
            for name in absent:
                with temporary_folder(self.path, name) as folder:
                    self._download(name, folder / f"{name}.gz")
                    with open(folder / name, "wb") as file:
                        file.write(_unpacked(folder / f"{name}.gz", self.files[name]))
                    os.replace(folder / name, self.path / name)
        except OSError as error:
            raise DataError(
                f"{self.title} cannot be written to data.root={str(self.root)!r} ({error}); "
                "choose a folder that can be written, with 100 MB free, by data.root=FOLDER"
            ) from error

    def mirror_words(self) -> str:
        return f"URL of the folder of {next(iter(self.files))}.gz"

    def _download(self, name: str, packed: Path) -> None:
        urls = [f"{mirror.rstrip('/')}/{name}.gz" for mirror in self.mirrors]
        what = f"{name} or {name}.gz into the folder {self.folder}"
        most = self.files[name] + 1000  # bytes: at worst packing adds a head
        self.first_good(urls, packed, most, lambda: self._is_good(name, packed), what)

    def _content(self, name: str) -> bytes:
        """What the file of `name` holds, unpacked. Raises: DataError if that is not what was published."""
        file = self.found(name)
        if file is None or not self._is_good(name, file):
            raise DataError(
                f"damaged (wrong checksum): {file or self.path / name}. Nothing was changed. Restore it, or move it "
                "away to have it downloaded again"
            )
        return _unpacked(file, self.files[name])

    def _is_good(self, name: str, file: Path) -> bool:
        wanted = dict(zip(self.files, self.checksums, strict=True))[name]
        try:
            content = _unpacked(file, self.files[name])
        except (OSError, EOFError, zlib.error):  # no gzip file, or half of one
            return False
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == wanted


class FashionMNIST(MNIST):
    """Fashion-MNIST: clothes, shoes and bags, 28x28 grey pixels given to all three channels.

    Laid out as MNIST. Images are mirrored by default: a shirt from the other side is that shirt, no class is another's
    mirror image, and so it is trained with usually (Zhong et al., Random erasing, 2020).

    Args:
        root: folder that holds, or shall hold, the folder `FashionMNIST/raw`. Written to only to download.
        download: whether absent files may be downloaded. What is there is never replaced.
        mirrors: URLs of folders of `train-images-idx3-ubyte.gz` and its kin, tried in turn, each file verified.
        validation, augmentation, train_samples, test_samples: see `DataSource`.
    Raises: ValueError naming the option.
    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset, 2017, arXiv 1708.07747.
    """

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    checksums = (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    )
    classes = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    fingerprint = "f4a8712d"

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        mirrors: Sequence[str] = FASHION_MNIST_MIRRORS,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = SHIFTED_AND_FLIPPED,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        super().__init__(root, download, mirrors, validation, augmentation, train_samples, test_samples)


def _unpacked(file: Path, size: int) -> bytes:
    """What `file` holds, unpacked if need be, and no more than a byte above `size` of it."""
    with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as content:
        return content.read(size + 1)
