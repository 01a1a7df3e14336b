"""Numbers for each channel that are read off the whole map: what steers a pool by global features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import full_precision


class Guide(nn.Module):
    """The mean of each channel, a hidden layer with normalisation and ReLU, then ``outputs`` layers with normalisation.

    The layers before a normalisation have no bias: it would be taken out again.

    Args:
        channels: channels ``C`` of the map.
        hidden: width of the hidden layer.
        outputs: how many numbers each channel gets.
    Shape: ``(N, C, H, W) ->`` a tuple of ``outputs`` tensors ``(N, C, 1, 1)``, in float32 or wider.
    """

    def __init__(self, channels: int, hidden: int, outputs: int):
        super().__init__()
        self.hidden = nn.Linear(channels, hidden, bias=False)
        self.hidden_norm = nn.BatchNorm1d(hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, channels, bias=False) for _ in range(outputs))
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        wide = torch.promote_types(x.dtype, torch.float32)
        with full_precision(x):
            mean = x.mean((2, 3), dtype=wide)
            z = F.relu(normalised(F.linear(mean, self.hidden.weight.to(wide)), self.hidden_norm))
            return tuple(
                normalised(F.linear(z, layer.weight.to(wide)), norm)[:, :, None, None]
                for layer, norm in zip(self.layers, self.norms, strict=True)
            )

    def flops(self, size: tuple[int, int]) -> int:
        """For one image: the means, the layers, normalisations folded to one multiply-add, the ReLU."""
        channels, hidden = self.hidden.in_features, self.hidden.out_features
        outputs = len(self.layers)
        return channels * size[0] * size[1] + hidden * (2 * channels + 3) + outputs * channels * (2 * hidden + 2)


def normalised(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """``norm`` of ``x`` ``(N, features)``, in the precision of ``x`` whatever its own. A single image has no
    statistics: it is normalised as in evaluation."""
    training = norm.training and x.shape[0] > 1
    if norm.training == training and norm.weight.dtype == x.dtype:
        return norm(x)
    mean, variance, weight, bias = (
        one.to(x.dtype) for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    y = F.batch_norm(x, mean, variance, weight, bias, training, norm.momentum, norm.eps)
    if training:
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.num_batches_tracked.add_(1)
    return y
