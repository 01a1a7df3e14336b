"""Learnable polyphase sampling: a small net chooses which of the four phases of a map is kept."""

import torch
from torch import Tensor, nn

from poolbench.pooling.base import Pool, choice, cropped, number, positive_int
from poolbench.pooling.polyphase import take_phase
from poolbench.pooling.windows import over_windows


class LearnablePolyphasePool2d(Pool):
    r"""Polyphase sampling whose choice is learned: training mixes the four phases, evaluation keeps one.

    .. math:: y = p_{k^*}, \quad k^* = \arg\max_k z_k, \qquad
        z_k = \mathrm{mean}\big(W_2 * \mathrm{relu}(W_1 * p_k)\big)

    The same net scores every phase, with circular padding and a mean over the whole map, so a circular shift of the
    map permutes the scores with the phases and the values that are kept stay the same. In training the mixture
    :math:`\sum_k g_k p_k` with Gumbel-softmax weights :math:`g`, one draw an image, lets the scores learn; its
    temperature is the attribute ``temperature``, which a training may lower as it goes on. ``evaluation="mixture"``
    mixes by the softmax of the scores there too. Two 3x3 convolutions at every input pixel: ``9 * 4 * hidden * (1 +
    hidden / C)`` multiply-adds a value.

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

    random = True
    bounded = keeps_sign = True
    # All channels have a say in the choice; whether one change of one of them turns it depends on the weights.
    mixes_channels = treats_channels_alike = homogeneous = follows_offset = odd = mirrors = None
    variants = ({"evaluation": "mixture", "hidden": 4},)

    def __init__(self, channels: int, hidden: int = 16, temperature: float = 1.0, evaluation: str = "choice"):
        super().__init__(channels)
        self.hidden = positive_int(self, "hidden", hidden)
        self.temperature = number(self, "temperature", temperature, least=0, open=True)
        self.evaluation = choice(self, "evaluation", evaluation, ("choice", "mixture"))
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, padding_mode="circular")
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
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
        n, c, height, width = x.shape
        if x.stride(1) == 1:
            cells = x.movedim(1, -1).unflatten(2, (width // 2, 2)).unflatten(1, (height // 2, 2))
            phases = cells.permute(4, 2, 0, 1, 3, 5).reshape(4 * n, height // 2, width // 2, c).movedim(-1, 1)
        else:
            cells = x.unflatten(3, (width // 2, 2)).unflatten(2, (height // 2, 2))
            phases = cells.permute(5, 3, 0, 1, 2, 4).reshape(4 * n, c, height // 2, width // 2)
        scores = self.conv2(self.conv1(phases).relu())
        return scores.mean((1, 2, 3)).view(4, n).T

    def flops_per_window(self) -> int:
        m, c = self.hidden, self.channels
        pixel = m * (18 * c + 2) + m * (18 * m + 2)  # biases, ReLU, mean
        return 4 * pixel // c

    def extra_repr(self) -> str:
        return f"stride={self.stride}, hidden={self.hidden}, temperature={self.temperature}"


def _mix(inside: Tensor | None, windows: Tensor, weights: Tensor) -> Tensor:
    return (windows * weights).sum(0)


def _slope(gradient: Tensor, inside: Tensor | None, windows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return weights * gradient, windows * gradient
