"""Learnable polyphase sampling: a small net chooses which of the four phases of a map is kept."""

import torch
from torch import Tensor, nn

from poolbench.checks import number, one_of, whole
from poolbench.pooling.base import Pool, cropped
from poolbench.pooling.parts.images import module_over_images
from poolbench.pooling.parts.windows import over_windows
from poolbench.pooling.polyphase import take_phase


class LearnablePolyphasePool2d(Pool):
    r"""Polyphase sampling whose choice is learned: training mixes the four phases, evaluation keeps one.

    .. math:: y = p_{k^*}, \quad k^* = \arg\max_k z_k, \qquad
        z_k = \mathrm{mean}\big(W_2 * \mathrm{relu}(W_1 * p_k)\big)

    The same net scores every phase, with circular padding and a mean over the whole map, so a circular shift of the
    map permutes the scores with the phases and the values that are kept stay the same. In training the mixture
    :math:`\sum_k g_k p_k` with Gumbel-softmax weights :math:`g`, one draw an image, lets the scores learn; its
    temperature is the attribute ``temperature``, which a training may lower as it goes on. ``evaluation="mixture"``
    mixes by the softmax of the scores there too. A 3x3 convolution at every input pixel, ``9 * 4 * hidden``
    multiply-adds a value; the second one is only needed in the mean, which is worked out directly.

    Args:
        channels: channels ``C`` of the input.
        hidden: channels between the two convolutions.
        temperature: of the mixture, above 0.
        evaluation: ``"choice"`` or ``"mixture"``.
    Use: as polyphase, when which phase is kept should be learned; training mixes the phases, evaluation takes one.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``; an odd last row and column is left out.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map that is too small.
    Source: Rojas-Gomez, Lim, Schwing, Do and Yeh, NeurIPS 2022 (LPS).
    """

    why_square = "its four phases are those of 2x2 blocks"
    random = True
    bounded = keeps_sign = True
    # All channels have a say in the choice; whether one change of one of them turns it depends on the weights.
    mixes_channels = treats_channels_alike = homogeneous = follows_offset = odd = mirrors = None
    variants = ({"evaluation": "mixture", "hidden": 4},)

    def __init__(self, channels: int, hidden: int = 16, temperature: float = 1.0, evaluation: str = "choice"):
        super().__init__(channels)
        self.hidden = self.checked("hidden", hidden, whole(1))
        self.temperature = float(self.checked("temperature", temperature, number(least=0, open=True)))
        self.evaluation = self.checked("evaluation", evaluation, one_of("choice", "mixture"))
        self.net = _Scores(channels, hidden)

    def pool(self, x: Tensor) -> Tensor:
        x = cropped(x, self)
        scores = self.scores(x)
        if self.training:
            options = {} if self.generator is None else {"generator": self.generator}
            drawn = torch.rand(scores.shape, device=x.device, **options).clamp(1e-7, 1 - 1e-7)
            weights = ((scores - (-drawn.log()).log()) / self.temperature).softmax(1)
        elif self.evaluation == "mixture":
            weights = scores.softmax(1)
        else:
            return take_phase(x, scores.argmax(1))
        # The cells of a window are the phases 00, 01, 10, 11; the scores are of 00, 10, 01, 11.
        weights = weights[:, [0, 2, 1, 3]].T[:, :, None, None, None]
        return over_windows(self, _mix, (x,), (weights.to(x.dtype),), _slope)

    def scores(self, x: Tensor) -> Tensor:
        """``(N, 4)``: of the phases 00, 10, 01, 11 (row, column) of a map of even sides."""
        return module_over_images(self.net, x)

    def flops_per_window(self) -> int:
        pixel = self.hidden * (18 * self.channels + 3)  # a filter, a bias, a comparison, an addition
        return 4 * pixel // self.channels

    def extra_repr(self) -> str:
        return f"stride={self.stride}, hidden={self.hidden}, temperature={self.temperature}"


class _Scores(nn.Module):
    """``(N, C, H, W) -> (N, 4)``: two convolutions of each phase and the mean of what they give."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, padding_mode="circular")
        # A bias would move all four scores alike.
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        if x.stride(1) == 1:
            cells = x.movedim(1, -1).unflatten(2, (width // 2, 2)).unflatten(1, (height // 2, 2))
            phases = cells.permute(0, 4, 2, 1, 3, 5).reshape(4 * n, height // 2, width // 2, c).movedim(-1, 1)
        else:
            cells = x.unflatten(3, (width // 2, 2)).unflatten(2, (height // 2, 2))
            phases = cells.permute(0, 5, 3, 1, 2, 4).reshape(4 * n, c, height // 2, width // 2)
        # The mean of a circular convolution is one weighted mean of its input: it need not be worked out by pixels.
        means = self.conv1(phases).relu().mean((2, 3))
        return (means @ self.conv2.weight.sum((2, 3)).mean(0)).view(n, 4)


def _mix(inside: Tensor | None, windows: Tensor, weights: Tensor) -> Tensor:
    return (windows * weights).sum(0)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return weights * gradient, windows * gradient
