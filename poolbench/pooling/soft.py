"""Softmax-weighted average of each window: strong activations dominate, weak ones still learn."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.windows import over_windows

GRADIENTS = ("exact", "published")


class SoftPool2d(Pool):
    r"""Average of each window weighted by the softmax of its own activations.

    .. math:: y = \sum_{i \in R} \frac{e^{x_i / T}}{\sum_{j \in R} e^{x_j / T}} \, x_i

    Between average and maximum: tends to the average as the temperature ``T`` grows and to the maximum as it falls
    to 0. Each window is shifted by its own maximum, so no activation is too large for it. The gradient of a cell is
    negative where it lies more than ``T`` below ``y``: lowering it takes weight from it.

    The authors' kernels (SoftPool, pytorch/CUDA/softpool_cuda_kernel.cu) give another gradient than this derivative:
    they hold the weights constant, so that each cell gets its weight of the output's gradient, and none is negative.
    For the window 0, 1, 2, 4 that is .015, .041, .112, .831, where the derivative is -.039, -.066, -.066, 1.172.
    ``gradient="published"`` does the same; what the paper reports was trained so.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        temperature: ``T`` > 0, in units of the activations; where the learning starts if it is learned. The paper has
            1.
        learnable: ``False``, ``"layer"`` (one temperature for all channels) or ``"channel"`` (one each).
        gradient: ``"exact"``, the derivative, or ``"published"``, the authors'; then the temperature is fixed.
    Use: as a drop-in between average and maximum without parameters, after a normalisation, since the scale of
        activations decides how close to the maximum it is.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Stergiou, Poppe and Kalliatakis, ICCV 2021.
    """

    rectangles = bounded = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"temperature": 0.25, "kernel_size": 3, "padding": 1},
        {"learnable": "channel"},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    )
    # gradient="published" is no variant: the contract holds gradients to the function.

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        temperature: float = 1.0,
        learnable: bool | str = False,
        gradient: str = "exact",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.gradient = self.checked("gradient", gradient, one_of(*GRADIENTS))
        if learnable and gradient == "published":
            raise ValueError(
                f"{self._name()}: gradient='published' holds the weights constant, so that no temperature could be "
                f"learned, got learnable={learnable!r}"
            )
        self.start = float(self.checked("temperature", temperature, number(least=0, open=True)))
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        if learnable:
            # The logarithm of it is learned, so that it stays above 0.
            self.log_temperature = nn.Parameter(torch.empty(1 if learnable == "layer" else channels))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Put a learned temperature back to where it starts."""
        if self.learnable:
            with torch.no_grad():
                self.log_temperature.fill_(self.start).log_()

    def pool(self, x: Tensor) -> Tensor:
        if self.learnable:
            temperature = self.log_temperature.exp().view(1, -1, 1, 1)
            return over_windows(self, _soft_average, (x,), (temperature,), _slopes, _limits)
        formulas = (_soft_average, _slope, _limits) if self.gradient == "exact" else (_held, _held_slope, _held_limits)
        combine, slope, limits = (partial(f, temperature=self.start) for f in formulas)
        return over_windows(self, combine, (x,), slope=slope, limits=limits)

    def flops_per_window(self) -> int:
        # Per cell a comparison, a subtraction, a division by T, an exponential, a product and two sums; a division.
        return area(self.kernel_size) * 7 - 2

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, temperature={self.start}, learnable={self.learnable}, gradient={self.gradient!r}"
        )


def exponentials(inside: Tensor | None, logits: Tensor) -> Tensor:
    """``e`` to the logits ``(K, ...)``, each window shifted by its maximum; 0 outside the map. The parts of a softmax:
    dividing what is summed with them costs a pass less than dividing them."""
    if inside is not None:
        logits = logits.masked_fill(~inside, -torch.inf)
    return (logits - logits.detach().amax(0)).exp_()  # the shift cancels, so it needs no gradient


