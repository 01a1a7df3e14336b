"""Data sets that others publish, with checksums: found under a root, or fetched from the first mirror that is good."""

from __future__ import annotations

import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from poolbench.checks import TRUTH, Rule, checked
from poolbench.data.base import DataError, DataInfo, DataSource
from poolbench.data.cache import cache_key

LEAST_RATE = 100e3  # bytes per second


def _are_urls(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(url, str) for url in value)


_URLS = Rule(_are_urls, "a list of URLs")


class Published(DataSource):
    """A set of fixed content. One of its kind sets the attributes below and defines `build` and `get`.

    Args:
        root: folder that holds, or shall hold, `folder`. Written to only to download.
        download: whether absent data may be downloaded. Data that is there is never replaced.
        mirrors: where it may be had, tried in turn, each download verified.
        validation, augmentation, size, train_samples, test_samples: see `DataSource`.
    Raises: ValueError naming the option.
    """

    title: ClassVar[str]  # what people call it
    folder: ClassVar[str]  # below root
    files: ClassVar[dict[str, int]]  # each with the least bytes it must have; checksums tell the rest when it is read
    train_samples: ClassVar[int]
    test_samples: ClassVar[int]
    classes: ClassVar[tuple[str, ...]]
    fingerprint: ClassVar[str]  # of a checksum: the content never changes
    side: ClassVar[int]  # of the images, in pixels
    stall = 20.0  # seconds of silence, or of less than LEAST_RATE, after which a mirror is given up

    def __init__(
        self,
        root: str,
        download: bool,
        mirrors: Sequence[str],
        validation: float,
        augmentation: Mapping[str, int | bool] | None,
        train_samples: int | None,
        test_samples: int | None,
    ) -> None:
        super().__init__(validation, augmentation, (self.side, self.side), train_samples, test_samples)
        checked("data.download", download, TRUTH)
        checked("data.mirrors", mirrors, _URLS)
        self.root = Path(root).expanduser()
        self.download = download
        self.mirrors = list(mirrors)

    @property
    def path(self) -> Path:
        """The folder of the set."""
        return self.root / self.folder

    def info(self) -> DataInfo:
        self.check()
        return DataInfo(
            num_classes=len(self.classes),
            size=self.size,
            train_samples=self.kept(self.train_samples),
            test_samples=self.kept_for_test(self.test_samples),
            classes=self.classes,
            fingerprint=self.fingerprint,
        )

    def check(self) -> None:
        absent = self.absent()
        if absent and not self.download:
            raise DataError(
                f"{self.title} is not at {self.path} and data.download is false{self._of(absent)}. Put the extracted "
                f"folder {self.folder} under data.root (now {str(self.root)!r}), or set data.download=true"
            )
        for name in [name for name in self.files if name not in absent]:
            if (file := self.found(name)) is None:
                raise DataError(f"{self.title} at {self.path} is incomplete: {name} is missing. {self.repair()}")
            # Of a packed file nothing can be said before it is read.
            if file.name == name and file.stat().st_size < self.files[name]:
                raise DataError(f"{file} is cut short ({file.stat().st_size} bytes). {self.repair()}")

    def cache_key(self) -> str:
        stats = [(file.name, file.stat()) for file in map(self.found, sorted(self.files)) if file]
        return cache_key(1, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

    def fetch(self) -> None:
        absent = self.absent()
        if self.download and absent:
            self.get(absent)
        self.check()

    def get(self, absent: list[str]) -> None:
        """Download the files `absent`. Raises: DataError."""
        raise NotImplementedError

    def absent(self) -> list[str]:
        """The names of the files that may be downloaded: all where the folder is empty, or not there, else none."""
        return [] if self.path.is_dir() and any(self.path.iterdir()) else list(self.files)

    def found(self, name: str) -> Path | None:
        """The file that holds `name`, if there is one."""
        file = self.path / name
        return file if file.is_file() else None

    def repair(self) -> str:
        """What to do about a file that is damaged."""
        return f"Nothing was changed. Restore it, or move {self.path} away to have it downloaded again"

    def _of(self, absent: list[str]) -> str:
        return "" if len(absent) == len(self.files) else f" ({', '.join(absent)})"

    def first_good(self, urls: Sequence[str], file: Path, most: int, is_good: Callable[[], bool], what: str) -> None:
        """Write to `file` what the first of `urls` sends that `is_good`.

        Args:
            most: bytes that the true file has; what sends more is left.
            what: the file, as it is put by hand: ``the extracted folder x``.
        Raises: DataError with the reason of each, and with the ways out.
        """
        failures = []
        for url in urls:
            try:
                # The last in the list is borne with however slow it is: there is no other to turn to.
                _send(url, file, most, self.stall, 0.0 if url == urls[-1] else LEAST_RATE)
                if is_good():
                    return
                failures.append(f"  {url}: sent something else than the archive (wrong checksum)")
            except Exception as error:  # whatever went wrong with this one, the next may do
                failures.append(f"  {url}: {error or type(error).__name__}")
            file.unlink(missing_ok=True)
        tried = "\n".join(failures) or "  (data.mirrors is empty)"
        raise DataError(
            f"{self.title} is not at {self.path} and could not be downloaded. Tried:\n{tried}\n"
            f"Ways out: put {what} under data.root (now {str(self.root)!r}); name a copy "
            f"that you can reach, data.mirrors=[{self.mirror_words()}]; "
            "or use data=shapes, which is made offline"
        )

    def mirror_words(self) -> str:
        """What `mirrors` holds: ``URL of x.tar.gz``."""
        raise NotImplementedError


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


def _send(url: str, file: Path, most: int, stall: float, least_rate: float) -> None:
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
