"""Windows whose grid does not always begin at the same border: no row or column is always the one left over."""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, average_windows, is_open, leading, max_windows, pair
from poolbench.pooling.parts.infinite import may_look


class BalancedStridePool2d(Pool):
    r"""Maximum (or average) of windows that leave out rows and columns now at one border, now at the other.

    .. math:: y_{ij} = \max_{0 \le p, q < k} x_{si + p + a,\, sj + q + b}, \qquad a, b \in \{-P, \ldots, u - P\}

    A side of ``n`` pixels, padded by ``P``, has :math:`u = n + 2P - k - s(n' - 1)` lines more than its ``n'`` windows
    read. Usually these are always the last ones: 3x3 windows of stride 2 read the padding of an even map above and
    left only, 2x2 windows never read the last row of an odd map. A net learns that, for the sizes that it was trained
    on. Here training draws ``a`` and ``b`` anew for each batch, all values equally likely. Where windows would pass
    the end, so that ``u`` is below 0, it is drawn at which end they do.

    Train and eval: evaluation draws nothing. There the first pool of a net and every other one begin at the first
    line, those between at the last possible one, so that what is left out does not add up. A pool alone counts as
    the first.

    The authors put the rule, SBPool, around any operator with a stride. It is written here from the paper's abstract
    and a public reproduction; the order of the sites in evaluation is ours.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window ``k``, step ``s`` and border ``P`` in pixels, see
            :class:`~poolbench.pooling.base.Pool`. The default is the pool of residual nets, which leaves a line over at
            even sizes; windows of 2x2 do at odd sizes only, and are ``max`` at even ones. A window of 1 is
            ``subsample`` with a drawn phase.
        mode: ``"max"`` or ``"average"``.
    Use: where a net will see images of other sizes than in training, or shifted ones.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed, or for a map that is too small.
    Source: Alsallakh, Yan, Kokhlikyan, Miglani, Reblitz-Richardson and Bhattacharya, ICLR 2023.
    """

    rectangles = random = True
    bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = ({"mode": "average"}, {"kernel_size": 5, "padding": 2, "stride": 3}, {"kernel_size": 1, "padding": 0})

    # Which pool of its net it is, from 0: who builds the net says so.
    site = 0

    def __init__(
        self, channels: int, kernel_size: Sides = 3, stride: Sides | None = 2, padding: Sides = 1, mode: str = "max"
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.mode = self.checked("mode", mode, one_of("max", "average"))
        self.odd = mode == "average" or area(self.kernel_size) == 1

    def pool(self, x: Tensor) -> Tensor:
        if self.training:
            return self._starting_at(x, *self._drawn(x))
        if self.site % 2 == 0:
            return max_windows(x, self) if self.mode == "max" else average_windows(x, self)
        starts = tuple(spare - border for spare, border in zip(self._spares(x), pair(self.padding), strict=True))
        if is_open(x):
            return self._picked(x, starts)
        return self._starting_at(x, *starts)

    def _sides(self, x: Tensor) -> list[tuple[int, int]]:
        """Pixels and windows along rows and columns."""
        size = (x.shape[-2], x.shape[-1])
        return list(zip(size, self.output_size(size), strict=True))

    def _spares(self, x: Tensor) -> list[int]:
        """``u`` of rows and columns: how many padded lines no window reads; below 0, by how many the last one passes
        them."""
        geometry = zip(self._sides(x), *map(pair, (self.kernel_size, self.stride, self.padding)), strict=True)
        return [side + 2 * border - (n - 1) * step - window for (side, n), window, step, border in geometry]

    def _drawn(self, x: Tensor) -> tuple[Tensor | int, Tensor | int]:
        """Where the first row and column of windows start: numbers, or tensors where nobody may look at what was
        drawn."""
        options = {} if self.generator is None else {"generator": self.generator}
        shares = torch.rand(2, device=x.device, **options)
        found = shares.tolist() if may_look(x) else shares.unbind()
        starts = []
        for share, spare, border in zip(found, self._spares(x), pair(self.padding), strict=True):
            chosen = share * (abs(spare) + 1)
            chosen = chosen.long() if isinstance(chosen, Tensor) else int(chosen)
            starts.append((chosen if spare >= 0 else -chosen) - border)
        return starts[0], starts[1]

    def _starting_at(self, x: Tensor, top: Tensor | int, left: Tensor | int) -> Tensor:
        """The windows of which the first one starts at this row and column."""
        if isinstance(top, Tensor) or isinstance(left, Tensor):
            return self._picked(x, (top, left))
        k, s = pair(self.kernel_size), pair(self.stride)
        outputs = [n for _, n in self._sides(x)]
        before = [max(0, -top), max(0, -left)]
        passing = [
            start + (n - 1) * step + window - side
            for start, (side, n), window, step in zip((top, left), self._sides(x), k, s, strict=True)
        ]
        # Torch's own operators pad both ends alike, and clip a last window that passes by less than a step.
        beyond = [after - pad for after, pad in zip(passing, before, strict=True)]
        if any(pad > window // 2 for pad, window in zip(before, k, strict=True)) or any(
            pad >= step for pad, step in zip(beyond, s, strict=True)
        ):
            return self._bordered(x, (-left, passing[1], -top, passing[0]))
        if max(top, left) > 0:
            x = F.pad(x, (-max(0, left), 0, -max(0, top), 0))
        ceil_mode = max(beyond) > 0
        if self.mode == "max":
            y = F.max_pool2d(x, k, s, before, ceil_mode=ceil_mode)
        else:
            y = F.avg_pool2d(x, k, s, before, ceil_mode, count_include_pad=False)
        return leading(y, *outputs)

    def _bordered(self, x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
        """The same for windows that pass the map further than torch's own operators allow."""
        k, s = self.kernel_size, self.stride
        if self.mode == "max":
            return F.max_pool2d(F.pad(x, pads, value=-math.inf), k, s)
        share = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), pads), k, s)
        return F.avg_pool2d(F.pad(x, pads), k, s) / share

    def _picked(self, x: Tensor, starts: tuple[Tensor | int, Tensor | int]) -> Tensor:
        """The same for starts that nobody may look at: rows, then columns, by their numbers."""
        nothing = -math.inf if self.mode == "max" else 0.0
        windows, steps = pair(self.kernel_size), pair(self.stride)
        for axis, start, (side, n), window, step in zip((2, 3), starts, self._sides(x), windows, steps, strict=True):
            place = torch.arange(n, device=x.device) * step + start
            place = place + torch.arange(window, device=x.device)[:, None]
            inside = (place >= 0) & (place < side)
            place = place.clamp(min=0).minimum(torch.full_like(place, side - 1))
            cells = [
                torch.where(there[:, None] if axis == 2 else there, x.index_select(axis, one), nothing)
                for one, there in zip(place, inside, strict=True)
            ]
            if self.mode == "max":
                x = reduce(torch.maximum, cells)
            else:
                count = inside.sum(0)
                x = reduce(torch.add, cells) / (count[:, None] if axis == 2 else count)
        return x

    def flops_per_window(self) -> int:
        return area(self.kernel_size) - (self.mode == "max")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
