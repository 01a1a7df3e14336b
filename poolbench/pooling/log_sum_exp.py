"""Smooth maximum of each window: the logarithm of the mean of exponentials."""

from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.infinite import seen_finite
from poolbench.pooling.parts.windows import over_windows


class LogSumExpPool2d(Pool):
    r"""Logarithm of the mean exponential, a convex function between average and maximum.

    .. math:: y = \frac{1}{r} \log \frac{1}{|R|} \sum_{i \in R} e^{r x_i}

    Tends to the average as the sharpness ``r`` falls to 0 and to the maximum as it grows. Its gradient is the softmax
    of the window, never negative, unlike that of ``soft``. With the mean in place of the sum that gives the operator
    its name a constant map is kept. Shifted by each window's maximum, so that nothing overflows.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        sharpness: ``r`` > 0, in units of 1 over the activations'; where the learning starts if it is learned.
        learnable: ``False``, ``"layer"`` (one ``r`` for all channels) or ``"channel"`` (one each).
    Use: as a smooth maximum whose gradient reaches all cells and is never negative.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Boureau, Ponce and LeCun, ICML 2010; as pooling in a CNN: Pinheiro and Collobert, CVPR 2015.
    """

    rectangles = bounded = follows_offset = keeps_sign = mirrors = True
    variants = ({"sharpness": 5.0, "kernel_size": 3, "padding": 1}, {"learnable": "channel"})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        sharpness: float = 1.0,
        learnable: bool | str = False,
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.start = float(self.checked("sharpness", sharpness, number(least=0, open=True)))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        if learnable:
            # The logarithm of it is learned, so that it stays above 0.
            self.log_sharpness = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned sharpness back to where it starts."""
        if self.learnable:
            with torch.no_grad():
                self.log_sharpness.fill_(self.start).log_()

    def pool(self, x: Tensor) -> Tensor:
        if self.learnable:
            sharpness = self.log_sharpness.exp().view(1, -1, 1, 1)
            return over_windows(self, _smooth_maximum, (x,), (sharpness,), _learned_slope, _limits)
        combine, slope, limits = (partial(f, sharpness=self.start) for f in (_smooth_maximum, _slope, _limits))
        return over_windows(self, combine, (x,), slope=slope, limits=limits)

    def flops_per_window(self) -> int:
        # Per cell a comparison, difference, product, exponential, addition; then two divisions, a logarithm, a sum.
        return area(self.kernel_size) * 5 - 2 + 4

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sharpness={self.start}, learnable={self.learnable}"


def _smooth_maximum(inside: Tensor | None, windows: Tensor, sharpness: Tensor | float) -> Tensor:
    if inside is not None:
        windows = windows.masked_fill(~inside, -torch.inf)
    peak = windows.amax(0).detach()  # any number would do: it cancels, from the derivatives too
    total = ((windows - peak) * sharpness).exp().sum(0)
    return peak + (total / (len(windows) if inside is None else inside.sum(0))).log() / sharpness


def _limits(inside: Tensor | None, windows: Tensor, sharpness: Tensor | float) -> Tensor:
    count = len(windows)
    if inside is not None:
        windows, count = windows.masked_fill(~inside, -torch.inf), inside.sum(0)
    highest = windows.amax(0)
    endless = highest.isinf()
    gone = windows.isinf() | endless
    away = windows.masked_fill(gone, 0) - highest.detach().masked_fill(endless, 0)
    total = (away * sharpness).masked_fill(gone, -torch.inf).exp().sum(0).masked_fill(endless, 1)
    return torch.where(endless, highest, highest.detach() + (total / count).log() / sharpness)


def _weights(inside: Tensor | None, windows: Tensor, sharpness: Tensor | float) -> Tensor:
    logits = windows * sharpness
    return (logits if inside is None else logits.masked_fill(~inside, -torch.inf)).softmax(0)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, sharpness: float) -> tuple[Tensor]:
    return (_weights(inside, windows, sharpness).mul_(gradient),)


def _learned_slope(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, sharpness: Tensor
) -> tuple[Tensor, Tensor]:
    weights = _weights(inside, windows, sharpness)
    # dy/dr = (the softmax-weighted average - y) / r
    average = (weights * windows).sum(0)
    if not seen_finite(average):
        average = (weights * windows.masked_fill(weights == 0, 0)).sum(0)
    by_sharpness = average.sub_(_smooth_maximum(inside, windows, sharpness)).div_(sharpness)
    return weights.mul_(gradient), by_sharpness.mul_(gradient)
