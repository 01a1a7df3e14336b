"""Spectral pooling: keep the low frequencies of a map, drop the others, transform back."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.accelerator import widest
from poolbench.checks import Rule, is_whole, number, one_of, wholes
from poolbench.pooling.base import Pool, refuse_open
from poolbench.pooling.parts.filters import LARGEST_MATRIX, separable

NORMS = ("forward", "ortho", "backward")
NYQUIST = ("average", "zero", "energy", "real")


def _is_output(value: Any) -> bool:
    return value is None or is_whole(value, 1) or wholes(2).allowed(value)


_OUTPUT = Rule(_is_output, "a side or two, whole numbers of at least 1")


class SpectralPool2d(Pool):
    r"""Discrete Fourier transform of each map, cut to its lowest frequencies, and back.

    .. math:: y = \mathcal{F}_{h \times w}^{-1}\big(\mathrm{crop}_{h \times w}(\mathcal{F}_{H \times W}(x))\big)

    Linear; what is lost is the finest detail, and the output size is free. The map is taken to go on periodically, and
    edges ring: an output may leave the range of the input, below 0 too, so a ReLU after it is not idle.

    At an even output side its highest frequency ``h / 2`` has two halves in the input, of which one place is left. The
    paper zeroes the imaginary parts of four entries; four conventions are in use, by ``nyquist``: the ``"average"`` of
    the two; ``"zero"``, with which a shift of the input by any number of pixels leaves the output's energy as it is;
    ``"energy"``, their sum over root 2; ``"real"``, one alone (the negative and the positive give the same) and the
    real part of the result, which is frequency low-cut pooling as in its authors' present code (in their first the
    modulus). It differs from the average by the one entry that both sides' highest frequencies share, and is the
    only one that does not treat a map and its mirror image about the first pixel alike.

    Frequency dropout: in training a highest frequency is drawn anew in every forward pass, uniformly from
    ``dropout_min`` times the output's highest up to that, and what lies above it, in either direction, is dropped.

    Both transforms are one small matrix for rows and one for columns, which is faster up to 128 pixels a side; larger
    maps go through the fast Fourier transform.

    Args:
        channels: channels ``C`` of the input.
        ratio: by how much a side shrinks, at least 1, any number: ``H' = max(1, int(H / ratio))``.
        output: side, or ``(H', W')``, of the output in pixels, in place of ``ratio``.
        norm: of the transforms: ``"forward"`` keeps the level of a map, ``"ortho"`` (unitary, as in the paper)
            multiplies it by the root of ``H W / (h w)``, ``"backward"`` by that ratio.
        nyquist: ``"average"``, ``"zero"``, ``"energy"`` or ``"real"``.
        dropout_min: share of the band that is never dropped, 0 to 1; 1 is no dropout.
    Use: for any output size, for keeping as much of a map's coarse content as it can hold, and with frequency dropout
        as a regulariser; it rings at edges.
    Shape: ``(N, C, H, W) -> (N, C, H', W')``.
    Raises: ValueError naming the option for a value that is not allowed, or for a map smaller than the output.
    Source: Rippel, Snoek and Adams, NIPS 2015; ``nyquist="real"``: Grabinski, Jung, Keuper and Keuper, ECCV 2022 (FLC).
    """

    why_square = "its ratio shrinks rows and columns alike"
    odd = homogeneous = follows_offset = True
    dynamic_sizes = False
    variants = (
        {"nyquist": "real"},
        {"ratio": 1.25, "nyquist": "energy", "norm": "ortho"},
        {"dropout_min": 0.3, "nyquist": "zero"},
    )

    def __init__(
        self,
        channels: int,
        ratio: float = 2.0,
        output: int | Sequence[int] | None = None,
        norm: str = "forward",
        nyquist: str = "average",
        dropout_min: float = 1.0,
    ):
        super().__init__(channels, kernel_size=1, stride=1)
        self._ratio = float(self.checked("ratio", ratio, number(least=1)))
        self.checked("output", output, _OUTPUT)
        self.output = (output, output) if isinstance(output, int) else tuple(output) if output else None
        self.norm = self.checked("norm", norm, one_of(*NORMS))
        self.nyquist = self.checked("nyquist", nyquist, one_of(*NYQUIST))
        self.dropout_min = float(self.checked("dropout_min", dropout_min, number(least=0, most=1)))
        self.random = dropout_min < 1
        self.keeps_constants = self.follows_offset = norm == "forward" or (ratio == 1 and output is None)
        if output is not None or not float(ratio).is_integer():
            self.stationary = False
        else:
            self.stride = int(ratio)

    @property
    def ratio(self) -> float | None:
        return None if self.output else self._ratio

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = self.output or (int(side / self._ratio + 1e-9) for side in size)
        if not (1 <= height <= size[0] and 1 <= width <= size[1]):
            raise ValueError(
                f"{self._name()}: a map of {size[0]}x{size[1]} pixels is smaller than its output of {height}x{width} "
                "or than a pixel of it"
            )
        return height, width

    def pool(self, x: Tensor) -> Tensor:
        refuse_open(x, self, "its transforms are matrices made for the size")
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        share = self._band(x)
        if max(x.shape[-2:]) > LARGEST_MATRIX:
            return self._by_transform(x, height, width, share)
        rows, columns = (
            self._matrix(side, n, share, x.device) for side, n in zip(x.shape[-2:], (height, width), strict=True)
        )
        y = separable(x, rows, columns)
        if self.nyquist == "real" and not (height % 2 or width % 2) and height < x.shape[-2] and width < x.shape[-1]:
            # The only part of the product of two imaginary parts that is not cancelled: a checkerboard.
            rows, columns = (
                self._imaginary(side, n, share, x.device) for side, n in zip(x.shape[-2:], (height, width), strict=True)
            )
            y = y - separable(x, rows, columns)
        return y

    def _band(self, x: Tensor) -> Tensor | None:
        """The share of the output's band that is kept; None for all of it."""
        if not (self.random and self.training):
            return None
        options = {} if self.generator is None else {"generator": self.generator}
        drawn = torch.rand((), dtype=widest(x.device), device=x.device, **options)
        return self.dropout_min + (1 - self.dropout_min) * drawn

    def _matrix(self, side: int, n: int, share: Tensor | None, device: torch.device) -> Tensor:
        """``(n, side)``: both transforms and the cut between them, of a row; real, since the halves of each frequency
        are conjugate."""
        dtype = widest(device)
        k = torch.arange(n // 2 + 1, dtype=dtype, device=device)
        weight = torch.full_like(k, 2.0)
        weight[0] = 1.0
        if n % 2 == 0:
            weight[-1] = {"average": 1.0, "real": 1.0, "zero": 0.0, "energy": math.sqrt(2)}[self.nyquist]
            if n == side:
                weight[-1] = 1.0  # nothing is cut
        if share is not None:
            weight = weight * (k <= share * (n / 2))
        after, before = (2 * math.pi * torch.arange(m, dtype=dtype, device=device)[:, None] * k / m for m in (n, side))
        y = (after.cos() * weight) @ before.cos().T + (after.sin() * weight) @ before.sin().T
        return y * (self._gain(side, n) / side)

    def _imaginary(self, side: int, n: int, share: Tensor | None, device: torch.device) -> Tensor:
        """``(n, side)``: what the frequency ``-n / 2`` without its other half leaves as imaginary part."""
        dtype = widest(device)
        signs = 1.0 - 2.0 * (torch.arange(n, dtype=dtype, device=device) % 2)
        wave = (math.pi * n / side * torch.arange(side, dtype=dtype, device=device)).sin()
        y = signs[:, None] * wave * (self._gain(side, n) / side)
        return y if share is None else y * (share >= 1)

    def _gain(self, side: int, n: int) -> float:
        return {"forward": 1.0, "ortho": math.sqrt(side / n), "backward": side / n}[self.norm]

    def _by_transform(self, x: Tensor, height: int, width: int, share: Tensor | None) -> Tensor:
        wide = x.dtype if x.dtype == torch.float64 else torch.float32  # others have no transform on CPUs
        spectrum = torch.fft.fft2(x.to(wide), norm="forward")
        for axis, n in ((2, height), (3, width)):
            spectrum = self._cut(spectrum, axis, n, share)
        gain = self._gain(x.shape[-2], height) * self._gain(x.shape[-1], width)
        y = torch.fft.ifft2(spectrum, norm="forward").real * gain
        memory_format = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        return y.to(x.dtype).contiguous(memory_format=memory_format)

    def _cut(self, spectrum: Tensor, axis: int, n: int, share: Tensor | None) -> Tensor:
        side = spectrum.shape[axis]
        if n < side:
            low, high = spectrum.narrow(axis, 0, (n + 1) // 2), spectrum.narrow(axis, side - n // 2, n // 2)
            if n % 2 == 0:
                own, other = high.narrow(axis, 0, 1), spectrum.narrow(axis, n // 2, 1)
                both = own + other
                edge = {"average": both / 2, "energy": both / math.sqrt(2), "zero": both * 0, "real": own}[self.nyquist]
                high = torch.cat([edge, high.narrow(axis, 1, n // 2 - 1)], axis)
            spectrum = torch.cat([low, high], axis)
        if share is None:
            return spectrum
        k = torch.fft.fftfreq(n, 1 / n, dtype=widest(spectrum.device), device=spectrum.device).abs()
        kept = (k <= share * (n / 2)).to(spectrum.dtype)
        return spectrum * kept.view([-1 if one == axis else 1 for one in range(4)])

    def flops(self, size: tuple[int, int]) -> int:
        """Of the two small matrix products, or of three-halves of ``5 n log2 n`` a transform where these are used."""
        height, width = self.output_size(size)
        if max(size) > LARGEST_MATRIX:
            before, after = size[0] * size[1], height * width
            return round(self.channels * 5 * (before * math.log2(before) + after * math.log2(max(2, after))))
        return self.channels * 2 * (height * size[0] * size[1] + height * width * size[1])

    def extra_repr(self) -> str:
        size = f"output={self.output}" if self.output else f"ratio={self._ratio:g}"
        text = f"norm={self.norm!r}, nyquist={self.nyquist!r}, dropout_min={self.dropout_min:g}"
        return f"{size}, stride={self.stride}, {text}"
