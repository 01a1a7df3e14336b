"""A tree of learned filters: its leaves pool a window, its gates choose between them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of, whole
from poolbench.pooling.base import Pool, Sides, area, one_column, pair, weigh_windows
from poolbench.pooling.parts.images import over_images
from poolbench.pooling.parts.infinite import blend, seen_finite, within


class TreePool2d(Pool):
    r"""A binary tree over each window: leaves are linear filters, every inner node mixes its two children by a gate.

    .. math:: f_m = v_m \cdot x_R, \qquad
        f_n = s_n f_{\mathrm{left}} + (1 - s_n) f_{\mathrm{right}}, \quad s_n = \sigma(w_n \cdot x_R)

    The gates see the window, so what pools it depends on what is in it; leaves are free filters without bias, so the
    maximum is not among what it can be, and outputs may be negative. All nodes' weights are shared over positions.
    ``(2**levels - 1) * kernel_size**2`` weights, and as many multiply-adds an output: each node is a filter of its own
    that reads the whole map, so a third level takes more than twice the time of two.

    The authors' code starts all weights from a normal distribution around 0, so that the first outputs nearly vanish;
    here the leaves start around the average unless ``leaves="zero"``.

    Args:
        channels: channels ``C`` of the input.
        kernel_size, stride, padding: window, step and border in pixels, see :class:`~poolbench.pooling.base.Pool`.
        levels: of the tree, leaves included: 2 in the paper's best nets, 3 at most there; 1 is a single filter.
        per: ``"layer"`` as in the authors' code, or ``"channel"`` for a tree of each channel's own.
        std: standard deviation of all weights at the start, above 0.
        leaves: around what the leaves start: ``"average"`` or ``"zero"``.
    Use: for learned pooling that reacts to its window but stays cheap; outputs may be negative, so something that can
        take that should follow.
    Shape: ``(N, C, H, W) -> (N, C, H // stride, W // stride)``.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Lee, Gallagher and Tu, AISTATS 2016 (tree pooling).
    """

    rectangles = True
    keeps_constants = False
    bounded = keeps_sign = None
    variants = ({"levels": 3, "per": "channel", "kernel_size": 3, "padding": 1}, {"levels": 1})

    def __init__(
        self,
        channels: int,
        kernel_size: Sides = 2,
        stride: Sides | None = 2,
        padding: Sides = 0,
        levels: int = 2,
        per: str = "layer",
        std: float = 0.1,
        leaves: str = "average",
    ):
        super().__init__(channels, kernel_size, stride, padding)
        self.levels = self.checked("levels", levels, whole(1, 6))
        self.per = self.checked("per", per, one_of("layer", "channel"))
        self.std = float(self.checked("std", std, number(least=0, open=True)))  # at 0 all leaves would stay alike
        self.start = self.checked("leaves", leaves, one_of("average", "zero"))
        shape = (channels if per == "channel" else 1, *pair(self.kernel_size))
        self.leaves = nn.Parameter(torch.empty(2 ** (levels - 1), *shape))
        self.gates = nn.Parameter(torch.empty(2 ** (levels - 1) - 1, *shape)) if levels > 1 else None
        self.treats_channels_alike = per == "layer"
        self.mirrors = one_column(self)
        self.odd = self.homogeneous = levels == 1  # then there is no gate
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights as at the start."""
        with torch.no_grad():
            self.leaves.normal_(0, self.std).add_(1 / area(self.kernel_size) if self.start == "average" else 0)
            if self.gates is not None:
                self.gates.normal_(0, self.std)

    def pool(self, x: Tensor) -> Tensor:
        # A few images at a time, since what torch would keep for the backward pass is several times the input.
        return over_images(self._root, x, shared=(self.leaves,) if self.gates is None else (self.leaves, self.gates))[0]

    def _root(self, x: Tensor, leaves: Tensor, gates: Tensor | None = None) -> tuple[Tensor]:
        nodes = [weigh_windows(x, leaf, self) for leaf in leaves]
        if gates is None:
            return (nodes[0],)
        y = self._up(nodes, [weigh_windows(x, gate, self).sigmoid() for gate in gates], torch.lerp)
        if seen_finite(y):
            return (y,)
        x = within(x)
        return (self._up(nodes, [weigh_windows(x, gate, self).sigmoid() for gate in gates], blend),)

    def _up(self, nodes: list[Tensor], shares: list[Tensor], mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        while len(nodes) > 1:  # up one level; its gates are the next in line
            pairs = zip(nodes[::2], nodes[1::2], shares, strict=False)
            nodes = [mix(right, left, share) for left, right, share in pairs]
            shares = shares[len(nodes) :]
        return nodes[0]

    def flops_per_window(self) -> int:
        leaves = 2 ** (self.levels - 1)
        # Each gate: a filter, a sigmoid (3), a difference and a multiply-add.
        return 2 * area(self.kernel_size) * leaves + (leaves - 1) * (2 * area(self.kernel_size) + 3 + 3)

    def extra_repr(self) -> str:
        text = f"levels={self.levels}, per={self.per!r}, std={self.std}, leaves={self.start!r}"
        return f"{super().extra_repr()}, {text}"
