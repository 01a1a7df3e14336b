"""Content-aware reassembly: every output pixel averages its surroundings by a kernel predicted for it alone."""

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.checks import whole
from poolbench.pooling.base import Pool, Sides, area, half_before, leading, pair
from poolbench.pooling.parts.infinite import transformed
from poolbench.pooling.parts.tracing import recorded
from poolbench.pooling.parts.windows import CHUNK_BYTES, _wide, is_channels_last, over_windows
from poolbench.pooling.soft import dot


class CarafePool2d(Pool):
    r"""CARAFE++ in its downsampling form: a kernel of ``kernel_size**2`` weights for every output pixel.

    .. math:: y_c = \sum_{i \in R} w_i x_{c,i}, \qquad w = \mathrm{softmax}(\mathrm{encoder}(\mathrm{compressor}(x)))

    A 1x1 convolution compresses the channels, a strided one predicts the kernel, and all channels share it. The window
    is much wider than the step and lies around the pixel at which the step stands. Training and evaluation are alike.

    Settled by two independent ports of the paper, which agree: the encoder has the stride, the softmax goes over the
    cells of the window, and cells outside the map count as zeros, so that the level falls at the border. The encoder
    starts almost at zero, as the authors' code for upsampling does, that is near the average of the window.

    The arithmetic of an output value, for 64 channels and the defaults: 25 multiply-adds for itself, 56 for its share
    of the encoder (``16 * 9 * 25 / 64``) and 64 for its share of the compressor, on the map before it shrinks.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride: window and step in pixels; the window starts ``(kernel_size - 1) // 2`` before the step.
        compressed_channels: channels after the compression. CARAFE++ has 16 for downsampling (64 for upsampling).
        encoder_kernel_size: side of the encoder's convolution, an odd number of pixels.
    Use: where content should decide over a wide neighbourhood, as before dense prediction; most of its arithmetic goes
        into predicting the kernels.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Wang, Chen, Xu, Liu, Loy and Lin, IEEE TPAMI 2022 (CARAFE++).
    """

    rectangles = mixes_channels = keeps_sign = True
    treats_channels_alike = False
    variants = (
        {"kernel_size": 3, "compressed_channels": 4, "encoder_kernel_size": 1},
        {"kernel_size": (3, 2), "stride": (2, 1)},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 5,
        stride: Sides | None = 2,
        compressed_channels: int = 16,
        encoder_kernel_size: int = 3,
    ):
        super().__init__(channels, kernel_size, stride, half_before(self.sides("kernel_size", kernel_size)))
        self.checked("compressed_channels", compressed_channels, whole(1))
        if self.checked("encoder_kernel_size", encoder_kernel_size, whole(1)) % 2 == 0:
            raise ValueError(f"{self._name()}: encoder_kernel_size must be odd, got {encoder_kernel_size}")
        self.compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.encoder = nn.Conv2d(
            compressed_channels, area(self.kernel_size), encoder_kernel_size, self.stride, encoder_kernel_size // 2
        )
        sides = zip(pair(self.kernel_size), pair(self.stride), strict=True)
        self.rim = tuple(-(-window // step) // 2 + 1 for window, step in sides)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start near the average of the window."""
        for convolution in (self.compressor, self.encoder):
            nn.init.zeros_(convolution.bias)
        nn.init.xavier_uniform_(self.compressor.weight)
        nn.init.normal_(self.encoder.weight, std=0.001)

    def pool(self, x: Tensor) -> Tensor:
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        logits = leading(self.encoder(self.compressor(x)), height, width)
        # (K, N, 1, H', W'): laid out as the windows are.
        weights = logits.softmax(1).movedim(1, 0).unsqueeze(2)
        if recorded() or transformed(x):
            return _plain(self, x, weights)
        return _Reassembly.apply(self, x, weights)

    def flops_per_window(self) -> int:
        # Multiply-adds and a bias of the compressor, at each of the pixels that fall to an output, and of the encoder;
        # 5 a cell for the softmax; all shared by the channels. Then the window's own.
        compressed, taps = self.compressor.out_channels, area(self.kernel_size)
        shared = area(self.stride) * compressed * (2 * self.channels + 1) + 5 * taps
        shared += taps * (2 * compressed * area(self.encoder.kernel_size) + 1)
        return round(shared / self.channels) + 2 * taps

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


def _plain(pool: Pool, x: Tensor, weights: Tensor) -> Tensor:
    """What :class:`_Reassembly` does, in operations that torch compiles, exports and differentiates twice."""
    return over_windows(pool, lambda inside, windows, weights: dot(weights, windows), (x,), (weights,))


class _Reassembly(torch.autograd.Function):
    """A few images at a time, cell by cell, with the channels last whatever the map's own order: the windows overlap so
    much that all of them side by side would be six times the map."""

    @staticmethod
    def forward(ctx: Any, pool: Pool, x: Tensor, weights: Tensor) -> Tensor:
        ctx.pool = pool
        ctx.save_for_backward(x, weights)
        wide = _wide(x.dtype)
        height, width = pool.output_size((x.shape[-2], x.shape[-1]))
        memory_format = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        out = torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=memory_format)
        for part in _parts(x):
            cells = _cells(pool, _framed(pool, x[part], wide))
            taps = _taps(weights, part, wide)
            total = cells[0] * taps[0]
            for cell, tap in zip(cells[1:], taps[1:], strict=True):
                total.addcmul_(cell, tap)
            out[part] = total.movedim(-1, 1)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pool, (x, weights), wanted = ctx.pool, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or transformed(gradient):
            with torch.enable_grad():
                views = [one.view_as(one) for one in (x, weights)]
                of = [one for one, yes in zip(views, wanted, strict=True) if yes]
                found = iter(torch.autograd.grad(_plain(pool, *views), of, gradient, create_graph=True))
            return (None, *(next(found) if yes else None for yes in wanted))
        wide = _wide(x.dtype)
        by_x = torch.empty_like(x) if wanted[0] else None
        by_weights = torch.empty_like(weights) if wanted[1] else None
        for part in _parts(x):
            pooled = gradient[part].to(wide).movedim(1, -1).contiguous()
            if by_weights is not None:
                cells, product = _cells(pool, _framed(pool, x[part], wide)), torch.empty_like(pooled)
                for tap, cell in zip(by_weights, cells, strict=True):
                    tap[part, 0] = torch.mul(cell, pooled, out=product).sum(-1)
            if by_x is not None:
                frame = _frame(pool, x[part], wide)
                for cell, tap in zip(_cells(pool, frame), _taps(weights, part, wide), strict=True):
                    cell.addcmul_(pooled, tap)
                kept = _inner(pool, frame, x.shape[2], x.shape[3])
                if kept.shape[1:3] != x.shape[2:]:  # rows and columns that no window meets
                    by_x[part] = 0
                by_x[part, :, : kept.shape[1], : kept.shape[2]] = kept.movedim(-1, 1)
        return None, by_x, by_weights


def _parts(x: Tensor) -> list[slice]:
    """Slices of the batch that fit into the cache."""
    image = x[:1].numel() * torch.finfo(_wide(x.dtype)).bits // 8
    step = len(x) if x.device.type != "cpu" else max(1, CHUNK_BYTES * torch.get_num_threads() // max(1, image))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _frame(pool: Pool, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros ``(N, rows, columns, C)``, as far as the windows of ``x`` reach."""
    geometry = zip(pool.output_size((x.shape[-2], x.shape[-1])), pair(pool.kernel_size), pair(pool.stride), strict=True)
    sides = ((n - 1) * step + window for n, window, step in geometry)
    return x.new_zeros((len(x), *sides, x.shape[1]), dtype=dtype)


def _inner(pool: Pool, frame: Tensor, height: int, width: int) -> Tensor:
    """The part of a frame that is in the map."""
    top, left = pair(pool.padding)
    return frame[:, top : top + height, left : left + width]


def _framed(pool: Pool, x: Tensor, dtype: torch.dtype) -> Tensor:
    frame = _frame(pool, x, dtype)
    kept = _inner(pool, frame, x.shape[2], x.shape[3])
    kept.copy_(x[:, :, : kept.shape[1], : kept.shape[2]].movedim(1, -1))
    return frame


def _cells(pool: Pool, frame: Tensor) -> list[Tensor]:
    """Views ``(N, H', W', C)`` of a frame: of all windows the first cell, then the second, row by row."""
    (high, wide), (down, right) = pair(pool.kernel_size), pair(pool.stride)
    rows, columns = frame.shape[1] - high + 1, frame.shape[2] - wide + 1
    return [frame[:, i : i + rows : down, j : j + columns : right] for i in range(high) for j in range(wide)]


def _taps(weights: Tensor, part: slice, dtype: torch.dtype) -> list[Tensor]:
    """Of each cell ``(N, H', W', 1)``."""
    return [tap.movedim(1, -1) for tap in weights[:, part].to(dtype)]
