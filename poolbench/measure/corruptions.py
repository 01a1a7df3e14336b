"""Test images made worse as in CIFAR-10-C, and what a trained net says of them."""

import io
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from poolbench.measure.invariance import _like, _share
from poolbench.measure.subject import Subject
from poolbench.records.probes import CORRUPTIONS

# What severities 1 to 5 of each kind are. All were read in the script that made CIFAR-10-C, which is weaker than the
# one for ImageNet-C: github.com/hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py at commit ca36008.
AMOUNTS = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation; white is 1
    "blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),  # radius of the disk, sigma; pixels
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of each distance from the mean
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value of HSV
    "jpeg": (80, 65, 58, 50, 40),  # quality
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # of the side
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),  # thickness, decay
    # Of the shorter side: push, sigma of its smoothing, shift of the corners. The shift falls as the push grows.
    "elastic": ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
}
KINDS = CORRUPTIONS
SEVERITIES = (1, 2, 3, 4, 5)


def read_corruptions(subject: Subject, kinds: Sequence[str], severities: Sequence[int]) -> dict[str, float]:
    """Accuracy on corrupted images: one pass over them for each kind and severity.

    Every pass draws from a generator of its own, (seed, "corruption", kind, severity), and however the images are
    batched: every net that is read with the same seed on the same images sees the same corrupted ones.

    Args:
        kinds: of :data:`KINDS`.
        severities: 1 to 5; 0 leaves the images alone.
    Returns: for each kind and severity ``test_accuracy_<kind>_<severity>``, as ``test_accuracy_fog_3``; without the
        severity the mean over severities; and ``test_accuracy_corrupted``, the mean over kinds and severities. All are
        fractions. Nothing where no kind or no severity is asked for.
    Raises: ValueError naming the kind or severity that is not known or comes twice, before any pass.
    """
    for kind in kinds:
        for severity in (0, *severities):
            _check(kind, severity)
    for name, values in (("kind", kinds), ("severity", severities)):
        if len(set(values)) < len(values):
            raise ValueError(f"each {name} is read once, got {list(values)}")
    found: dict[str, float] = {}
    shares: list[float] = []
    for kind in kinds if severities else ():
        of_kind = [_accuracy(subject, kind, severity) for severity in severities]
        for severity, share in zip(severities, of_kind, strict=True):
            found[f"test_accuracy_{kind}_{severity}"] = share
        found[f"test_accuracy_{kind}"] = fmean(of_kind)
        shares += of_kind
    if shares:
        found["test_accuracy_corrupted"] = fmean(shares)
    return found


