"""Content-aware reassembly: every output pixel averages its surroundings by a kernel predicted for it alone."""

from torch import Tensor, nn

from poolbench.checks import whole
from poolbench.pooling.base import Pool, Sides, area, half_before, leading, pair
from poolbench.pooling.parts.windows import over_windows
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
        return over_windows(self, _weighted, (x,), (weights,), _slopes)

    def flops_per_window(self) -> int:
        # Multiply-adds and a bias of the compressor, at each of the pixels that fall to an output, and of the encoder;
        # 5 a cell for the softmax; all shared by the channels. Then the window's own.
        compressed, taps = self.compressor.out_channels, area(self.kernel_size)
        shared = area(self.stride) * compressed * (2 * self.channels + 1) + 5 * taps
        shared += taps * (2 * compressed * area(self.encoder.kernel_size) + 1)
        return round(shared / self.channels) + 2 * taps

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


def _weighted(inside: Tensor | None, windows: Tensor, weights: Tensor) -> Tensor:
    return dot(weights, windows)  # cells outside the map are zeros


def _slopes(gradient: Tensor, inside: Tensor | None, windows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return weights * gradient, windows * gradient
