"""No global pooling: every position of the last map has its own weights."""

from collections.abc import Sequence

from torch import Tensor

from poolbench.heads.base import Head


class Flatten(Head):
    """The whole map as one vector, then fully connected layers; tied to the map size that it was built for.

    Args:
        channels, num_classes, hidden: see :class:`~poolbench.heads.base.Head`.
        size: ``(H, W)`` of the last map, in pixels; required.
    Use: the control with weights for every position, of the nets of the 1990s to AlexNet and VGG; it costs most
        parameters and ties the net to one size of images.
    Shape: ``(N, C, H, W) -> (N, K)`` with ``(H, W) = size``.
    Raises: ValueError without ``size``, or for a map of another size.
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998.
    """

    any_size = False

    def __init__(
        self, channels: int, num_classes: int, size: tuple[int, int] | None = None, hidden: Sequence[int] = ()
    ):
        if size is None:
            raise ValueError("head Flatten: size=(H, W) of the last map is needed: each of its pixels has its weights")
        super().__init__(channels, num_classes, size, hidden, features=channels * size[0] * size[1])

    def pool(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.size:
            raise ValueError(
                f"head Flatten: it was built for maps of {self.size[0]}x{self.size[1]} pixels "
                f"and got {x.shape[-2]}x{x.shape[-1]}; global_average takes any size"
            )
        return x.flatten(1)

    def flops(self, size: tuple[int, int]) -> int:
        return 0
