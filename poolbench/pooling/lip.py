"""Average of each window weighted by the exponential of learned logits: the net learns what is worth keeping."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import number, one_of, whole
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot, exponentials, limit_average, limit_exponentials


class LipPool2d(Pool):
    r"""Local importance-based pooling: an average whose weights a small net reads off the map.

    .. math:: y = \frac{\sum_{i \in R} e^{g_i} x_i}{\sum_{i \in R} e^{g_i}}, \qquad g = G(x)

    Each channel has its own weights. ``G`` is one of four:

    - ``"projection"``: 3x3 convolution, instance normalisation, gate;
    - ``"bottleneck"``: 1x1 down, 3x3, 1x1 up, each with instance normalisation, ReLU between, gate;
    - ``"conv1x1"``: a 1x1 convolution alone;
    - ``"identity"``: the map itself, which makes it :class:`~poolbench.pooling.soft.SoftPool2d`.

    The gate ``gate * sigmoid(.)`` bounds the ratio of two weights by ``exp(gate)``. The last convolution starts at
    zero, so that ``y`` starts as the average of the window and the operator says of itself what the average may say;
    once trained it mixes channels. The normalisation is the same in training and evaluation, and is left out on a map
    of one pixel, where it has no meaning. Kernel 2 is ours: the paper has 3 with padding 1.

    The cost is that of ``G``, which runs on the map before it shrinks: ``stride**2`` times ``9 C`` multiply-adds for
    an output value of the projection (2304 for 64 channels and stride 2, four times a strided convolution).

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        logits: ``"projection"``, ``"bottleneck"``, ``"conv1x1"`` or ``"identity"``.
        width: channels inside the bottleneck.
        gate: largest difference of two logits after the gate, above 0.
    Use: where learned importance may cost more than a strided convolution does; compare with a control of the same
        cost, since nearly all of its weights are a 3x3 convolution's.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Gao, Wang and Wu, ICCV 2019.
    """

    rectangles = bounded = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"logits": "bottleneck", "width": 2},
        {"logits": "conv1x1", "kernel_size": 3, "padding": 1},
        {"logits": "identity"},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        logits: str = "projection",
        width: int = 128,
        gate: float = 12.0,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.logits = self.checked("logits", logits, one_of("projection", "bottleneck", "conv1x1", "identity"))
        self.width = self.checked("width", width, whole(1))
        self.gate = float(self.checked("gate", gate, number(least=0, open=True)))
        self.gated = logits in ("projection", "bottleneck")
        self.odd = self.homogeneous = logits != "identity"  # as long as it is an average
        self.layers = nn.ModuleList()
        # No biases: the normalisation or the softmax takes them out.
        if logits == "projection":
            self.layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
            self.layers.append(_instance_norm(channels))
        elif logits == "bottleneck":
            for i, (fan_in, fan_out) in enumerate([(channels, width), (width, width), (width, channels)]):
                size = 3 if i == 1 else 1
                self.layers.append(nn.Conv2d(fan_in, fan_out, size, padding=size // 2, bias=False))
                self.layers.append(_instance_norm(fan_out))
        elif logits == "conv1x1":
            self.layers.append(nn.Conv2d(channels, channels, 1, bias=False))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the average: the last convolution at zero."""
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        for layer in convolutions[:-1]:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        for layer in convolutions[-1:]:
            nn.init.zeros_(layer.weight)

    def pool(self, x: Tensor) -> Tensor:
        self.output_size((x.shape[-2], x.shape[-1]))  # before the layers meet a map that cannot be served
        return softmax_average(self, x, self._scores(x), self.gate if self.gated else None)

    def _scores(self, x: Tensor) -> Tensor:
        one_pixel = x.shape[-2] == 1 and x.shape[-1] == 1  # nor asks an export whether the map is square
        g = x
        for i, layer in enumerate(self.layers):
            if isinstance(layer, nn.Conv2d):
                g = layer(F.relu(g) if i else g)
            elif not one_pixel:
                g = layer(g)
        return g

    def flops_per_window(self) -> int:
        # Of the logits, at each of the cells that fall to an output: multiply-adds, 8 for a normalisation (mean,
        # variance, scale and shift), 1 for a ReLU, 4 for the gate.
        logits = 0.0
        for i, layer in enumerate(self.layers):
            share = 1.0 if self.logits != "bottleneck" or i >= 4 else self.width / self.channels
            if isinstance(layer, nn.Conv2d):
                logits += share * 2 * layer.in_channels * area(layer.kernel_size)
            else:
                logits += share * 9 if i < len(self.layers) - 1 else 12
        # Of the weighted average: a comparison, a shift, an exponential, a product and two sums a cell; a division.
        return round(area(self.stride) * logits) + area(self.kernel_size) * 6 - 2

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, logits={self.logits!r}, width={self.width}, gate={self.gate}"


def softmax_average(pool: Pool, x: Tensor, scores: Tensor, gate: float | None = None) -> Tensor:
    """Average of each window of ``x`` ``(N, C, H, W)`` weighted by the softmax of ``scores`` ``(N, C or 1, H, W)``,
    which first pass a gate from 0 to ``gate`` if there is one."""
    combine, slope, limits = (partial(f, gate=gate) for f in (_average, _slope, _limits))
    return over_windows(pool, combine, (x, scores), slope=slope, limits=limits)


def _powers(inside: Tensor | None, scores: Tensor, gate: float | None) -> Tensor:
    return exponentials(inside, scores if gate is None else gate * scores.sigmoid())


def _average(inside: Tensor | None, windows: Tensor, scores: Tensor, gate: float | None) -> Tensor:
    powers = _powers(inside, scores, gate)
    return dot(powers, windows) / powers.sum(0)


def _limits(inside: Tensor | None, windows: Tensor, scores: Tensor, gate: float | None) -> Tensor:
    return limit_average(limit_exponentials(inside, scores if gate is None else gate * scores.sigmoid()), windows)


def _slope(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, scores: Tensor, gate: float | None
) -> tuple[Tensor, Tensor]:
    powers = _powers(inside, scores, gate)
    total = powers.sum(0)
    above = windows - dot(powers, windows) / total
    if gate is not None:
        passed = scores.sigmoid()
        above.mul_((1 - passed).mul_(passed).mul_(gate))
    weights = powers * (gradient / total)
    return weights, above.mul_(weights)


def _instance_norm(channels: int) -> nn.GroupNorm:
    # One group a channel is instance normalisation; unlike nn.InstanceNorm2d it keeps the memory format.
    return nn.GroupNorm(channels, channels)
