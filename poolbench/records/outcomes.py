"""Which test images a net got right, image by image: packed for a record, and compared between two."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.checks import is_whole

FILE = "outcomes.json"
CHANCES = "log_probabilities.npy"  # (N,) float16, of each image's class; beside it in the folder, and in no archive
_MOST_IMAGES, _MOST_CLASSES = 8_000_000, 1000


@dataclass(frozen=True)
class Comparison:
    """Two nets on the same images.

    Args:
        images: how many; both, only_a, only_b, neither: how many of them both, one alone or neither got right.
        points: accuracy of b minus that of a, in points; spread: its standard deviation over other draws of as many
            images, in points.
        by_class: the difference within each class, in points; None where the records do not tell.
    """

    images: int
    both: int
    only_a: int
    only_b: int
    neither: int
    points: float
    spread: float
    by_class: tuple[float, ...] | None


def packed(right: Sequence[bool], labels: Sequence[int], num_classes: int) -> dict[str, Any]:
    """``outcomes`` of a record.

    Args:
        right: whether each test image was given its class, in the order of the set.
        labels: the classes of the images.
    Returns: ``images``; ``right``, their bits, the first image's first, in base 64; and how many images each class has
        (``images_by_class``) and how many of these were right (``right_by_class``).
    """
    bits = "".join("1" if one else "0" for one in right)
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0") or "0", 2).to_bytes(-(-len(bits) // 8), "big")
    counts, hits = [0] * num_classes, [0] * num_classes
    for one, label in zip(right, labels, strict=True):
        counts[label] += 1
        hits[label] += bool(one)
    text = base64.b64encode(data).decode()
    return {"images": len(bits), "right": text, "images_by_class": counts, "right_by_class": hits}


def right_bits(outcomes: Mapping[str, Any]) -> int:
    """The bits of ``outcomes`` as one number; those behind the last image are 0. Raises: ValueError if it has none."""
    images, text = outcomes.get("images"), outcomes.get("right")
    if not is_whole(images, 1, _MOST_IMAGES) or not isinstance(text, str):
        raise ValueError("must have images, a whole number, and right, their bits in base 64")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"right is no base 64: {error}") from error
    if len(data) != -(-images // 8):
        raise ValueError(f"right has {len(data):,} bytes, and {images:,} images need {-(-images // 8):,}")
    bits = int.from_bytes(data, "big")
    if bits & ((1 << (8 * len(data) - images)) - 1):
        raise ValueError("right has bits behind the last image")
    return bits


def wrong_outcomes(outcomes: Any, accuracy: float | None) -> str | None:
    """Why ``outcomes`` are none of a cell of this test accuracy, in one line; None if they are."""
    if not isinstance(outcomes, Mapping):
        return "outcomes is not a mapping"
    try:
        right = right_bits(outcomes).bit_count()
    except ValueError as error:
        return f"outcomes: {error}"
    if accuracy is None or abs(right / outcomes["images"] - accuracy) > 1e-9:
        return f"outcomes: {right:,} of {outcomes['images']:,} images are right, and test_accuracy is {accuracy}"
    classes = [outcomes.get(name) for name in ("images_by_class", "right_by_class")]
    if classes != [None, None]:
        lists = all(isinstance(one, list) and 0 < len(one) <= _MOST_CLASSES for one in classes)
        if not lists or not all(is_whole(n, 0, _MOST_IMAGES) for one in classes for n in one):
            return "outcomes: images_by_class and right_by_class must be lists of counts"
        if [sum(one) for one in classes] != [outcomes["images"], right] or len(classes[0]) != len(classes[1]):
            return "outcomes: images_by_class and right_by_class do not add up"
    return None


def compared(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison | None:
    """Two sound ``outcomes`` on the same images; None where they are of different numbers of images."""
    if a["images"] != b["images"]:
        return None
    images, left, right = a["images"], right_bits(a), right_bits(b)
    both, only_a, only_b = ((left & right).bit_count(), (left & ~right).bit_count(), (right & ~left).bit_count())
    difference = (only_b - only_a) / images
    by_class = None
    counts = a.get("images_by_class")
    if counts and counts == b.get("images_by_class"):
        hits = zip(a["right_by_class"], b["right_by_class"], counts, strict=True)
        by_class = tuple(100 * (two - one) / count if count else 0.0 for one, two, count in hits)
    return Comparison(
        images=images,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=images - both - only_a - only_b,
        points=100 * difference,
        spread=100 * math.sqrt(max(0.0, (only_a + only_b) / images - difference**2) / images),
        by_class=by_class,
    )
