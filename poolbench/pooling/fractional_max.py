"""Maximum over windows whose steps are drawn, so that a map shrinks by less than 2."""

import math

import torch
from torch import Tensor, nn

from poolbench.accelerator import widest
from poolbench.checks import TRUTH, checked, number, one_of, whole
from poolbench.pooling.base import Pool
from poolbench.pooling.parts.draws import drawing
from poolbench.pooling.parts.picked import max_of_picked


class FractionalMaxPool2d(Pool):
    r"""Maximum over windows that start a drawn sequence of steps of 1 and 2 pixels apart.

    .. math:: y_{ij} = \max_{a_i \le r < b_i,\ a'_j \le c < b'_j} x_{rc}, \qquad a_{i+1} - a_i \in \{1, 2\}

    A side of ``n`` pixels shrinks to the whole number nearest to ``n / ratio`` (the lower one of two), as in the
    paper's nets, so a net may pool twice as often to the same size and each time by less; what is drawn distorts the
    map a little, as augmentation does. At ratio 2 all steps are 2: the plain 2x2 maximum. Rows and columns are drawn
    apart, once for each image, for all channels alike; torch's own operator draws for each channel, which moves the
    channels against each other.

    The windows are those of the author's code (SparseConvNet): overlapping ones always span 2 pixels and so overlap
    where the step is 1, where the paper's text has them reach to the start of the next window. Both cover the map. Of
    equal cells the first one gets the gradient. A row or column that steps of 2 do not reach (ratio 2, odd side) is
    left out.

    Train and eval: the paper draws in both and averages the net's outputs over some passes. Here evaluation is fixed
    unless asked for; ``evaluation="draw"`` draws anew in each pass. The paper's test with 12 passes is
    :func:`average_over_draws` of a net, whatever its pools were told.

    Args:
        channels: channels ``C`` of the input.
        ratio: by how much a side shrinks, above 1 and at most 2.
        sequence: ``"pseudorandom"``, evenly spread steps :math:`a_i = \lfloor \alpha (i + u) \rfloor -
            \lfloor \alpha u \rfloor` with one drawn ``u`` in (0, 1), or ``"random"``, steps in random order.
        overlapping: windows of 2 pixels; False: each reaches to the start of the next, 1 or 2 pixels.
        evaluation: ``"fixed"``, the evenly spread steps with ``u = 1/2``, or ``"draw"``, as in training.
    Use: to shrink maps gradually and to augment inside the net: twice the sites at ratio root 2, each a little
        different every time. More layers at full size cost more.
    Shape: ``(N, C, H, W) -> (N, C, H', W')``, ``H'`` nearest to ``H / ratio`` and below ``H``.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Graham, arXiv:1412.6071, 2014.
    """

    why_square = "its ratio shrinks rows and columns alike"
    bounded = homogeneous = follows_offset = keeps_sign = True
    variants = (
        {"sequence": "random", "evaluation": "draw"},
        {"overlapping": False, "ratio": 1.3},
        {"ratio": 2.0},
    )

    def __init__(
        self,
        channels: int,
        ratio: float = 1.4142135623730951,
        sequence: str = "pseudorandom",
        overlapping: bool = True,
        evaluation: str = "fixed",
    ):
        super().__init__(channels)
        self._ratio = float(self.checked("ratio", ratio, number(least=1, most=2)))
        if self._ratio == 1:
            raise ValueError(f"{self._name()}: ratio must be above 1, got {ratio!r}")
        self.sequence = self.checked("sequence", sequence, one_of("pseudorandom", "random"))
        self.overlapping = self.checked("overlapping", overlapping, TRUTH)
        self.evaluation = self.checked("evaluation", evaluation, one_of("fixed", "draw"))
        if self._ratio == 2:
            self.mirrors = True
        else:
            self.stride = 1  # the least of its steps
            self.stationary = False
            self.random = True
            self.random_evaluation = evaluation == "draw"
            self.onnx = not self.random_evaluation  # whose own numbers would be drawn

    @property
    def ratio(self) -> float:
        return self._ratio

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (min(side - 1, math.ceil(side / self._ratio - 0.5 - 1e-9)) for side in size)
        if min(height, width) < 1:
            raise ValueError(f"{self._name()}: a map of {size[0]}x{size[1]} pixels is smaller than its windows, 2x2")
        return height, width

    def pool(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        draws = self._ratio < 2 and (self.training or self.evaluation == "draw")
        lines = [
            self._windows(side, out, x.shape[0] if draws else 0, x.device)
            for side, out in zip(size, self.output_size(size), strict=True)
        ]
        return max_of_picked(x, *lines)

    def _windows(self, side: int, out: int, images: int, device: torch.device) -> Tensor:
        """First and last cell of each window along an axis, ``(images, 2, out)``; ``(1, 2, out)`` fixed for 0."""
        side = min(side, 2 * out)
        # The last window of 2 starts at side - 2; without overlap a further one would start at side.
        steps, span = (out - 1, side - 2) if self.overlapping else (out, side)
        if images and self.sequence == "random":
            keys = self._draw(images, steps, device)
            twos = keys.argsort(-1) < span - steps
            starts = torch.cat([twos.new_zeros(images, 1), 1 + twos.long()], 1).cumsum(1)
        else:
            u = (
                self._draw(images, 1, device)
                if images
                else torch.full((1, 1), 0.5, dtype=widest(device), device=device)
            )
            alpha = span / max(1, steps)
            starts = (alpha * (torch.arange(steps + 1, device=device) + u)).floor() - (alpha * u).floor()
            # Whatever the rounding, they end where the map does.
            starts = torch.cat([starts[:, :-1], torch.full_like(u, span)], 1).long()
        if self.overlapping:
            return torch.stack([starts, starts + 1], 1)
        return torch.stack([starts[:, :-1], starts[:, 1:] - 1], 1)

    def _draw(self, images: int, numbers: int, device: torch.device) -> Tensor:
        if self.generator is None:
            return torch.rand(images, numbers, dtype=widest(device), device=device)
        return torch.rand(images, numbers, dtype=widest(device), device=device, generator=self.generator)

    def flops_per_window(self) -> int:
        # A comparison for each column of two rows and one between the columns; columns are shared where windows
        # overlap, which this counts twice.
        return 3

    def extra_repr(self) -> str:
        return (
            f"ratio={self._ratio:g}, sequence={self.sequence!r}, overlapping={self.overlapping}, "
            f"evaluation={self.evaluation!r}"
        )


@torch.no_grad()
def average_over_draws(net: nn.Module, x: Tensor, draws: int = 12) -> Tensor:
    """Class probabilities of ``net`` in evaluation mode, averaged over passes in which its random pools draw as in
    training, whatever they were told: the paper's test, where they are :class:`FractionalMaxPool2d`.

    Args:
        net: gives logits ``(N, K)``.
        x: what it takes.
        draws: number of passes, at least 1.
    Returns: ``(N, K)``, rows of sum 1.
    Raises: ValueError for a number of draws below 1.
    """
    checked("draws", draws, whole(1))
    training = net.training
    net.eval()
    try:
        with drawing(net):
            return torch.stack([net(x).softmax(1) for _ in range(draws)]).mean(0)
    finally:
        net.train(training)
