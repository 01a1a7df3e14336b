"""Differentiable VLAD: learned centres, and at each the sum of residuals of the pixels that belong to it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import full_precision, widest
from poolbench.checks import TRUTH, number, whole
from poolbench.heads.base import Head, wide
from poolbench.heads.vlad import inverse_length, residuals, unit


class NetVlad(Head):
    r"""Residuals of the map's pixels to ``M`` centres, summed by a soft assignment, then a linear classifier.

    .. math:: V_k = \frac{1}{HW} \sum_i a_k(x_i) \, (x_i - c_k), \qquad a(x) = \mathrm{softmax}(W x + b)

    Each :math:`V_k` is brought to length 1 (so that a crowded centre does not drown the others), then the whole vector
    to length :math:`\sqrt C`. (The paper's is 1, for retrieval; from that a classifier learns by gradient steps far
    more slowly than from an average of ``C`` channels.) The order of the pixels does not matter, nor, with the mean in
    place of the paper's sum, their number. ``W``, ``b`` and the centres ``c`` are free parameters that start together,
    as in the authors' second version of the layer, at :math:`w_k = 2 \alpha c_k`, :math:`b_k = -\alpha |c_k|^2`: there
    the assignment is a softmax of :math:`-\alpha |x - c_k|^2`, which for a large ``alpha`` leaves the nearest centre
    alone.

    The paper starts from a net that has been trained, and its centres from k-means on what that net gives. Here the
    trunk starts from nothing, so the centres do as well: directions drawn at random, of length 1 on average.

    Args:
        channels, num_classes, size, hidden: see :class:`~poolbench.heads.base.Head`.
        centres: ``M``; the paper takes 64 for 512 channels.
        alpha: how hard the first assignment is, above 0; None: so that on average the nearest centre gets 100 times
            what the second one gets, the paper's rule, were the pixels' directions drawn at random too.
        normalise_input: bring each pixel's channels to length 1 first.
    Use: when an image is better told by which kinds of local patterns it holds than by their average, as places are;
        it costs ``M`` times the weights of a global average.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed.
    Source: Arandjelovic, Gronat, Torii, Pajdla and Sivic, CVPR 2016.
    """

    variants = ({"normalise_input": False, "alpha": 0.5}, {"centres": 1})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        hidden: Sequence[int] = (),
        centres: int = 16,
        alpha: float | None = None,
        normalise_input: bool = True,
    ):
        features = self.checked("centres", centres, whole(1)) * self.checked("channels", channels, whole(1))
        super().__init__(channels, num_classes, size, hidden, features)
        self.alpha = None if alpha is None else float(self.checked("alpha", alpha, number(least=0, open=True)))
        self.normalise_input = self.checked("normalise_input", normalise_input, TRUTH)
        self.centres = nn.Parameter(torch.empty(centres, channels))
        self.assignment_weight = nn.Parameter(torch.empty(centres, channels))
        self.assignment_bias = nn.Parameter(torch.empty(centres))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.centres.normal_(std=self.channels**-0.5)
        alpha = self._paper_alpha() if self.alpha is None else self.alpha
        self.assignment_weight.copy_(2 * alpha * self.centres)
        self.assignment_bias.copy_(-alpha * self.centres.square().sum(1))

    def _paper_alpha(self) -> Tensor | float:
        """``log(100)`` over the mean gap between the squared distances to the nearest and the second centre."""
        if len(self.centres) == 1:
            return 1.0  # there is no second
        # Drawn, from a stream of its own that is always the same: the gap has no closed form.
        draws = torch.Generator("cpu").manual_seed(0)
        x = torch.randn(1024, self.channels, generator=draws, dtype=torch.float32, device="cpu")
        distances = torch.cdist(F.normalize(x).to(self.centres.device), self.centres.float()).square()
        nearest = distances.topk(2, largest=False).values
        # Not read as a number: on meta there is none. In float64, as a number would be, where there is one.
        return math.log(100) / (nearest[:, 1] - nearest[:, 0]).mean().to(widest(nearest.device)).clamp(min=1e-6)

    def pool(self, x: Tensor) -> Tensor:
        with full_precision(x):
            x = wide(x).flatten(2)
            weight, bias, centres = (wide(p) for p in (self.assignment_weight, self.assignment_bias, self.centres))
            # 1 / |x_i| goes to the few logits and shares of a pixel, not to its many channels.
            scale = inverse_length(x, 1) if self.normalise_input else None
            logits = weight @ x if scale is None else weight @ x * scale
            shares = (logits + bias[:, None]).softmax(1) / x.shape[-1]
            vector = unit(unit(residuals(shares, x.transpose(1, 2), centres, scale)).flatten(1))
            vector = vector * self.channels**0.5
        return vector.to(self.centres.dtype)

    def flops(self, size: tuple[int, int]) -> int:
        # The two matrix products are counted where they happen.
        pixels, (centres, channels) = size[0] * size[1], self.centres.shape
        lengths = pixels * (2 * channels + 3 + 2 * centres) if self.normalise_input else 0
        softmax = pixels * centres * 8  # with the bias, the division by the number of pixels and the sum of shares
        return (
            lengths + softmax + centres * channels * 9
        )  # the centres' part, two lengths, divisions by them, the scale

    def extra_repr(self) -> str:
        return f"centres={len(self.centres)}, alpha={self.alpha}, normalise_input={self.normalise_input}"
