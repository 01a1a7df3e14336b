"""LeNet-5 and the form of it that is usual for CIFAR: two convolutions, two pools, three fully connected layers."""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from poolbench.checks import checked, one_of
from poolbench.models.sites import Sites, Trunk
from poolbench.pooling.average import AveragePool2d


class LeNet(Trunk):
    """5x5 convolutions of 6 and 16 filters without padding, a pool after each, then layers of 120 and 84.

    ``variant="cifar"`` has ReLU and max pools and 62,006 parameters for 10 classes; no error was published for it.

    ``variant="lenet5"`` is the net of 1998 for colour images: each pool is a :class:`TrainedSubsampling`, and a scaled
    tanh follows every layer, the pools too. The layers of 120 and 84 are convolutions there (5x5 and 1x1), so they
    belong to the trunk and other heads see 84 maps of 1x1 pixel. Deviations: each filter of the second convolution sees
    all maps, not those of a table (1,516 parameters there, 2,416 here), three input channels, torch's initial weights,
    and a linear classifier under a softmax in place of distances to drawn digits; 62,050 parameters. Its error on MNIST
    was 0.95 %, with distorted images 0.8; there is none for CIFAR.

    Args:
        pool: makes the pool of each site.
        variant: ``"cifar"`` or ``"lenet5"``.
    Shape: ``(N, 3, H, W) -> (N, K)`` with the ``H``, ``W`` that it was built for, since the native head flattens;
        others take any that is left at least 1 pixel of: 32 pixels for ``lenet5`` with pools of ratio 2, 16 for
        ``cifar``.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: where the smallest net of the family is wanted, as for a first look or a history of pooling.
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998.
    """

    def __init__(self, pool: Sites, variant: str = "cifar"):
        super().__init__()
        original = checked("model lenet: variant", variant, one_of("cifar", "lenet5")) == "lenet5"
        activation = ScaledTanh if original else partial(nn.ReLU, inplace=True)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, width in enumerate((6, 16), start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict(
                conv=nn.Conv2d(channels, width, 5), activation=activation()
            )
            pools = pool.until(2.0**number, channels=width, native=TrainedSubsampling if original else "max")
            layers |= {f"pool{index}": one for index, one in enumerate(pools, start=1)}
            if original:
                layers["pool_activation"] = activation()
            stages[f"stage{number}"] = nn.Sequential(layers)
            channels = width
        if original:
            for number, (width, kernel) in enumerate(((120, 5), (84, 1)), start=3):
                layers = OrderedDict(conv=nn.Conv2d(channels, width, kernel), activation=activation())
                stages[f"stage{number}"] = nn.Sequential(layers)
                channels = width
        self.features = nn.Sequential(stages)
        self.channels = channels
        self.native_head = ("flatten", {} if original else {"hidden": (120, 84)})


class TrainedSubsampling(AveragePool2d):
    r"""Mean of each 2x2 window times a trained coefficient, plus a trained summand, both one per channel.

    .. math:: y_c = a_c \frac{1}{4} \sum_{i \in R} x_{ci} + b_c

    The paper takes the sum, so its coefficient is a quarter of this one. It starts as the average.

    Args:
        channels: channels ``C`` of the input.
    Shape: ``(N, C, H, W) -> (N, C, H // 2, W // 2)``.
    Raises: ValueError for a map that is too small.
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998, section II.B.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(x) * self.weight[:, None, None] + self.bias[:, None, None]

    def flops_per_window(self) -> int:
        return super().flops_per_window() + 2


class ScaledTanh(nn.Module):
    """The paper's activation, which keeps 1 and -1: ``1.7159 tanh(2 x / 3)``."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)
