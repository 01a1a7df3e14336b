"""Ordinal pooling: the sorted cells of each window are averaged with learned weights."""

import torch
from torch import Tensor, nn

from poolbench.checks import TRUTH, one_of
from poolbench.pooling.base import Pool, Sides, area
from poolbench.pooling.parts.ranks import comparisons, sum_by_rank


class OrdinalPool2d(Pool):
    r"""Weighted sum of each window's cells in falling order, with learned weights.

    .. math:: y = \sum_{r = 1}^{n} w_{c, r} \, x_{(r)}

    with :math:`x_{(r)}` the ``r``-th largest of ``n`` cells.

    Whatever is between maximum, (1, 0, 0, 0), average, (1/4, 1/4, 1/4, 1/4), median, (0, 1/2, 1/2, 0), and minimum can
    be learned, for each channel or for all. Without ``constraint`` the weights are free, as Kumar's: they may turn
    negative and change the level of a map. With it they are, as Deliège et al. have them, at least 0 and sum to 1.
    Which of equal cells has the better rank depends on their places in the window alone. Training and evaluation are
    alike.

    Settled by the authors' code: Kumar starts 2x2 windows at (0.6, 0.25, 0.1, 0.05), and starts for other windows are
    ours; Deliège et al. cut negative weights to 0 and divide by the sum, in the layer and after every step of the
    optimiser. A layer alone cannot do the latter, and with the former alone a negative weight would have no gradient
    for ever; so here the absolute weights are divided by their sum, which is the same while none turns negative.

    A window over the border has fewer cells than there are weights. Then the weights are spread: the share that falls
    to a cell is that of its part of the order, so that a maximum stays a maximum and an average an average.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        learnable: ``"channel"`` (weights for each channel), ``"layer"`` (the same for all) or ``False``, where they
            stay as they start.
        constraint: whether the weights are kept at least 0 and at a sum of 1.
        init: where they start: ``"falling"`` (Kumar's; elsewhere than in 2x2 each 2/5 of the one before),
            ``"average"``, ``"max"`` or ``"random"`` (uniform numbers divided by their sum, as Deliège et al. do).
    Use: to learn where between maximum and average each channel wants to be, whatever its place in the window; sorting
        costs several times a maximum.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Kumar, arXiv:1804.02702, 2018; constrained: Deliège, Istasse, Kumar, De Vleeschouwer and Van Droogenbroeck,
        arXiv:2109.01561, 2021.
    """

    rectangles = bounded = homogeneous = follows_offset = keeps_sign = mirrors = True
    variants = (
        {"kernel_size": 3, "padding": 1, "constraint": True, "init": "random"},
        {"learnable": "layer", "init": "average"},
    )

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        learnable: bool | str = "channel",
        constraint: bool = False,
        init: str = "falling",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.learnable = self.checked("learnable", learnable, one_of(False, "layer", "channel"))
        self.constraint = self.checked("constraint", constraint, TRUTH)
        self.init = self.checked("init", init, one_of("falling", "average", "max", "random"))
        weight = torch.empty(channels if learnable == "channel" else 1, area(self.kernel_size))
        if learnable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.reset_parameters()
        self.odd = init == "average" or self.kernel_size == 1
        self.treats_channels_alike = init != "random" or learnable != "channel" or self.kernel_size == 1

    def reset_parameters(self) -> None:
        """Put the weights back to where they start; ``"random"`` draws anew."""
        count = area(self.kernel_size)
        with torch.no_grad():
            if self.init == "random":
                self.weight.uniform_()
            elif self.init == "falling" and count == 4:
                self.weight.copy_(torch.tensor([0.6, 0.25, 0.1, 0.05]))
            else:
                ratio = {"falling": 0.4, "average": 1.0, "max": 0.0}[self.init]
                self.weight.copy_(torch.tensor([ratio**r for r in range(count)]))
            self.weight.div_(self.weight.sum(1, keepdim=True))

    @property
    def weights(self) -> Tensor:
        """The weights in use, ``(C or 1, K)``, that of the largest cell first."""
        if not self.constraint:
            return self.weight
        positive = torch.where(self.weight < 0, -self.weight, self.weight)  # at 0, unlike abs, it has a gradient
        return positive / positive.sum(1, keepdim=True)

    def pool(self, x: Tensor) -> Tensor:
        weights = self.weights.t()[:, None, :, None, None]
        return sum_by_rank(self, x, _weigh, (weights,), learned=bool(self.learnable))

    def flops_per_window(self) -> int:
        count = area(self.kernel_size)
        return comparisons(list(range(count))) + 2 * count - 1  # and products, additions

    def extra_repr(self) -> str:
        options = f"learnable={self.learnable!r}, constraint={self.constraint}, init={self.init!r}"
        return f"{super().extra_repr()}, {options}"


def _weigh(inside: Tensor | None, windows: Tensor, weights: Tensor) -> Tensor:
    if inside is None:
        return weights
    # Of n cells each takes a part 1/n of the order, which the K weights share out evenly among them.
    count = windows.shape[0]
    n = inside.sum(0).to(windows.dtype)
    ranks = torch.arange(count, dtype=windows.dtype, device=windows.device).view(-1, *[1] * (windows.dim() - 1))
    total = None
    for r, weight in enumerate(weights):
        start, end = torch.clamp(ranks / n, min=r / count), torch.clamp((ranks + 1) / n, max=(r + 1) / count)
        share = (end - start).clamp(min=0).mul(count) * (ranks < n)
        total = share * weight if total is None else total + share * weight
    return total