def corrupted(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Images made worse by ``severity`` of ``kind``.

    The amounts are those of CIFAR-10-C and count pixels where it did; sides other than 32 scale only the elastic kind.
    Unlike there, values are not cut to whole steps of 1 / 255, but for JPEG, which knows no others.

    Args:
        images: ``(N, C, H, W)`` in [0, 1], floats, of 4 pixels a side or more.
        kind: of :data:`KINDS`. Noise is Gaussian, blur is defocus.
        severity: 1 to 5; 0 gives the images themselves.
        generator: on the CPU, so that devices draw alike. Each image takes as many draws, however images are batched.
    Returns: ``(N, C, H, W)`` in [0, 1], in the dtype, on the device and in the memory format of ``images``.
    Raises: ValueError for another kind, severity, shape or dtype.
    Source: Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261.
    """
    _check(kind, severity)
    if images.dim() != 4 or min(images.shape[2:]) < 4 or not images.is_floating_point():
        raise ValueError(
            f"images are floats (N, C, H, W) of at least 4 pixels a side, got {images.dtype} {tuple(images.shape)}"
        )
    if severity == 0:
        return images
    amount = AMOUNTS[kind][severity - 1]
    # Places of pixels are too coarse in half precision.
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    match kind:
        case "noise":
            y = x + amount * _normal(x, generator)
        case "blur":
            y = _blurred(x, disk(*amount))
        case "contrast":
            mean = x.mean((2, 3), keepdim=True)
            y = mean + amount * (x - mean)
        case "brightness":
            y = _brightened(x, amount)
        case "jpeg":
            y = _compressed(x, amount)
        case "pixelate":
            y = _pixelated(x, amount)
        case "fog":
            y = _fogged(x, *amount, generator)
        case "elastic":
            y = _distorted(x, *amount, generator)
    return _like(y.clamp(0, 1).to(images.dtype), images)


def disk(radius: float, sigma: float) -> Tensor:
    """``(S, S)``, float64, of sum 1: a disk of whole pixels, its edge softened by 3 x 3 taps of a Gaussian."""
    reach = int(radius) + 1  # the softening reaches one pixel further
    distances = torch.arange(-reach, reach + 1, dtype=torch.float64).square()
    inside = (distances[:, None] + distances <= radius**2).double()
    taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64) / (2 * sigma**2))
    softened = F.conv2d(inside[None, None], torch.outer(taps, taps)[None, None], padding=1)[0, 0]
    return softened / softened.sum()


def _check(kind: str, severity: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind is {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {kind!r}")
    if type(severity) is not int or severity not in (0, *SEVERITIES):
        raise ValueError(f"severity is a whole number from 0 to {SEVERITIES[-1]}, got {severity!r}")


def _accuracy(subject: Subject, kind: str, severity: int) -> float:
    generator = subject.generator("corruption", kind, severity)

    def change(x: Tensor) -> Tensor:
        # What was normalised and taken back may lie a rounding beyond black or white.
        return subject.normalised(corrupted(subject.pixels(x).clamp(0, 1), kind, severity, generator))

    logits, labels = subject.logits(change if severity else None)
    return _share(logits.argmax(1) == labels)


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws in the shape of ``x``."""
    count = x[0].numel()
    # torch makes normal numbers in blocks of 16. Rows of whole blocks keep an image's draws where they are when it
    # stands in another batch.
    rows = torch.randn(len(x), -(-count // 16) * 16, generator=generator, dtype=torch.float32)
    return rows[:, :count].reshape(x.shape).to(x)


def _uniform(n: int, count: int, generator: torch.Generator) -> Tensor:
    """``(n, count)`` draws from [-1, 1), on the CPU: a row for each image."""
    return 2 * torch.rand(n, count, generator=generator, dtype=torch.float32) - 1


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """``x`` convolved with ``kernel``; beyond the border the image is mirrored, the edge not repeated."""
    pad = len(kernel) // 2
    height, width = x.shape[2:]
    padded = F.pad(x, [pad] * 4, mode="reflect")
    y = torch.zeros_like(x)
    # Not conv2d: on a GPU its products may be rounded to ten bits.
    for row, taps in enumerate(kernel.tolist()):
        for column, tap in enumerate(taps):
            y.add_(padded[:, :, row : row + height, column : column + width], alpha=tap)
    return y


def _brightened(x: Tensor, amount: float) -> Tensor:
    """``x`` with ``amount`` added to the value of HSV, up to 1; hue and saturation stay."""
    value = x.amax(1, keepdim=True)  # the value is the largest channel, and the others keep their ratio to it
    return torch.where(value > 0, x / value, 1) * (value + amount).clamp(max=1)


def _compressed(x: Tensor, quality: int) -> Tensor:
    """``x`` as JPEG gives it back, colour at half the resolution; other than three channels are as many grey images."""
    planes = x if x.shape[1] == 3 else x.flatten(0, 1)[:, None]
    levels = (planes * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    # An image a call, as Pillow has it; torchvision's own calls for lists of them are on their way out.
    decoded = np.stack([_recoded(one, quality) for one in levels])
    return (torch.from_numpy(decoded).to(x.device).movedim(-1, 1).to(x) / 255).reshape(x.shape)


def _recoded(levels: np.ndarray, quality: int) -> np.ndarray:
    """uint8 ``(H, W, 3)`` or ``(H, W, 1)`` through a JPEG."""
    file = io.BytesIO()
    Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image).reshape(levels.shape)


def _pixelated(x: Tensor, factor: float) -> Tensor:
    """``x`` shrunk to ``factor`` of its sides and enlarged again, both with Pillow's box filter."""
    for axis in (2, 3):
        side = x.shape[axis]
        small = int(side * factor)
        # Pillow's box takes the pixels whose middle it holds, and when enlarging the nearest one. A box here is at most
        # two pixels wide, so the mean of its first and last pixel is its mean.
        box = (2 * torch.arange(side, device=x.device) + 1) * small // (2 * side)
        first = (2 * box * side - small).div(2 * small, rounding_mode="floor") + 1
        last = (2 * (box + 1) * side - small).div(2 * small, rounding_mode="floor")
        x = (x.index_select(axis, first) + x.index_select(axis, last)) / 2
    return x


def _fogged(x: Tensor, thickness: float, decay: float, generator: torch.Generator) -> Tensor:
    """``x`` under a plasma fractal of weight ``thickness``, darkened so that its brightest value stays the limit."""
    height, width = x.shape[2:]
    fog = _plasma(x, 1 << (max(height, width) - 1).bit_length(), decay, generator)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * fog) * brightest / (brightest + thickness)


def _plasma(x: Tensor, side: int, decay: float, generator: torch.Generator) -> Tensor:
    """``(N, side, side)`` in [0, 1], both reached: a map for each of ``x``, by the diamond-square algorithm on a torus.

    Each level doubles the side; its new points are the mean of four old ones and a draw, ``decay`` squared times
    smaller than at the level before. ``side`` is a power of 2.
    """
    n = len(x)
    draws = _uniform(n, side**2 - 1, generator).to(x)
    old = x.new_zeros(n, 1, 1)
    size = 1.0
    while (known := old.shape[1]) < side:
        middle, above, left = (size * draws[:, known**2 - 1 : 4 * known**2 - 1]).view(n, 3, known, known).unbind(1)
        right, below = old.roll(-1, 2), old.roll(-1, 1)
        middle = middle + (old + right + below + right.roll(-1, 1)) / 4
        above = above + (old + right + middle + middle.roll(1, 1)) / 4
        left = left + (old + below + middle + middle.roll(1, 2)) / 4
        old = torch.stack([torch.stack([old, above], -1), torch.stack([left, middle], -1)], 2)
        old = old.view(n, 2 * known, 2 * known)
        size /= decay**2
    low, high = old.amin((1, 2), keepdim=True), old.amax((1, 2), keepdim=True)
    return (old - low) / (high - low)


def _distorted(x: Tensor, push: float, sigma: float, shift: float, generator: torch.Generator) -> Tensor:
    """``x`` under a random affine map, then pushed about by a smooth random field.

    The amounts are fractions of the shorter side: three corners move by up to ``shift`` along each axis; the field is
    noise from [-1, 1) that a Gaussian of ``sigma`` smooths, times ``push``.
    """
    n, _, height, width = x.shape
    side = min(height, width)
    draws = _uniform(n, 6 + 2 * height * width, generator).double()  # places are found on the CPU, alike for all
    rows, columns = (torch.arange(length, dtype=torch.float64) for length in (height, width))
    plain = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)

    corners = draws.new_tensor([[1, 1], [1, -1], [-1, -1]]) * (side // 3)
    corners = corners + draws.new_tensor([width // 2, height // 2])
    moved = corners + side * shift * draws[:, :6].view(n, 3, 2)
    # Where each pixel comes from: the map that takes the moved corners back.
    back = torch.linalg.solve(F.pad(moved, (0, 1), value=1.0), corners.expand(n, 3, 2))[:, :, None, None]
    y = _sampled(x, plain[..., :1] * back[:, 0] + plain[..., 1:] * back[:, 1] + back[:, 2], repeated=False)
    if not push:
        return y
    field = draws[:, 6:].view(n, 2, height, width)
    down, along = (_smoothing(length, side * sigma) for length in (height, width))
    field = side * push * (down @ field @ along.T)
    return _sampled(y, plain + field.movedim(1, -1), repeated=True)


def _smoothing(side: int, sigma: float) -> Tensor:
    """``(side, side)``, float64: weights of a line's pixels in each pixel after a Gaussian cut at 3 ``sigma``.

    Beyond its ends the line is mirrored, the edge repeated.
    """
    reach = int(3 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    taps = torch.exp(-offsets.double().square() / (2 * sigma**2))
    cells = (torch.arange(side)[:, None] + offsets).remainder(2 * side)
    cells = torch.minimum(cells, 2 * side - 1 - cells)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, cells, (taps / taps.sum()).expand(side, -1))


def _sampled(x: Tensor, places: Tensor, repeated: bool) -> Tensor:
    """``x`` read at ``places`` ``(N, H, W, 2)``: columns and rows from the middle of the first pixel, bilinear.

    Beyond the border the image is mirrored, with its edge ``repeated`` or not.
    """
    sides = places.new_tensor([x.shape[3], x.shape[2]])
    grid = (2 * places + 1) / sides - 1 if repeated else 2 * places / (sides - 1) - 1
    return F.grid_sample(x, grid.to(x), mode="bilinear", padding_mode="reflection", align_corners=not repeated)
