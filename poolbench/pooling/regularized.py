"""Maximum whose place in the window is smoothed over the neighbouring windows: it follows bends, not every jump."""

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.pooling.base import Pool, Sides, area, is_open, pair
from poolbench.pooling.parts.images import over_images
from poolbench.pooling.parts.ranks import chosen, greater
from poolbench.pooling.parts.windows import over_windows


class RegularizedPool2d(Pool):
    r"""The cell of each window at the averaged place of the maxima of ``smoothing`` x ``smoothing`` windows.

    .. math:: y_{ij} = x\big(c_{ij} + \mathrm{round}(\bar d_{ij})\big), \qquad
        \bar d_{ij} = \frac{1}{m^2} \sum_{|p|, |q| \le (m - 1) / 2} d_{i + p,\, j + q}

    where :math:`d` is the displacement of a window's maximum from its centre :math:`c`, in pixels down and right.
    Maximum pooling undoes any shift of a feature within each window; this undoes only shifts that neighbouring
    windows have in common, as real deformations are. Every channel smooths its own displacements. The gradient goes
    to the picked cell. Training and evaluation are alike.

    Settled by the authors' code: the average is over the displacements before rounding; windows outside of the map
    count with a displacement of 0, so that at the border it is drawn to the centre; so do windows without a maximum
    (all cells equal, usual after a ReLU). The code is for windows of odd sides (5, smoothed over 3). With even sides
    the centre lies between cells and displacements are halves; a mean halfway between two cells, impossible with odd
    sides, goes to the one nearer to the window's own maximum. Of equal maxima the first counts. What would lie
    outside of the map is moved to the nearest cell inside.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        smoothing: ``m``, side in windows of the neighbourhood, an odd number, or
            ``(rows, columns)`` of them; 1 is the maximum.
    Use: where neighbouring windows should pick from like positions, as in the images of characters and textures that
        the paper tested; with ``smoothing=1`` it is max pooling.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Otsuzuki, Hayashi, Zheng and Uchida, ICANN 2020.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 4, "smoothing": 5},
        {"kernel_size": (3, 2), "stride": (2, 1), "smoothing": (3, 1)},
    )

    def __init__(
        self, channels: int, kernel_size: Sides = 2, stride: Sides | None = 2, padding: Sides = 0, smoothing: Sides = 3
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.smoothing = self.sides("smoothing", smoothing)
        if any(side % 2 == 0 for side in pair(self.smoothing)):
            raise ValueError(f"{self._name()}: smoothing must be an odd number of windows, got {smoothing!r}")
        self.odd = self.kernel_size == 1

    def pool(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            # Numbers of cells are beyond half precision.
            (picked,) = over_images(self._picked, x.detach().to(torch.promote_types(x.dtype, torch.float32)))
        return over_windows(self, _pick, (x,), (picked,), _slope, _pick_exactly)

    def _picked(self, x: Tensor) -> tuple[Tensor]:
        """Which cell of its window each output takes, counted row by row, ``(N, C, H', W')``."""
        (height, width), m2 = pair(self.kernel_size), area(self.smoothing)
        border = [side // 2 for side in pair(self.smoothing)]
        largest = over_windows(self, _largest, (x,))
        has_one = 1 - greater(largest, largest.new_tensor(height * width - 0.5))
        row = ((largest + 0.5) / width).floor()
        total = None
        for axis, k, place in ((2, height, row), (3, width, largest - row * width)):
            # In half pixels, so that all are whole numbers, and sums exact.
            moved = (2 * place - (k - 1)) * has_one
            sums = (F.avg_pool2d(moved, self.smoothing, 1, border) * m2).round()
            # Rounded up from a half, which a quarter of a unit moves to where the own maximum is.
            nearer = (moved * m2 - sums).sign() / 4
            place = ((sums + nearer + k * m2) / (2 * m2)).floor()
            place = self._inside(place, x.shape[axis], axis)
            total = place if total is None else total * width + place
        return (total,)

    def _inside(self, place: Tensor, side: int, axis: int) -> Tensor:
        """The places in their windows along ``axis``, moved into the map."""
        n = place.shape[axis]
        window, step, border = (pair(one)[axis - 2] for one in (self.kernel_size, self.stride, self.padding))
        if not border and (window <= step if is_open(place) else (n - 1) * step + window <= side):
            return place
        starts = torch.arange(n, dtype=place.dtype, device=place.device) * step - border
        starts = starts.view(-1, 1) if axis == 2 else starts
        return torch.minimum(torch.maximum(place, -starts), side - 1 - starts)

    def flops_per_window(self) -> int:
        # Comparisons for the largest and the smallest cell; for each axis displacement, sum, mean and rounding.
        return 2 * (area(self.kernel_size) - 1) + 2 * (2 + area(self.smoothing) - 1 + 2)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, smoothing={self.smoothing}"


def _largest(inside: Tensor | None, windows: Tensor) -> Tensor:
    """Which cell is the first of the largest ones, K where all are equal."""
    highest, lowest = windows, windows
    if inside is not None:
        beyond = torch.zeros_like(inside, dtype=windows.dtype).masked_fill(~inside, torch.inf)
        highest, lowest = windows - beyond, windows + beyond  # outside of the map they are 0
    most, least, index = highest[0], lowest[0], torch.zeros_like(windows[0])
    for i in range(1, len(windows)):
        index = chosen(greater(highest[i], most), index, index.new_full((), i))
        most, least = torch.maximum(most, highest[i]), torch.minimum(least, lowest[i])
    return chosen(greater(most, least), index.new_full((), len(windows)), index)


def _pick(inside: Tensor | None, windows: Tensor, picked: Tensor) -> Tensor:
    y = windows[-1]
    for i in reversed(range(len(windows) - 1)):
        y = chosen(greater(picked.new_full((), i + 0.5), picked), y, windows[i])
    return y


def _pick_exactly(inside: Tensor | None, windows: Tensor, picked: Tensor) -> Tensor:
    y = windows[-1]
    for i in reversed(range(len(windows) - 1)):
        y = torch.where(picked < i + 0.5, windows[i], y)
    return y


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, picked: Tensor) -> tuple[Tensor, None]:
    slopes = torch.empty_like(windows)
    for i, slope in enumerate(slopes):
        torch.eq(picked, i, out=slope)
    return slopes.mul_(gradient), None
