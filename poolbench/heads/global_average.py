"""One number a channel: its average over the map."""

from collections.abc import Sequence

from torch import Tensor

from poolbench.checks import TRUTH
from poolbench.heads.base import Head


class GlobalAverage(Head):
    r"""Mean of each channel over the whole map, then a linear classifier.

    .. math:: g_c = \frac{1}{HW} \sum_{ij} x_{cij}

    With ``class_maps`` the order is the other way round, as in the first nets that had it: a 1x1 convolution makes one
    map a class, a ReLU follows, and the mean of that map is the logit. Without the ReLU the two would be the same.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        class_maps: classify each position, then average; ``hidden`` must be empty.
    Use: the usual choice: no weights of its own, any size of image, each position counts alike.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lin, Chen and Yan, ICLR 2014 (Network in Network; there with class maps).
    """

    variants = ({"class_maps": True},)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        class_maps: bool = False,
    ):
        super().__init__(channels, num_classes, size, hidden, features=channels)
        self.class_maps = self.checked("class_maps", class_maps, TRUTH)
        if class_maps and hidden:
            raise ValueError(
                f"{self._name()}: hidden must be empty with class_maps, where nothing follows the mean, got {hidden!r}"
            )

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        if not self.class_maps:
            return super().logits(x)
        return self.classifier(x.permute(0, 2, 3, 1)).relu().mean((1, 2))  # a linear layer there is a 1x1 convolution

    def flops(self, size: tuple[int, int]) -> int:
        return (self.num_classes if self.class_maps else self.channels) * size[0] * size[1]
