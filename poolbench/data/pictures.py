"""From an image of any kind to pixels: one way for the data set, the trained model and the gallery."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poolbench import foreign

if TYPE_CHECKING:
    from PIL.Image import Image

# Those that docs name, and no other that Pillow knows: it hands PostScript to a program that runs it.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 100_000_000
_LARGE_PIXELS = 10_000_000
_LARGE = threading.Lock()  # decoded, each takes up to a gigabyte

_END_OF_JPEG = b"\xff\xd9"
_TAIL = 4096  # bytes; a JPEG with nothing appended has its end in them
_DEEP = "its pixels are 32 bits deep; save it with 8 or 16"


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The image in a file, of one of :data:`FORMATS`. Large ones are opened one at a time.

    Raises: OSError; ValueError for more than 100 megapixels; whatever else Pillow
        raises for a broken file.
    """
    from PIL import Image

    # Of a file's name Pillow (13.0) maps grey TIFFs into memory, and garbles those that it turns by a quarter.
    with foreign.opened(path) as file, Image.open(file, formats=FORMATS) as image:
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise ValueError(f"it has {pixels / 1e6:,.0f} megapixels, and {MOST_PIXELS / 1e6:.0f} are the most")
        with _LARGE if pixels > _LARGE_PIXELS else nullcontext():
            yield image


def upright(image: Image) -> Image:
    """`image` turned as its camera noted, its pixels 8 bits deep. Raises: ValueError for more than 16 bits."""
    from PIL import Image, ImageOps

    if image.mode in ("I", "F"):
        raise ValueError(_DEEP)
    turned = ImageOps.exif_transpose(image)  # before the conversion, which forgets what the camera noted
    if turned.mode.startswith("I;16"):  # Pillow itself would cut off everything above 255
        return Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return turned


def fitted(image: Image, size: tuple[int, int]) -> np.ndarray:
    """`image` upright and in RGB, uint8 `(*size, 3)`: resized (antialiased, bilinear) until it just covers `size`,
    (height, width), and cropped to the centre.

    Raises: ValueError for pixels of more than 16 bits; whatever Pillow raises for a broken file.
    """
    from PIL import Image, ImageOps

    height, width = size
    return np.asarray(ImageOps.fit(upright(image).convert("RGB"), (width, height), Image.Resampling.BILINEAR))


def looked_at(path: Path) -> tuple[int, int] | str:
    """Width and height of the image in a file, or why it cannot be read, as far as a quick look shows.

    Of a JPEG the header and the end are looked at, of a PNG the checksums; others are decoded, as nothing less tells.
    """
    try:
        with opened(path) as image:
            if image.mode in ("I", "F"):
                return _DEEP
            size = image.size
            if image.format == "PNG":
                image.verify()
            elif image.format not in ("JPEG", "MPO") or not _ends(path):
                image.load()
            return size
    except Exception as error:  # a broken file may raise nearly anything
        return reason(error)


def reason(error: Exception) -> str:
    """What an error says of an image that the caller names."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # which names an object of Python
        return f"it is empty or none of {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _ends(path: Path) -> bool:
    """Whether the end of a JPEG is in sight. Cameras append things to it, so without it nothing is proven."""
    with foreign.opened(path) as file:
        file.seek(-min(file.seek(0, os.SEEK_END), _TAIL), os.SEEK_END)
        return _END_OF_JPEG in file.read()
