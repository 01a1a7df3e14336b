"""One number a channel: its average over the map."""

from collections.abc import Sequence

from torch import Tensor

from poolbench.heads.base import Head


class GlobalAverage(Head):
    r"""Mean of each channel over the whole map, then a linear classifier.

    .. math:: g_c = \frac{1}{HW} \sum_{ij} x_{cij}

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lin, Chen and Yan, ICLR 2014 (Network in Network; there without the linear classifier).
    """

    def __init__(
        self, channels: int, num_classes: int, size: tuple[int, int] | None = None, hidden: Sequence[int] = ()
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def flops(self, size: tuple[int, int]) -> int:
        return self.channels * size[0] * size[1]
