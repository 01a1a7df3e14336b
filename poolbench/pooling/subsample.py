"""No pooling at all: keep every second pixel. The control that shows what a window adds."""

from torch import Tensor

from poolbench.pooling.base import Pool, positive_int


class Subsample2d(Pool):
    r"""The top left pixel of each ``stride x stride`` block; the others are dropped unseen.

    .. math:: y_{ij} = x_{si,\,sj}

    After a convolution it equals giving that convolution the stride, at ``stride**2`` times its cost.

    Args:
        channels: channels ``C`` of the input.
        stride: step in pixels.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError for a stride that is not allowed or a map that is too small.
    Source: decimation; as a net without pooling in Springenberg et al., ICLR workshop 2015 (Strided-CNN).
    """

    def __init__(self, channels: int, stride: int = 2):
        super().__init__(channels, kernel_size=1, stride=positive_int(self, "stride", stride))

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.output_size((x.shape[-2], x.shape[-1]))
        kept = x[..., : height * self.stride : self.stride, : width * self.stride : self.stride]
        return kept.clone()  # a view would let what follows in place write into the input

    def flops_per_window(self) -> int:
        return 0

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
