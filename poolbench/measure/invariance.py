"""What a trained net says of test images that are resized, scaled, moved, turned or flipped, and of repeated draws."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.measure.features import features_noted, moved_by
from poolbench.measure.subject import Subject, first
from poolbench.models.sites import derive
from poolbench.pooling.parts.draws import drawing, random_pools
from poolbench.records.probes import BORDERS, FLIPS, TRANSFORMS, amount_text, completed
from poolbench.training.loop import Batch, autocast, resized


@torch.no_grad()
def read_probes(
    model: nn.Module,
    batches: Callable[[], Iterable[Batch]],
    probe: Mapping[str, Any],
    seed: int = 0,
    precision: str = "fp32",
) -> dict[str, float]:
    """Read the transforms and draws that ``probe`` asks for, in evaluation mode: one pass over the images for each.

    :func:`poolbench.measure.readings.read_measures` reads these and everything else that ``probe`` may ask for.
    Every pass seeds its draws from (seed, "probe", name, amount), so no amount moves another's numbers; torch's
    generators and the model are left as they were.

    Args:
        model: gives logits ``(N, K)`` of images ``(N, C, H, W)``.
        batches: begins a new pass over the images ``(N, C, H, W)``, normalised, and their labels ``(N,)``.
        probe: options of ``conf/probe/``, as ``{"rotate": [-10, 10], "border": "zeros"}``; those left out ask nothing.
        seed: of random pools.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``, of the forward passes; images are moved in their own.
    Returns: for each amount ``test_accuracy_<name>_<amount>`` and ``agreement_<name>_<amount>``, the share of images
        that are given the same class as when they are left alone, as ``agreement_rotate_-10``; without the amount the
        mean over the amounts; and ``test_accuracy_draws_<n>``. All are fractions. With ``features`` also
        ``distance_<name>_<amount>``, see :func:`poolbench.measure.features.moved_by`, and its means.
    Raises: ValueError naming the option, its value and what is allowed.
    """
    options = completed(probe)
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    training = model.training
    model.eval()
    try:
        with accelerator.undrawn(device):
            return _read(_Reader(model, lambda: first(batches(), options["samples"]), options, seed, precision))
    finally:
        model.train(training)


@torch.no_grad()
def read_transforms(subject: Subject, options: Mapping[str, Any]) -> dict[str, float]:
    """The same of a subject, which is in evaluation mode, and whose images are as many as are to be read."""
    return _read(_Reader(subject.model, subject.batches, dict(options), subject.seed, subject.precision))


def _read(reader: "_Reader") -> dict[str, float]:
    if reader.options["draws"] and not random_pools(reader.model):
        raise ValueError(f"probe.draws is {reader.options['draws']!r}, and no pool of this net draws")
    return {**reader.transforms(), **reader.draws()}


class _Reader:
    """Passes of one model over the same images."""

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[], Iterable[Batch]],
        options: dict[str, Any],
        seed: int,
        precision: str,
    ):
        self.model, self.batches, self.options = model, batches, options
        self.seed, self.precision = seed, precision

    def transforms(self) -> dict[str, float]:
        """Accuracy, agreement and, where asked for, the way that features move, under each amount of each transform,
        and their means."""
        asked = {name: self.options[name] for name in TRANSFORMS if self.options[name]}
        found: dict[str, float] = {}
        if not asked:
            return found
        plain = self._pass("plain", "")
        for option, amounts in asked.items():
            name = TRANSFORMS[option]
            places: dict[str, list[float]] = {}
            for amount in amounts:
                seen = self._pass(name, amount)
                numbers = {
                    "test_accuracy": _share(seen.classes == plain.labels),
                    "agreement": _share(seen.classes == plain.classes),
                }
                if self.options["features"] and (distance := moved_by(plain.features, seen.features)) is not None:
                    numbers["distance"] = distance
                for word, value in numbers.items():
                    found[f"{word}_{name}_{amount_text(amount)}"] = value
                    places.setdefault(word, []).append(value)
            found |= {f"{word}_{name}": fmean(values) for word, values in places.items()}
        return found

    def draws(self) -> dict[str, float]:
        """Accuracy of class probabilities averaged over passes in which random pools draw; the passes are nested."""
        found: dict[str, float] = {}
        total: Tensor | None = None
        with drawing(self.model):
            for number in range(1, max(self.options["draws"], default=0) + 1):
                seen = self._pass("draws", number)
                # In float64, so that the order of the sum turns no class.
                chances = seen.logits.double().softmax(1)
                total = chances if total is None else total + chances
                if number in self.options["draws"]:
                    found[f"test_accuracy_draws_{number}"] = _share(total.argmax(1) == seen.labels)
        return found

    def _pass(self, name: str, amount: Any) -> "_Pass":
        """One pass over the images under ``amount`` of ``name``."""
        torch.manual_seed(derive(self.seed, "probe", name, amount_text(amount)))
        logits, labels, features = [], [], []
        with features_noted(self.model) if self.options["features"] else nullcontext([]) as noted:
            for x, y in self.batches():
                if name in TRANSFORMS.values():
                    x = transformed(x, name, amount, self.options["border"])
                noted.clear()
                with autocast(self.precision, x.device):
                    logits.append(self.model(x).float())
                features.append((noted[-1] if noted else logits[-1]).float().flatten(1))
                labels.append(y)
        return _Pass(*(torch.cat(own) for own in (logits, labels, features)))


@dataclass(frozen=True)
class _Pass:
    """What came of a pass: logits ``(N, K)``, labels ``(N,)``, features ``(N, D)``: the logits where none are noted."""

    logits: Tensor
    labels: Tensor
    features: Tensor

    @property
    def classes(self) -> Tensor:
        return self.logits.argmax(1)


def transformed(x: Tensor, name: str, amount: Any, border: str = "reflect") -> Tensor:
    """Images ``(N, C, H, W)`` under ``amount`` of the transform ``name``: size, scale, translate_x, translate_y, rotate
    or flip. Raises: ValueError for another name."""
    match name:
        case "size":
            return resized(x, amount)
        case "scale":
            return scaled(x, amount, border)
        case "translate_x":
            return translated(x, right=amount, border=border)
        case "translate_y":
            return translated(x, down=amount, border=border)
        case "rotate":
            return rotated(x, amount, border)
        case "flip":
            return flipped(x, amount)
    raise ValueError(f"the transforms are {', '.join(TRANSFORMS.values())}, got {name!r}")


def scaled(x: Tensor, factor: float, border: str = "reflect") -> Tensor:
    """Images ``(N, C, H, W)`` enlarged about their centre by ``factor``; below 1 they shrink and the border comes in.

    Bilinear; when shrinking, the triangle is ``1 / factor`` pixels wide to each side, a low-pass, as in resizing with
    antialiasing.
    """
    if factor == 1:
        return x
    rows, columns = (_resampling(side, factor, 0.0, border) for side in x.shape[2:])
    return _resampled(x, rows, columns)


def translated(x: Tensor, right: float = 0.0, down: float = 0.0, border: str = "reflect") -> Tensor:
    """Images ``(N, C, H, W)`` moved by pixels to the right and down; fractions of pixels are bilinear."""
    rows, columns = (
        _resampling(side, 1.0, shift, border) if shift else None
        for side, shift in zip(x.shape[2:], (down, right), strict=True)
    )
    return _resampled(x, rows, columns)


def rotated(x: Tensor, degrees: float, border: str = "reflect") -> Tensor:
    """Images ``(N, C, H, W)`` turned counter-clockwise about their centre, bilinear."""
    if degrees % 360 == 0:
        return x
    n, channels, height, width = x.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # As far as corners reach beyond the image; the middle of the outermost pixel is half a pixel further in.
    reach = abs(cos) * height + abs(sin) * width, abs(cos) * width + abs(sin) * height
    pads = [max(0, math.ceil((far - side) / 2)) for far, side in zip(reach, (height, width), strict=True)]
    padded = x
    for axis, pad, shape in ((2, pads[0], (-1, 1)), (3, pads[1], (1, -1))):
        inside, cells = folded(torch.arange(-pad, x.shape[axis] + pad, device=x.device), x.shape[axis], border)
        padded = padded.index_select(axis, cells) * inside.to(x.dtype).view(shape)
    # Where in the padded image each pixel comes from, both measured from the centre in half sides, rows downwards.
    padded_height, padded_width = padded.shape[2:]
    turn = [
        [cos * width / padded_width, -sin * height / padded_width, 0.0],
        [sin * width / padded_height, cos * height / padded_height, 0.0],
    ]
    theta = torch.tensor(turn, dtype=x.dtype, device=x.device).expand(n, 2, 3)
    grid = F.affine_grid(theta, [n, channels, height, width], align_corners=False)
    return _like(F.grid_sample(padded, grid, mode="bilinear", padding_mode="zeros", align_corners=False), x)


def flipped(x: Tensor, direction: str) -> Tensor:
    """Images ``(N, C, H, W)`` mirrored left to right (``"horizontal"``) or upside down (``"vertical"``)."""
    if direction not in FLIPS:
        raise ValueError(f"flip is {' or '.join(FLIPS)}, got {direction!r}")
    return x.flip(3 if direction == "horizontal" else 2)


def _resampling(side: int, factor: float, shift: float, border: str) -> Tensor:
    """``(side, side)``, float64: the weights of the old pixels of a line in each new one, the border folded in."""
    places = torch.arange(side, dtype=torch.float64) + 0.5
    sources = side / 2 + (places - side / 2 - shift) / factor
    support = max(1.0, 1 / factor)
    cells = torch.arange(math.floor(sources[0] - support), math.ceil(sources[-1] + support) + 1)
    weights = (1 - (cells + 0.5 - sources[:, None]).abs() / support).clamp_min(0)
    weights = weights / weights.sum(1, keepdim=True)
    inside, places = folded(cells, side, border)
    return weights.new_zeros(side, side).index_add_(1, places, weights * inside)


def folded(cells: Tensor, side: int, border: str) -> tuple[Tensor, Tensor]:
    """For places on an endless line whether they show anything, and which pixel of a line of ``side`` they show.

    Raises: ValueError for a border that is none of ``reflect``, ``zeros`` and ``wrap``.
    """
    if border == "wrap":
        return torch.ones_like(cells, dtype=torch.bool), cells.remainder(side)
    if border == "reflect":  # the edge is not repeated, as in augmentation
        period = max(1, 2 * (side - 1))
        within = cells.remainder(period)
        return torch.ones_like(cells, dtype=torch.bool), torch.minimum(within, period - within)
    if border == "zeros":
        return (cells >= 0) & (cells < side), cells.clamp(0, side - 1)
    raise ValueError(f"border is {', '.join(BORDERS[:-1])} or {BORDERS[-1]}, got {border!r}")


def _resampled(x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """``x`` with each column of pixels replaced by ``rows`` of it, and each row by ``columns``; None: left alone."""
    y = x
    if rows is not None:
        y = rows.to(x) @ y
    if columns is not None:
        y = y @ columns.T.to(x)
    return _like(y, x)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``, on which the last bits of a convolution hang."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)
