"""The low band of a wavelet transform: with Haar's wavelet, twice the average."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.checks import TRUTH, one_of
from poolbench.pooling.base import Pool, average_windows, cropped
from poolbench.pooling.parts.filters import filtered, separable
from poolbench.pooling.parts.infinite import may_look, seen_finite
from poolbench.pooling.parts.wavelets import FILTERS, ORTHOGONAL


class WaveletPool2d(Pool):
    r"""Low band of the two-dimensional discrete wavelet transform.

    .. math:: y_{ij} = \sum_{pq} h_p h_q \, x_{2i+p,\,2j+q}

    with the low-pass filter ``h`` of the wavelet; the map is continued periodically. The paper transforms twice,
    drops the details of the first level and goes back one level from the bands of the second: as the transform is
    orthogonal that gives the low band of the first level again, up to rounding (``levels=2`` does it literally). With
    Haar's wavelet the operator is twice the average of 2x2 windows, so what is left to compare with average pooling
    is the factor; what sets it apart in the paper is a backward pass of its own, a transform of the gradient, which
    is not the derivative of the operator and is not done here. Train and eval are alike.

    WaveCNets put the same band, of longer filters, in place of every downsampling; ``border="zero"`` is theirs. There
    the filter is centred, :math:`x_{2i+p-b}` with :math:`b = \lfloor (m - 1) / 2 \rfloor` for ``m`` taps, and the map
    goes on as zeros. Their Cohen wavelets ``"ch2.2"`` to ``"ch5.5"`` are filtered with by their public code with what
    puts a map together, not with what takes it apart: a symmetric spline, so that ``"ch3.3"`` is ``blur_average``
    with four taps, up to the factor, and ``"ch2.2"`` that with three. ``"bior3.3"`` is the filter that takes apart.

    Args:
        channels: channels ``C`` of the input.
        wavelet: ``"haar"``; Daubechies' ``"db2"`` to ``"db6"`` with twice as many taps, which overlap and have both
            signs; ``"bior3.3"`` with eight; or ``"ch2.2"``, ``"ch3.3"``, ``"ch4.4"``, ``"ch5.5"`` with 3, 4, 7 and 11.
        levels: 1, the low band directly, or 2, the paper's way there, for orthogonal wavelets on periodic maps.
        normalise: divide by 2, so that a constant map is kept; the orthonormal transform doubles it.
        border: how the map goes on outside: ``"periodic"``, or ``"zero"``, with centred filters.
    Use: to reproduce the comparison of its paper; with Haar's wavelet it is average pooling up to a factor, with longer
        ones an antialiased average that keeps more of the band.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out if the map is periodic.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Williams and Li, ICLR 2018; Li, Shen, Guo and Lai, CVPR 2020 (WaveCNets), as in their public code.
    """

    why_square = "its transform halves rows and columns"
    odd = homogeneous = True
    variants = (
        {"wavelet": "db2"},
        {"levels": 2, "normalise": True},
        {"wavelet": "ch3.3", "border": "zero", "normalise": True},
        {"wavelet": "db4"},
    )

    def __init__(
        self,
        channels: int,
        wavelet: str = "haar",
        levels: int = 1,
        normalise: bool = False,
        border: str = "periodic",
    ):
        super().__init__(channels)
        self.wavelet = self.checked("wavelet", wavelet, one_of(*FILTERS))
        self.levels = self.checked("levels", levels, one_of(1, 2))
        self.normalise = self.checked("normalise", normalise, TRUTH)
        self.border = self.checked("border", border, one_of("periodic", "zero"))
        if levels == 2 and (wavelet not in ORTHOGONAL or border == "zero"):
            raise ValueError(
                f"{self._name()}: levels must be 1 unless wavelet is one of {', '.join(ORTHOGONAL)} and border is "
                "'periodic', else the second level does not give back the first, got 2 with "
                f"wavelet={wavelet!r}, border={border!r}"
            )
        taps = FILTERS[wavelet]
        size, before = len(taps), (len(taps) - 1) // 2 if border == "zero" else 0
        self.keeps_sign = min(taps) > 0
        self.mirrors = taps == taps[::-1] and 2 * before == size - 2
        self.keeps_constants = self.follows_offset = normalise
        self.bounded = normalise and min(taps) > 0 and (border == "periodic" or size == 2)
        if border == "zero":
            self.rim = max((before + 1) // 2, (size - before - 1) // 2)  # pixels that the zeros outside may reach

    def pool(self, x: Tensor) -> Tensor:
        output = self.output_size((x.shape[-2], x.shape[-1]))
        if self.border == "zero":
            taps = [tap / (math.sqrt(2) if self.normalise else 1) for tap in FILTERS[self.wavelet]]
            return filtered(x, taps, 2, (len(taps) - 1) // 2, output, "zero")
        if self.levels == 1 and self.wavelet == "haar":
            y = average_windows(x, self)
            return y if self.normalise else y * 2
        if may_look(x):
            y = separable(x, *self._matrices(x))
            if seen_finite(y[..., 0, 0]):
                return y
        # Through the matrices a cell that is not finite reaches the whole map, as in filters.filtered.
        return self._filtered(x)

    def _filtered(self, x: Tensor) -> Tensor:
        """The low band by a convolution, whatever the levels."""
        x = cropped(x, self)
        low = torch.tensor(FILTERS[self.wavelet], dtype=x.dtype, device=x.device)
        weight = (low[:, None] * low / (2 if self.normalise else 1)).expand(x.shape[1], 1, -1, -1)
        after = len(low) - 2
        if after <= 2:
            x = F.pad(x, (0, after, 0, after), mode="circular")
        else:  # more than once round a small map
            for axis in (2, 3):
                side = x.shape[axis]
                x = x.index_select(axis, torch.arange(side + after, device=x.device) % side)
        return F.conv2d(x, weight, stride=2, groups=x.shape[1]).to(x.dtype)

    def _matrices(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What maps the rows, and the columns, of ``x`` to those of the output."""
        rows, columns = (self._along(side, x) for side in x.shape[-2:])
        return rows / 2 if self.normalise else rows, columns

    def _along(self, side: int, like: Tensor) -> Tensor:
        low = FILTERS[self.wavelet]
        matrix = _filter(low, side, like)
        if self.levels == 1:
            return matrix
        half = side // 2
        # A side of odd length gets a twin of its last row, without which there is no second level.
        matrix = torch.cat([matrix, matrix[-1:]]) if half % 2 else matrix
        high = tuple((-1) ** i * tap for i, tap in enumerate(reversed(low)))
        second = torch.cat([_filter(taps, half + half % 2, like) for taps in (low, high)])
        return (second.T @ (second @ matrix))[:half]

    def flops_per_window(self) -> int:
        if self.wavelet == "haar" and self.levels == 1 and self.border == "periodic":
            return 5  # three additions, a division, a factor 2 or none
        # Along rows for two of them, then along columns; to the second level and back along both, each time.
        taps = len(FILTERS[self.wavelet])
        return 2 * 3 * taps + (2 * 2 * 2 * taps if self.levels == 2 else 0)

    def extra_repr(self) -> str:
        return f"wavelet={self.wavelet!r}, levels={self.levels}, normalise={self.normalise}, border={self.border!r}"


def _filter(taps: tuple[float, ...], side: int, like: Tensor) -> Tensor:
    """``(side // 2, side)``: the filter at every other pixel, periodic; an odd last pixel is left out."""
    half = side // 2
    start = 2 * torch.arange(half, device=like.device)
    matrix = torch.zeros(half, side, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    for offset, tap in enumerate(taps):
        matrix = matrix + tap * F.one_hot((start + offset) % (2 * half), side)
    return matrix
