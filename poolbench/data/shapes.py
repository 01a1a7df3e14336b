"""Shapes: ten classes of coloured, textured shapes on cluttered grounds, drawn by numpy in seconds, no download.

What it asks of a model, at the default options (10,000 + 2,000 images of 32x32; one core, about 2 s to draw them):

- linear on standardised pixels: 25 % test accuracy at most (logistic and ridge regression, the best of four penalties);
- `convnet` of widths 16-32-64, 5 epochs (25 s): max 91 %, average 86 % (means of three seeds), overlapping 94 % and
  subsample 83 % (one seed); max after 10 epochs: 95 %;
- `convnet` of widths 32-64-128, max, 10 epochs (2.5 min): 96 %, and 98 % in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from poolbench.checks import Rule, checked, is_number, number, or_null, whole
from poolbench.data.base import DataInfo, DataSource
from poolbench.data.cache import cache_key

VERSION = 1  # raise it with every change of a pixel: the fingerprint stands for the content
CHUNK = 64  # images drawn at once, few enough for the CPU's cache; changes no byte
CELLS = 5  # a cloudy texture interpolates a grid of CELLS x CELLS cells
TEXTURE = 5 + (CELLS + 1) ** 2  # random numbers in a texture
SCENE = 6 + 12 + 4 + 4  # in two colours of the ground, four to choose the shape's from, its tint, its placement
DISTRACTOR = 8  # in a line or blob
SMALLEST = 16  # pixels; below it a star is no star
DARK, LIGHT = 0.65, 0.35  # the ground's channels lie in [0, DARK], those of the shape's first colour in [LIGHT, 1]
GROUND = 0.6  # contrast of the ground's texture; these three make the set as hard as it is
_USUAL, _USUAL_TEST = 10_000, 2000  # images for training and for the test
AUGMENTATION = {"flip": True, "crop": 2, "cutout": 0}

Array = np.ndarray  # float32 and (n, H, W) where nothing else is said; n is a chunk


@dataclass(frozen=True)
class Scene:
    """What an image shows: its side ``size`` in pixels, and the options of `Shapes` that it is drawn by."""

    size: int
    position: float
    rotation: float
    scale: tuple[float, float]
    clutter: int
    noise: float


def _is_scale(value: Any) -> bool:
    several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return several and all(map(is_number, value)) and 0 < value[0] <= value[1] <= 0.5


_SCALE = Rule(_is_scale, "[smallest, largest] with 0 < smallest <= largest <= 0.5")


class Shapes(DataSource):
    """Ten shapes, told apart by their outline alone: all else is drawn alike for every class.

    Shapes are lighter than their ground on the whole, so that a small net finds them within few epochs. Every shape is
    its own mirror image, so flips keep the class. The test set comes from a stream of its own.
    A set of fewer samples is the beginning of one of more; each run of ten images has every class once.

    Args:
        train_samples, test_samples: number of images, at least 1. As many as one likes can be drawn, so None, which is
            all of other data, is 10,000 for training and 2,000 for the test.
        size: height and width in pixels, at least 16.
        data_seed: the data's own seed, a whole number >= 0; the training seed does not touch the images.
        position: largest offset of the shape's centre from the image's, as a share of `size`, in [0, 0.5].
        rotation: largest turn either way, in degrees, in [0, 180].
        scale: smallest and largest circumscribed radius, as a share of `size`, in (0, 0.5].
        clutter: number of distracting lines and blobs; the first, a line, lies over the shape, the others under it.
        noise: half the range of the uniform noise on every pixel and channel, in [0, 1] where white is 1.
        validation, augmentation: as in `DataSource`.
    Raises: ValueError naming the option.
    """

    name = "shapes"

    def __init__(
        self,
        train_samples: int | None = _USUAL,
        test_samples: int | None = _USUAL_TEST,
        size: int = 32,
        data_seed: int = 0,
        position: float = 0.15,
        rotation: float = 180.0,
        scale: Sequence[float] = (0.23, 0.4),
        clutter: int = 6,
        noise: float = 0.06,
        validation: float = 0.0,
        augmentation: Mapping[str, int | bool] | None = AUGMENTATION,
    ) -> None:
        self.train_samples = checked("data.train_samples", train_samples, or_null(whole(1))) or _USUAL
        self.test_samples = checked("data.test_samples", test_samples, or_null(whole(1))) or _USUAL_TEST
        self.data_seed = checked("data.data_seed", data_seed, whole(0))
        side = checked("data.size", size, whole(SMALLEST))
        self.scene = Scene(
            size=side,
            position=float(checked("data.position", position, number(0, 0.5))),
            rotation=float(checked("data.rotation", rotation, number(0, 180))),
            scale=tuple(map(float, checked("data.scale", scale, _SCALE))),
            clutter=checked("data.clutter", clutter, whole(0)),
            noise=float(checked("data.noise", noise, number(0, 1))),
        )
        super().__init__(validation, augmentation, (side, side))

    def info(self) -> DataInfo:
        self.split_sizes(self.train_samples)
        return DataInfo(
            len(CLASSES), self.size, self.train_samples, self.test_samples, CLASSES, f"shapes-{self.cache_key()}"
        )

    def check(self) -> None:
        """Nothing is needed but the options."""
        self.split_sizes(self.train_samples)

    def cache_key(self) -> str:
        return cache_key(
            VERSION, self.train_samples, self.test_samples, self.data_seed, sorted(asdict(self.scene).items())
        )

    def build(self) -> dict[str, np.ndarray]:
        train_images, train_labels = generate(self.train_samples, self.data_seed, 0, self.scene)
        test_images, test_labels = generate(self.test_samples, self.data_seed, 1, self.scene)
        return {
            "train_images": train_images,
            "train_labels": train_labels,
            "test_images": test_images,
            "test_labels": test_labels,
            "classes": np.array(CLASSES),
        }


def generate(samples: int, seed: int, stream: int, scene: Scene, chunk: int = CHUNK) -> tuple[np.ndarray, np.ndarray]:
    """Draw images (samples, size, size, 3) uint8 and labels (samples,) int64.

    The same bytes on every machine: per pixel only + - * /, sqrt, floor, comparisons, which IEEE 754 fixes to the bit.
    """
    seeds = np.random.SeedSequence([seed, stream]).spawn(3)
    label_random, scene_random, noise_random = (np.random.Generator(np.random.PCG64(s)) for s in seeds)
    tens = -(-samples // len(CLASSES))
    labels = label_random.random((tens, len(CLASSES))).argsort(axis=1).ravel()[:samples].astype(np.int64)
    images = np.empty((samples, scene.size, scene.size, 3), np.uint8)
    for start in range(0, samples, chunk):
        rows = slice(start, min(start + chunk, samples))
        # One row of random numbers is one image, whatever the chunk.
        table = scene_random.random((rows.stop - start, 2 * TEXTURE + SCENE + DISTRACTOR * scene.clutter))
        columns = _Columns(table)
        planes = _paint(columns, labels[rows], scene)
        assert columns.used == table.shape[1]
        grain = noise_random.random(planes.shape, dtype=np.float32)
        grain -= 0.5
        grain *= 2 * scene.noise
        planes += grain
        planes *= 255
        planes += 0.5  # the cast cuts off what lies behind the point
        np.clip(planes, 0, 255, out=planes)
        images[rows] = planes.astype(np.uint8).transpose(0, 2, 3, 1)
    return images, labels


class _Columns:
    """Hands out the columns of a table of random numbers from left to right, float32 (n, count)."""

    def __init__(self, table: Array) -> None:
        self.table, self.used = table.astype(np.float32), 0

    def __call__(self, count: int) -> Array:
        self.used += count
        return self.table[:, self.used - count : self.used]

    def one(self, low: float = 0.0, high: float = 1.0) -> Array:
        """The next column, between low and high, as (n, 1, 1)."""
        return self(1)[:, :, None] * (high - low) + low


def _paint(take: _Columns, labels: np.ndarray, scene: Scene) -> Array:
    """Ground, clutter, shape and one last line: (n, 3, H, W), white is 1."""
    axis = ((np.arange(scene.size) + 0.5) / scene.size - 0.5).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]  # (1, 1, W) and (1, H, 1), the image spans [-0.5, 0.5]

    ground = take(6).reshape(-1, 2, 3) * DARK
    planes = _blend(ground[:, 0], ground[:, 0] + GROUND * (ground[:, 1] - ground[:, 0]), _texture(take, x, y))
    for item in range(1, scene.clutter):
        _distract(planes, take, x, y, line=item % 2 == 0)

    # Of four colours the one farthest from the ground, so that few shapes are hard to see.
    candidates = LIGHT + (1 - LIGHT) * take(12).reshape(-1, 4, 3)
    contrast = np.square(candidates - ground.mean(axis=1, keepdims=True)).sum(axis=2)
    colour = candidates[np.arange(len(candidates)), contrast.argmax(axis=1)]
    tint = colour + (0.2 + 0.4 * take(1)) * (take(3) - colour)
    paint = _blend(colour, tint, _texture(take, x, y))

    centre_x, centre_y = (take.one(-scene.position, scene.position) for _ in range(2))
    u, v = _turned(x - centre_x, y - centre_y, take.one(-scene.rotation, scene.rotation))
    radius = take.one(*scene.scale)
    u, v = u / radius, v / radius
    distance = np.empty_like(u)
    for label, outline in enumerate(OUTLINES.values()):
        rows = np.flatnonzero(labels == label)
        distance[rows] = outline(u[rows], v[rows])
    _cover(planes, paint, distance * (radius * scene.size))
    if scene.clutter:
        _distract(planes, take, x, y, line=True)
    return planes


def _distract(planes: Array, take: _Columns, x: Array, y: Array, line: bool) -> None:
    """Lay a straight stroke with round ends over the planes: long and thin, or so short and thick that it is a blob."""
    u, v = _turned(x - take.one(-0.5, 0.5), y - take.one(-0.5, 0.5), take.one(0, 360))
    half_length, half_width = (0.15, 0.5), (0.01, 0.03)
    if not line:
        half_length, half_width = (0.0, 0.08), (0.04, 0.1)
    u = np.maximum(np.abs(u) - take.one(*half_length), 0)
    distance = _length(u, v) - take.one(*half_width)
    _cover(planes, take(3)[:, :, None, None], distance * x.size)


def _texture(take: _Columns, x: Array, y: Array) -> Array:
    """Stripes, checks or clouds with values in [0, 1], each for a third of the images."""
    kind = np.floor(take.one(0, 3))
    u, v = _turned(x, y, take.one(0, 360))
    waves = take.one(3, 8)  # over the width of the image
    u, v = (w * waves + take.one() for w in (u, v))
    across, along = (np.clip(4 * np.abs(w - np.floor(w) - 0.5) - 0.5, 0, 1) for w in (u, v))
    along = along * (kind == 1)
    bands = across + along - 2 * across * along  # exclusive or: checks
    grid = take((CELLS + 1) ** 2).reshape(-1, CELLS + 1, CELLS + 1)
    place = (y.ravel() + 0.5) * CELLS
    part = place - np.floor(place)
    low = place.astype(int)
    grid = grid[:, low] + (grid[:, low + 1] - grid[:, low]) * part[:, None]
    clouds = grid[:, :, low] + (grid[:, :, low + 1] - grid[:, :, low]) * part
    return np.where(kind == 2, clouds, bands)


def _turned(x: Array, y: Array, degrees: Array) -> tuple[Array, Array]:
    """Coordinates in axes turned by `degrees`, (n, 1, 1)."""
    angle = degrees.astype(np.float64) * (np.pi / 180)
    # Machines differ in the last bits of a cosine: rounding removes them.
    cos, sin = (np.round(f(angle), 6).astype(np.float32) for f in (np.cos, np.sin))
    return x * cos + y * sin, y * cos - x * sin


def _blend(first: Array, second: Array, share: Array) -> Array:
    """From colour `first` to `second`, both (n, 3), by `share`: (n, 3, H, W)."""
    return first[:, :, None, None] + (second - first)[:, :, None, None] * share[:, None]


def _cover(planes: Array, paint: Array, distance: Array) -> None:
    """Paint where `distance`, in pixels, is negative; the edge is one pixel wide (anti-aliasing)."""
    change = paint - planes
    change *= np.clip(0.5 - distance, 0, 1)[:, None]
    planes += change


# Distance from (u, v) to the outline, negative inside, in units of the circumscribed radius; symmetric in u, or in v.
# Exact near the edges, which is all that anti-aliasing needs. Formulas after Quilez, "2D distance functions".


def _length(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v)


def _box(u: Array, v: Array, width: float, height: float) -> Array:
    return np.maximum(np.abs(u) - width, np.abs(v) - height)


def _triangle(u: Array, v: Array, radius: float) -> Array:
    return np.maximum(np.abs(u) * 0.8660254 + v * 0.5, -v) - radius / 2


def _star(u: Array, v: Array) -> Array:
    """Five points; the plane is folded until one half point is left."""
    cos, sin, inner = 0.809017, 0.58778525, 0.45  # of 36 degrees; inner sets how deep the notches are
    u = np.abs(u)
    for side in (cos, -cos):
        over = 2 * np.maximum(side * u - sin * v, 0)
        u, v = u - over * side, v + over * sin
    u, v = np.abs(u), v - 1
    edge_u, edge_v = sin * inner, cos * inner - 1
    along = np.clip((u * edge_u + v * edge_v) / (edge_u**2 + edge_v**2), 0, 1)
    return np.copysign(_length(u - edge_u * along, v - edge_v * along), v * edge_u - u * edge_v)


def _heart(u: Array, v: Array) -> Array:
    size = 0.64
    u, v = np.abs(u) * size, v * size + 0.55  # the formula's heart has its tip at 0 and its notch at 1
    lobe = _length(u - 0.25, v - 0.75) - 2**0.5 / 4
    fold = np.maximum(u + v, 0) / 2
    tip = np.copysign(np.minimum(_length(u, v - 1), _length(u - fold, v - fold)), u - v)
    return np.where(u + v > 1, lobe, tip) / size


OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: _length(u, v) - 0.85,
    "ring": lambda u, v: np.abs(_length(u, v) - 0.7) - 0.22,
    "square": lambda u, v: _box(u, v, 0.75, 0.75),
    "triangle": lambda u, v: _triangle(u, v, 1.05),
    "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.28), _box(u, v, 0.28, 0.95)),
    "star": _star,
    "crescent": lambda u, v: np.maximum(_length(u, v) - 0.95, 0.8 - _length(u, v - 0.5)),
    "heart": _heart,
    "arrow": lambda u, v: np.minimum(_triangle(u, v - 0.3, 0.75), _box(u, v + 0.5, 0.22, 0.5)),
    "hourglass": lambda u, v: np.maximum((np.abs(u) - np.abs(v)) * 0.70710677 - 0.06, np.abs(v) - 0.7),
}
CLASSES = tuple(OUTLINES)
