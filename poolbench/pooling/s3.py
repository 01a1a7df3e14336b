"""Maximum at every pixel, then a drawn grid of rows and columns: downsampling itself becomes the noise."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, cropped, is_open, pair, refuse_open
from poolbench.pooling.parts.images import over_images
from poolbench.pooling.parts.infinite import seen_finite
from poolbench.pooling.parts.picked import max_of_picked


class S3Pool2d(Pool):
    r"""Stride-1 maximum ``z`` of which, in training, drawn rows ``r`` and columns ``c`` are kept.

    .. math:: z_{ij} = \max_{0 \le p, q < k} x_{i+p,\,j+q}, \qquad y_{ij} = z_{r_i c_j}

    The rows are cut into strips of ``grid_size``, and from each strip ``grid_size / kernel_size`` rows are drawn
    without replacement and kept in order; columns likewise. One draw for the whole batch and all channels. Strips as
    high as the window distort least, strips as high as the map most. As in the author's code the map ``z`` is
    ``kernel_size - 1`` rows and columns smaller than ``x``, which the last strip misses; of equal cells the first one
    gets the gradient.

    Train and eval: evaluation draws nothing. ``"average"`` is the author's: the average of windows of ``z`` that start
    at :math:`i k - \lfloor k / 2 \rfloor`. These lie half a window before the strips that training draws from;
    ``"expected"`` is what training gives on average, exactly, for every ``grid_size``.

    Args:
        channels: channels ``C`` of the input.
        kernel_size: side ``k`` of the window and factor by which the map shrinks, in pixels.
        grid_size: height and width of the strips in pixels, a multiple of ``kernel_size``; None: ``kernel_size``.
        evaluation: ``"average"`` or ``"expected"``.
    Use: against overfitting: training shifts and distorts maps at random, evaluation takes the average of what it would
        draw. The maximum is taken at every pixel first, so it costs more than max pooling.
    Shape: ``(N, C, H, W) -> (N, C, H // kernel_size, W // kernel_size)``; rows and columns left over are cropped.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Zhai, Wu, Kumar, Cheng, Lu, Zhang and Feris, CVPR 2017.
    """

    rectangles = random = True
    bounded = homogeneous = follows_offset = keeps_sign = True
    variants = (
        {"kernel_size": 3, "grid_size": 6},
        {"grid_size": 4, "evaluation": "expected"},
        {"kernel_size": (3, 2), "grid_size": (6, 2)},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        grid_size: Sides | None = None,
        evaluation: str = "average",
    ):
        super().__init__(channels, kernel_size)
        self.grid_size = self.kernel_size if grid_size is None else self.sides("grid_size", grid_size)
        if any(grid % window for grid, window in zip(pair(self.grid_size), pair(self.kernel_size), strict=True)):
            raise ValueError(
                f"{self._name()}: grid_size must be a multiple of kernel_size {self.kernel_size}, got {grid_size!r}"
            )
        self.evaluation = self.checked("evaluation", evaluation, one_of("average", "expected"))
        self.random = area(self.kernel_size) > 1
        self.stationary = self.grid_size == self.kernel_size or evaluation == "average"
        self.odd = self.kernel_size == 1
        self.dynamic_sizes = evaluation == "average"
        width = pair(self.kernel_size)[1]
        self.mirrors = width == 1 or (width % 2 == 1 and evaluation == "average")

    def pool(self, x: Tensor) -> Tensor:
        size = self.output_size((x.shape[-2], x.shape[-1]))
        if not self.dynamic_sizes:
            refuse_open(x, self, "the chances of its rows are made for the size")
        if self.training:
            rows, columns = (
                self._drawn(n, axis, x.device) + torch.arange(window, device=x.device)[:, None]
                for axis, (n, window) in enumerate(zip(size, pair(self.kernel_size), strict=True))
            )
            return max_of_picked(x, rows[None], columns[None])
        return over_images(self._evaluated, x)[0]

    def _evaluated(self, x: Tensor) -> tuple[Tensor]:
        size, (high, wide) = self.output_size((x.shape[-2], x.shape[-1])), pair(self.kernel_size)
        x = cropped(x, self) if is_open(x) else x[..., : size[0] * high, : size[1] * wide]
        z = F.max_pool2d(x, self.kernel_size, stride=1)
        if self.evaluation == "average":
            border = (high // 2, wide // 2)
            return (F.avg_pool2d(z, self.kernel_size, padding=border, count_include_pad=False),)
        rows, columns = (self._chances(n, axis).to(z) for axis, n in enumerate(size))
        y = torch.einsum("nchw,ih,jw->ncij", z, rows, columns)
        if seen_finite(y[..., 0, 0]):
            return (y,)
        # 0 times infinity: what is not finite may reach only where it has a chance.
        reached = [
            torch.einsum("nchw,ih,jw->ncij", there.to(z.dtype), rows.sign(), columns.sign()) > 0
            for there in (z == math.inf, z == -math.inf, z.isnan())
        ]
        y = torch.einsum("nchw,ih,jw->ncij", torch.where(z.isfinite(), z, 0), rows, columns)
        y = y.masked_fill(reached[0], math.inf).masked_fill(reached[1], -math.inf)
        return (y.masked_fill((reached[0] & reached[1]) | reached[2], math.nan),)

    def _strips(self, out: int, axis: int) -> list[tuple[int, int, int]]:
        """For the ``out`` rows to keep, strip by strip: its first row, its rows, how many of them are kept."""
        g, k = pair(self.grid_size)[axis], pair(self.kernel_size)[axis]
        rows = out * k - k + 1
        return [(s, min(g, rows - s), min(g, out * k - s) // k) for s in range(0, out * k, g)]

    def _drawn(self, out: int, axis: int, device: torch.device) -> Tensor:
        """Which rows of ``z`` are kept, in order."""
        strips, grid = self._strips(out, axis), pair(self.grid_size)[axis]
        if self.generator is None:
            keys = torch.rand(len(strips), grid, device=device)
        else:
            keys = torch.rand(len(strips), grid, device=device, generator=self.generator)
        # Those with the largest of independent numbers are a fair draw without replacement.
        each = grid // pair(self.kernel_size)[axis]
        *full, (first, rows, kept) = strips
        last = keys[-1, :rows].topk(kept).indices.sort().values + first
        if not full:
            return last
        picked = keys[:-1].topk(each).indices.sort(-1).values
        starts = torch.arange(len(full), device=device)[:, None] * grid
        return torch.cat([(picked + starts).flatten(), last])

    def _chances(self, out: int, axis: int) -> Tensor:
        """``(out, rows of z)``: how likely each row is to be the one that is kept, in order."""
        chances = torch.zeros(out, (out - 1) * pair(self.kernel_size)[axis] + 1, dtype=torch.float64, device="cpu")
        done = 0
        for first, rows, kept in self._strips(out, axis):
            for i in range(kept):
                for j in range(rows):
                    ways = math.comb(j, i) * math.comb(rows - 1 - j, kept - 1 - i)
                    chances[done + i, first + j] = float(Fraction(ways, math.comb(rows, kept)))
            done += kept
        return chances

    def flops_per_window(self) -> int:
        # Of evaluation, which does more than training: comparisons in k*k windows, then their average.
        k2 = area(self.kernel_size)
        return k2 * (k2 - 1) + k2

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, grid_size={self.grid_size}, evaluation={self.evaluation!r}"
