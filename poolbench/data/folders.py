"""Where in a folder of images the classes, the training and the test set are, and what to choose if nothing says so."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from poolbench.data.base import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Of the two folders, in any case; the first that is there is taken.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "eval", "dev")
_BESIDE = ((TRAIN_NAMES, TEST_NAMES), (TEST_NAMES, TRAIN_NAMES))
MOST_NAMED = 20  # broken images, or classes, in one message


class File(NamedTuple):
    """An image: its path below root, its size in bytes and when it was changed, in ns."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Layout:
    """What lies under a root: the files of each class, for training and for the test, and what was chosen, in words."""

    train: dict[str, list[File]]
    test: dict[str, list[File]]
    drawn: bool  # the test set from the images of one folder
    notes: tuple[str, ...]


def laid_out(root: Path, test_share: float) -> Layout:
    """What lies under ``root``; ``test_share`` of each class is held out where there is no test folder.

    Raises: DataError for what cannot be told.
    """
    within = _folders(root)
    _refuse_another_root(root, within)
    train = _named(within, TRAIN_NAMES)[:1]
    # A test set as competitions give it out has no folders: nobody says of what class its images are.
    tests = [name for name in _named(within, TEST_NAMES) if _folders(root / name)]
    if tests and not train:
        raise DataError(
            f"data.root={str(root)!r} must hold train/<class>/<images> beside {tests[0]}, or folders of "
            f"classes alone; it holds the folders {_listed(within)}"
        )
    found, empty = _classes(root, train[0] if train else "")
    notes = [f"no class, as there are no images in it: {_listed(empty)}"] if empty else []
    if tests:
        tested, _ = _classes(root, tests[0])
        _refuse_other_classes(root, train[0], set(found), tests[0], set(tested))
        if tests[0] != "test":
            notes.append(f"{root / tests[0]} is the test set, which is read once, after training")
    else:
        found, tested = _held_out(root / train[0] if train else root, found, test_share, notes)
    unread = [str(root / name) for name in within if name not in (*train, *tests[:1])] if train else []
    if unread:
        notes.append(
            f"not read: {_listed(unread)}; images to choose by are split off from the training set "
            "(data.validation=0.1)"
        )
    return Layout(found, tested, drawn=not tests, notes=tuple(notes))


def _held_out(
    folder: Path, found: dict[str, list[File]], share: float, notes: list[str]
) -> tuple[dict[str, list[File]], dict[str, list[File]]]:
    """The images of each class for training and for the test, which ``notes`` are told of."""
    parts = {name: held_out(files, share) for name, files in found.items()}
    if not any(test for _, test in parts.values()):
        raise DataError(f"{folder} holds one image of each class, and one more of some is needed for the test")
    notes.append(
        f"{folder} holds all images: {share:g} of each class (data.test_share) is held out as the test "
        "set, the same for every seed"
    )
    if alone := [name for name, (_, test) in parts.items() if not test]:
        notes.append(f"no test image, as there is one image alone: {_listed(alone)}")
    return {name: part[0] for name, part in parts.items()}, {name: part[1] for name, part in parts.items()}


def _classes(root: Path, part: str) -> tuple[dict[str, list[File]], list[str]]:
    """The images of each class in a folder below root, by name, and the folders that hold none."""
    folder = root / part
    found = {name: _images(root, folder / name) for name in _folders(folder)}
    empty = [str(folder / name) for name, files in found.items() if not files]
    found = {name: files for name, files in found.items() if files}
    if not found:
        there = f"it holds the folders {_listed(_folders(root))}" if _folders(root) else "it holds none"
        there = there if root.is_dir() else f"there is no folder {root}"
        raise DataError(
            f"there are no images ({' '.join(SUFFIXES)}) at {folder}/<class>/: data.root={str(root)!r} must "
            f"hold train/<class>/<images> and test/<class>/<images>, or <class>/<images>; {there}"
        )
    if not part and len(found) == 1:
        (name,) = found
        deeper = f". Did you mean data.root={root / name}?" if _folders(root / name) else ""
        raise DataError(
            f"data.root={str(root)!r} must hold a folder for each class, and holds one alone, {name}{deeper}"
        )
    return found, empty


def _images(root: Path, folder: Path) -> list[File]:
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
                    files.append(File(path.relative_to(root).as_posix(), size, changed))
    return sorted(files)


def _refuse_another_root(root: Path, within: list[str]) -> None:
    """Raises: DataError where the root is one folder too deep or not deep enough, and another is meant."""
    if _named(within, TRAIN_NAMES):
        return
    here = root.absolute()
    other = next((them for us, them in _BESIDE if here.name.lower() in us), ())
    if _named(_folders(here.parent), other):
        _mean(root, here.parent, "its parent")
    for name in within:
        if any(_folders(here / name / train) for train in _named(_folders(here / name), TRAIN_NAMES)):
            _mean(root, here / name, "the folder in it")


def _mean(root: Path, folder: Path, words: str) -> None:
    meant = folder if root.is_absolute() else os.path.relpath(folder)
    raise DataError(
        f"data.root={str(root)!r} must hold train/<class>/<images> and test/<class>/<images>. Did you mean "
        f"{words}, data.root={meant}?"
    )


def _refuse_other_classes(root: Path, first: str, train: set[str], second: str, test: set[str]) -> None:
    if train != test:
        raise DataError(
            f"{root}/{first} and {root}/{second} must have the same classes; "
            f"only in {first}: {_listed(train - test)}; only in {second}: {_listed(test - train)}"
        )


def held_out(files: list[File], share: float) -> tuple[list[File], list[File]]:
    """The images of one class for training, and a ``share`` of them for the test: one or more of each, of two.

    Drawn by names, so that the draw is the same wherever they lie, and a new image changes what the others are for
    hardly ever.
    """

    def draw(file: File) -> bytes:
        parts = file.path.split("/")
        # Below train/ or not, it is the same image.
        return hashlib.sha256("/".join(parts[parts[0].lower() in TRAIN_NAMES :]).encode()).digest()

    count = min(max(round(share * len(files)), 1), len(files) - 1)
    test = set(sorted(files, key=draw)[:count])
    return [file for file in files if file not in test], [file for file in files if file in test]


def _named(within: list[str], names: tuple[str, ...]) -> list[str]:
    """Those of ``within`` that are called as one of ``names`` in any case, in the order of ``names``."""
    return [name for wanted in names for name in within if name.lower() == wanted]


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
    listed = sorted(names)
    more = f" and {len(listed) - MOST_NAMED:,} more" if len(listed) > MOST_NAMED else ""
    return (", ".join(listed[:MOST_NAMED]) or "none") + more
