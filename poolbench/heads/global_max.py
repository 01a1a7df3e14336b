"""One number a channel: its strongest activation anywhere."""

from collections.abc import Sequence

from torch import Tensor

from poolbench.heads.base import Head


class GlobalMax(Head):
    r"""Maximum of each channel over the whole map, then a linear classifier.

    .. math:: g_c = \max_{ij} x_{cij}

    The expected maximum grows with the number of pixels, so the features shift when it is used at another map size.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
    Use: where a class shows in one place and its surroundings say little; images keep the size they had in training.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Oquab, Bottou, Laptev and Sivic, CVPR 2015.
    """

    def __init__(
        self, channels: int, num_classes: int, size: tuple[int, int] | None = None, hidden: Sequence[int] = ()
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)

    def pool(self, x: Tensor) -> Tensor:
        # Over one flattened axis the gradient goes to one cell, as in max pooling; amax would share it among ties.
        return x.flatten(2).max(dim=2).values

    def flops(self, size: tuple[int, int]) -> int:
        return self.channels * (size[0] * size[1] - 1)
