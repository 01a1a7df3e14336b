"""Translation-invariant polyphase sampling: each channel mixes its four phases by weights it reads off the map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import one_of
from poolbench.pooling.base import Pool, cropped, is_open
from poolbench.pooling.parts.windows import over_windows

# The authors' code lists the phases (row, column) as 00, 10, 01, 11 and what the weights come from row by row.
_ORDER = [0, 2, 1, 3]


class TipsPool2d(Pool):
    r"""A weighted average of the four phases of each channel, the grids of every other row and column.

    .. math:: y_c = \sum_{k=1}^{4} \tau_{c,k} \, p_{c,k}, \qquad
        \tau_c = \mathrm{softmax}\big(v_c \, \mathrm{avg}_{2 \times 2}(\psi(x)_c)\big), \quad
        \psi(x) = \mathrm{relu}(W *_{\mathrm{depthwise}} x)

    A soft and cheap relative of ``polyphase``: one set of four weights for each image and channel, from a 3x3
    convolution of each channel by itself. In the authors' code the four numbers are the means of the four *quadrants*
    of the map, which do not follow a shift; the means of the four *phases*, which do, are ``source="phases"``.
    Training and evaluation are alike.

    The paper trains with two more losses, a share of :meth:`undo_loss` and :meth:`index_loss`; they are functions of
    the pool's input and no part of what ``forward`` does.

    Args:
        channels: channels ``C`` of the input.
        source: ``"quadrants"`` as in the authors' code, or ``"phases"``.
    Use: as a cheap, soft choice among the phases for each channel; its shift regularisers belong to the training.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out (the authors pad it).
    Raises: ValueError for a source that is not known or a map that is too small.
    Source: Saha and Gokhale, WACV 2025 (TIPS), and its public code (sourajitcs/tips).
    """

    why_square = "its four phases are those of 2x2 blocks"
    bounded = keeps_sign = True
    treats_channels_alike = False
    variants = ({"source": "phases"},)

    def __init__(self, channels: int, source: str = "quadrants"):
        super().__init__(channels)
        self.source = self.checked("source", source, one_of("quadrants", "phases"))
        self.stationary = source == "phases"
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.scale = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)

    def pool(self, x: Tensor) -> Tensor:
        return over_windows(self, _mix, (cropped(x, self),), (self._tau(x),), _slope)

    def weights(self, x: Tensor) -> Tensor:
        """The weights of the phases 00, 01, 10, 11 (row, column) for a map, ``(N, C, 4)``."""
        return self._tau(x)[..., 0, 0].movedim(0, -1)

    def index_loss(self, x: Tensor) -> Tensor:
        """Mean of 1 less the norm of the four weights: lowest where each channel takes one phase."""
        return (1 - self.weights(x).norm(dim=-1)).mean()

    def undo_loss(self, x: Tensor) -> Tensor:
        """Mean squared difference of ``psi(x)`` from ``x`` rolled by a drawn shift of up to a quarter of each side,
        one for the batch."""
        options = {} if self.generator is None else {"generator": self.generator}
        shifts = [int(torch.randint(-(n // 4), n // 4 + 1, (), **options)) for n in x.shape[-2:]]
        return F.mse_loss(self._psi(x), x.detach().roll(shifts, (2, 3)))

    def _psi(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))

    def _tau(self, x: Tensor) -> Tensor:
        """``(4, N, C, 1, 1)``, in the order of the cells of a window."""
        psi = self._psi(cropped(x, self))
        height, width = psi.shape[-2:]
        if self.source == "phases":
            means = psi.mean((2, 3), keepdim=True) if height < 2 or width < 2 else _phase_means(psi)
            order = [0, 1, 2, 3]
        else:
            means, order = _quadrant_means(psi) if is_open(x) else F.adaptive_avg_pool2d(psi, 2), _ORDER
        logits = self.scale(means).flatten(2)
        return logits.softmax(-1).to(x.dtype).movedim(2, 0)[order, :, :, None, None]

    def flops(self, size: tuple[int, int]) -> int:
        height, width = self.output_size(size)
        cells = 4 * height * width
        # A filter of 9, a comparison and an addition for each cell; a scale and a softmax (4) of four; the mixture.
        return self.channels * (cells * (18 + 2) + 4 * 5 + cells * 2)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, source={self.source!r}"


def _quadrant_means(x: Tensor) -> Tensor:
    """``F.adaptive_avg_pool2d(x, 2)`` of any size: of an odd side both halves have the middle."""
    height, width = x.shape[-2:]
    rows = torch.stack([x[:, :, : (height + 1) // 2].mean(2), x[:, :, height // 2 :].mean(2)], 2)
    return torch.stack([rows[..., : (width + 1) // 2].mean(3), rows[..., width // 2 :].mean(3)], 3)


def _phase_means(x: Tensor) -> Tensor:
    """``(N, C, 2, 2)``: the mean of every other row and column."""
    height, width = x.shape[-2:]
    # Over the rows first: what is left is small, so that its order in memory does not matter.
    return x.unflatten(2, (height // 2, 2)).mean(2).unflatten(3, (width // 2, 2)).mean(3)


def _mix(inside: Tensor | None, windows: Tensor, tau: Tensor) -> Tensor:
    return (windows * tau).sum(0)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    return tau * gradient, windows * gradient
