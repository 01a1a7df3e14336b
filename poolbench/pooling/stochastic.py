"""One cell of each window, drawn as likely as it is strong: noise that regularises as dropout does."""

import torch
from torch import Tensor

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, Sides, area, max_windows
from poolbench.pooling.parts.ranks import chosen, greater
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.soft import dot


class StochasticPool2d(Pool):
    r"""A cell of each window, drawn with probabilities proportional to the activations.

    .. math:: P(y = x_i) = p_i = \frac{x_i^+}{\sum_{j \in R} x_j^+}, \qquad x^+ = \max(x, 0)

    Made for maps after a ReLU: without hyper-parameters it gives large activations most of the say, but not all as
    the maximum does. Every window of every channel and image draws for itself, and the gradient goes to the drawn
    cell. A window without an activation above 0 gives 0 and no gradient.

    Train and eval: training draws. Evaluation gives the expected value, :math:`\sum_i p_i x_i`, which the paper calls
    probability weighting, for all draws at once what dropout's scaling is; ``"draw"`` draws here too, to average
    several passes; ``"max"`` takes the likeliest cell.

    The paper asks for activations of at least 0. Negative ones have the probability 0 here, as if a ReLU came first;
    public code lets them make probabilities above 1, and outputs that are never written.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        evaluation: ``"weighted"``, ``"draw"`` or ``"max"``.
    Use: against overfitting on small data, after a ReLU; each training pass sees another sample of the map, evaluation
        its expectation.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Zeiler and Fergus, ICLR 2013.
    """

    # Not bounded: a map that is negative everywhere gives 0.
    rectangles = homogeneous = keeps_sign = mirrors = True
    variants = ({"kernel_size": 3, "padding": 1, "evaluation": "draw"}, {"evaluation": "max"})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        evaluation: str = "weighted",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.evaluation = self.checked("evaluation", evaluation, one_of("weighted", "draw", "max"))
        self.random = area(self.kernel_size) > 1
        if self.random and evaluation == "draw":
            self.random_evaluation = True
            # Every place draws for itself; and an exported model would draw other numbers.
            self.treats_channels_alike = self.mirrors = self.stationary = self.onnx = False

    def pool(self, x: Tensor) -> Tensor:
        if self.training or self.evaluation == "draw":
            return over_windows(self, _drawn, (x,), (uniform(self, x),), _slope_of_drawn, _limits_of_drawn)
        if self.evaluation == "max":
            return max_windows(x, self).relu()
        return over_windows(self, _expected, (x,), slope=_slope_of_expected, limits=_limits_of_expected)

    def flops_per_window(self) -> int:
        k2 = area(self.kernel_size)
        if self.evaluation == "max":
            return k2
        # Of the expected value: comparison with 0, square, two sums, a division. Drawing: comparison with 0 and with
        # the threshold, running sum, choice; the threshold.
        return 4 * k2 - 1

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, evaluation={self.evaluation!r}"


def uniform(pool: Pool, x: Tensor) -> Tensor:
    """A number in [0, 1) for each value of the output of ``pool``, ``(N, C, H', W')``."""
    height, width = pool.output_size((x.shape[-2], x.shape[-1]))
    # One order for both memory formats; this one is that of channels_last, where reading across costs most.
    shape = (x.shape[0], height, width, x.shape[1])
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32  # half precision has too few numbers
    if pool.generator is None:
        u = torch.rand(shape, dtype=dtype, device=x.device)
    else:
        u = torch.rand(shape, dtype=dtype, device=x.device, generator=pool.generator)
    return u.movedim(-1, 1)


# Cells outside the map are 0, so they have no part in any sum.


def _expected(inside: Tensor | None, windows: Tensor) -> Tensor:
    positive = windows.relu()
    total = positive.sum(0)
    return dot(positive, positive) / (total + (total == 0))


def _limits_of_expected(inside: Tensor | None, windows: Tensor) -> Tensor:
    highest = windows.amax(0)
    endless = highest == torch.inf  # it takes all of the probability
    return torch.where(endless, highest, _expected(inside, windows.masked_fill(endless, 0)))


def _slope_of_expected(gradient: Tensor, inside: Tensor | None, windows: Tensor) -> tuple[Tensor]:
    positive = windows.relu()
    total = positive.sum(0)
    safe = total + (total == 0)
    gradient = gradient / safe
    y = dot(positive, positive) / safe
    active = positive.sign()
    return (positive.mul_(2).sub_(y).mul_(active).mul_(gradient),)


def _sums(windows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The cells without what is negative, ``(K, ...)``, and the sums of the first 1 to K of them."""
    positive = windows.relu()
    sums = [positive[0]]
    for one in positive[1:]:
        sums.append(sums[-1] + one)
    return positive, sums


# The first cell with which the sum exceeds the threshold is drawn: never one of 0, since with it no sum grows, and
# always one where the whole sum is above 0, since u < 1 leaves the threshold below it.


def _drawn(inside: Tensor | None, windows: Tensor, u: Tensor) -> Tensor:
    positive, sums = _sums(windows)
    threshold = u * sums[-1]
    y = positive[-1]
    for one, total in zip(reversed(positive[:-1].unbind(0)), reversed(sums[:-1]), strict=True):
        y = chosen(greater(total, threshold), y, one)
    return y


def _limits_of_drawn(inside: Tensor | None, windows: Tensor, u: Tensor) -> Tensor:
    highest = windows.amax(0)
    endless = highest == torch.inf
    return torch.where(endless, highest, _drawn(inside, windows.masked_fill(endless, 0), u))


def _slope_of_drawn(gradient: Tensor, inside: Tensor | None, windows: Tensor, u: Tensor) -> tuple[Tensor, None]:
    _, sums = _sums(windows)
    threshold = u * sums[-1]
    slopes = torch.empty_like(windows)
    for slope, total in zip(slopes, sums, strict=True):
        torch.gt(total, threshold, out=slope)
    slopes.mul_(gradient)  # to the drawn cell and those after it
    for i in reversed(range(1, len(slopes))):
        slopes[i].sub_(slopes[i - 1])
    return slopes, None
