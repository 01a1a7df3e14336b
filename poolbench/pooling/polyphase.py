"""Subsampling whose grid follows the image: each image keeps the phase that is strongest."""

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.accelerator import widest
from poolbench.checks import one_of
from poolbench.pooling.base import Pool, is_open, leading, refuse_open
from poolbench.pooling.parts.images import over_images

NORMS = {"l1": torch.abs, "l2": torch.square, "linf": torch.abs}  # what of a cell is summed, or is largest


class PolyphasePool2d(Pool):
    r"""Of the four phases of a map, the grids of every other row and column, the one of the largest norm.

    .. math:: y = p_{k^*}, \quad p_{ab} = x_{a::2,\, b::2}, \quad k^* = \arg\max_{ab} \lVert p_{ab} \rVert

    Also known as APS, adaptive polyphase sampling. One phase for each image, of all channels together. A circular
    shift of the map permutes its phases, so the same values are kept whatever the shift: a net of circular
    convolutions, such pools and a global average gives exactly the same logits, trained or not. Crops and borders of
    zeros break that. Of equal norms the first wins, in the order 00, 10, 01, 11 (row, column); such ties may be
    broken otherwise after a shift. Training and evaluation are alike, and the gradient reaches the kept phase only.

    As in the author's code (models/aps_models/apspool.py) a blurred map is also what the norms are taken of. Of maps
    without negative values the blur leaves all phases the same sum, so that ``"l1"`` cannot choose among them.

    Args:
        channels: channels ``C`` of the input.
        criterion: norm by which the phases compete: ``"l2"``, ``"l1"`` or ``"linf"``, the largest magnitude.
        filter_size: side of the binomial filter that blurs the map first, circularly, 1 (none) to 7.
        border: ``"crop"`` leaves out an odd last row and column, as all pools do; ``"circular"`` repeats the first
            row and column behind them, as the author's code does, and so keeps one more.
    Use: when circular shifts must change nothing at all, with circular padding and a global head; under crops the
        guarantee ends.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; with ``border="circular"``, ``((H + 1) // 2, (W + 1) // 2)``.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Chaman and Dokmanic, CVPR 2021.
    """

    why_square = "its four phases are those of 2x2 blocks"
    mixes_channels = True
    bounded = odd = homogeneous = keeps_sign = mirrors = True
    variants = ({"criterion": "linf", "filter_size": 3}, {"criterion": "l1", "border": "circular"})

    def __init__(self, channels: int, criterion: str = "l2", filter_size: int = 1, border: str = "crop"):
        super().__init__(channels)
        self.criterion = self.checked("criterion", criterion, one_of(*NORMS))
        self.filter_size = self.checked("filter_size", filter_size, one_of(*range(1, 8)))
        self.border = self.checked("border", border, one_of("crop", "circular"))
        self.dynamic_sizes = border == "crop"
        if filter_size % 2 == 0:
            self.mirrors = False

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = super().output_size(size)
        if self.filter_size // 2 > min(size):
            raise ValueError(
                f"{self._name()}: a map of {size[0]}x{size[1]} pixels is smaller than half of filter_size "
                f"{self.filter_size}: its border cannot be repeated"
            )
        return (height, width) if self.border == "crop" else ((size[0] + 1) // 2, (size[1] + 1) // 2)

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))
        if not self.dynamic_sizes:
            refuse_open(x, self, "whether a row and column are repeated depends on the size")
        return over_images(self._plain, x, (self.phase(x.detach()),), fast=self._fast, slope=self._slope)[0]

    def phase(self, x: Tensor) -> Tensor:
        """Which phase each image keeps, ``(N,)``: 0 to 3 for 00, 10, 01, 11."""
        return over_images(self._norms, x)[0].argmax(1)

    def _norms(self, x: Tensor) -> tuple[Tensor]:
        x = self._prepared(x)
        # First over the channels, which does not depend on where a cell lies, then in double precision: so a shift
        # changes no norm by more than its last digits, and no decision. On mps, without it, it may change one.
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        cells = NORMS[self.criterion](leading(x, height, width) if is_open(x) else x[..., :height, :width])
        if self.criterion == "linf":
            phases = cells.amax(1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).amax((1, 3))
        else:
            phases = cells.sum(1).to(widest(x.device)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).sum((1, 3))
        return (phases.transpose(1, 2).flatten(1),)

    def _prepared(self, x: Tensor) -> Tensor:
        """Blurred and, if its border is circular, of even size."""
        if self.filter_size > 1:
            x = _blur(x, (self.filter_size - 1) // 2, self.filter_size // 2)
        if self.border == "crop":
            return x
        bottom, right = (side % 2 for side in x.shape[-2:])
        if torch.jit.is_tracing():  # sizes are tensors there, of which the older exporter to ONNX takes no border
            bottom, right = int(bottom), int(right)
        return F.pad(x, (0, right, 0, bottom), mode="circular")

    def _plain(self, x: Tensor, phase: Tensor) -> tuple[Tensor]:
        return _plain(self._prepared(x), phase)

    def _fast(self, x: Tensor, phase: Tensor) -> tuple[Tensor]:
        return _taken(self._prepared(x), phase)

    def _slope(self, gradients: list[Tensor], x: Tensor, phase: Tensor) -> Tensor:
        odd = [n % 2 if self.border == "circular" else 0 for n in x.shape[-2:]]
        padded = x.new_empty(()).expand(*x.shape[:2], x.shape[-2] + odd[0], x.shape[-1] + odd[1])
        gradient = _put_back(gradients, padded, phase)
        if odd[0]:
            gradient[:, :, 0] += gradient[:, :, -1]
        if odd[1]:
            gradient[..., 0] += gradient[..., -1]
        gradient = gradient[..., : x.shape[-2], : x.shape[-1]]
        if self.filter_size > 1:
            gradient = _blur(gradient, self.filter_size // 2, (self.filter_size - 1) // 2)
        return gradient

    def flops_per_window(self) -> int:
        # For each of its 4 cells the blur, a square (or magnitude) and an addition (or comparison).
        return 4 * ((2 * self.filter_size**2 if self.filter_size > 1 else 0) + 2)

    def extra_repr(self) -> str:
        return f"criterion={self.criterion!r}, filter_size={self.filter_size}, border={self.border!r}"


def take_phase(x: Tensor, phase: Tensor) -> Tensor:
    """Every other row and column of each image, rows from the second on where ``phase`` ``(N,)`` is 1 or 3, columns
    where it is 2 or 3."""
    return over_images(_plain, x, (phase,), fast=_taken, slope=_put_back)[0]


def _plain(x: Tensor, phase: Tensor) -> tuple[Tensor]:
    row, column = (bit.bool().view(-1, 1, 1, 1) for bit in (phase % 2, phase // 2))
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    x = torch.where(row, x[:, :, 1 : 2 * height : 2], x[:, :, : 2 * height : 2])
    return (torch.where(column, x[..., 1 : 2 * width : 2], x[..., : 2 * width : 2]),)


# Laid out as (N, H, W, C), a cell with its channels is one piece of memory: taking a phase is copying pieces.


def _taken(x: Tensor, phase: Tensor) -> tuple[Tensor]:
    images, channels, height, width = x.shape
    flat = x.movedim(1, -1).reshape(-1, channels)
    y = flat.index_select(0, _cells(x, phase))
    return (y.view(images, height // 2, width // 2, channels).movedim(-1, 1),)


def _put_back(gradients: list[Tensor], x: Tensor, phase: Tensor) -> Tensor:
    images, channels, height, width = x.shape
    result = x.new_zeros(images * height * width, channels)
    result.index_copy_(0, _cells(x, phase), gradients[0].movedim(1, -1).reshape(-1, channels))
    return result.view(images, height, width, channels).movedim(-1, 1)


def _cells(x: Tensor, phase: Tensor) -> Tensor:
    """Where the cells of the phases are among all cells of all images."""
    images, _, height, width = x.shape
    image = torch.arange(images, device=x.device).view(-1, 1, 1) * height
    row = torch.arange(0, height // 2 * 2, 2, device=x.device).view(-1, 1) + (phase % 2).view(-1, 1, 1)
    column = torch.arange(0, width // 2 * 2, 2, device=x.device) + (phase // 2).view(-1, 1, 1)
    return ((image + row) * width + column).flatten()


def _blur(x: Tensor, before: int, after: int) -> Tensor:
    """Binomial filter of ``before + after + 1`` taps along rows and columns of the circular map."""
    x = F.pad(x, (before, after, before, after), mode="circular")
    for _ in range(before + after):  # it is that many sums of two neighbours
        x = x[:, :, 1:] + x[:, :, :-1]
        x = x[..., 1:] + x[..., :-1]
    return x / 4 ** (before + after)