def limit_exponentials(inside: Tensor | None, logits: Tensor) -> Tensor:
    """:func:`exponentials` of logits that may be infinite: beside plus infinity the others vanish, minus infinity
    vanishes beside any other, and infinities alike weigh alike."""
    if inside is not None:
        logits = logits.masked_fill(~inside, -torch.inf)
    peak = logits.detach().amax(0)
    endless = peak.isinf()
    among = torch.zeros_like(logits).masked_fill(logits != peak, -torch.inf)
    powers = torch.where(endless, among, logits - peak.masked_fill(endless, 0)).exp()
    return powers if inside is None else powers * inside


def limit_average(powers: Tensor, windows: Tensor) -> Tensor:
    """Average weighted by ``powers``; what weighs nothing does not count, infinities neither."""
    return dot(powers, windows.masked_fill(powers == 0, 0)) / powers.sum(0)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of ``a * b`` over axis 0, without a map of the products."""
    (first, *others), (its, *theirs) = a.unbind(0), b.unbind(0)
    total = first * its
    for one, other in zip(others, theirs, strict=True):
        total = torch.addcmul(total, one, other)
    return total


def cells_of(logits: Tensor, inside: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
    """The logits ``(K, ...)`` cell by cell, minus infinity outside the map, and the largest of each window."""
    if inside is not None:
        logits = logits.masked_fill(~inside, -torch.inf)
    return logits.unbind(0), logits.amax(0)


def average(powers: Iterable[Tensor], windows: Tensor) -> tuple[Tensor, Tensor]:
    """The average of ``windows`` weighted by ``powers``, and the sum of these, which are given, and written into, one
    cell after the other: so they stay in the cache. For where torch need not differentiate it."""
    powers, (first, *others) = iter(powers), windows.unbind(0)
    total = next(powers)
    weighed = total * first
    for power, cell in zip(powers, others, strict=True):
        total.add_(power)
        weighed.addcmul_(power, cell)
    return weighed.div_(total), total


def _exponentials(inside: Tensor | None, windows: Tensor, temperature: Tensor | float) -> Tensor:
    return exponentials(
        inside, windows if isinstance(temperature, float) and temperature == 1 else windows / temperature
    )


def _soft_average(inside: Tensor | None, windows: Tensor, temperature: Tensor | float) -> Tensor:
    powers = _exponentials(inside, windows, temperature)
    return dot(powers, windows) / powers.sum(0)


def _limits(inside: Tensor | None, windows: Tensor, temperature: Tensor | float) -> Tensor:
    endless = windows.isinf()
    # Not divided, since the gradient by the temperature would be infinite times 0.
    logits = torch.where(endless, windows, windows.masked_fill(endless, 0) / temperature)
    return limit_average(limit_exponentials(inside, logits), windows)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, temperature: float) -> tuple[Tensor]:
    powers = _exponentials(inside, windows, temperature)
    total = powers.sum(0)
    y = dot(powers, windows) / total
    above = windows - (y - temperature)
    return (above.mul_(powers.mul_(gradient / (temperature * total))),)


def _held(inside: Tensor | None, windows: Tensor, temperature: float) -> Tensor:
    """The average whose weights have no gradient."""
    powers = _exponentials(inside, windows.detach(), temperature)
    return dot(powers, windows) / powers.sum(0)


def _held_limits(inside: Tensor | None, windows: Tensor, temperature: float) -> Tensor:
    return limit_average(limit_exponentials(inside, windows.detach() / temperature), windows)


def _held_slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, temperature: float) -> tuple[Tensor]:
    powers = _exponentials(inside, windows, temperature)
    return (powers.mul_(gradient / powers.sum(0)),)


def _slopes(gradient: Tensor, inside: Tensor | None, windows: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    powers = _exponentials(inside, windows, temperature)
    total = powers.sum(0)
    above = windows - dot(powers, windows) / total
    weights = powers.mul_(gradient / total)
    pull = weights * above
    by_temperature = dot(pull, above) / -(temperature * temperature)
    return weights.add_(pull.div_(temperature)), by_temperature
