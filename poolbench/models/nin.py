"""Network in Network: each convolution is followed by small ones across the channels, and classes are maps."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from poolbench.checks import TRUTH, checked, one_of, share, wholes
from poolbench.models.sites import Sites, Trunk
from poolbench.models.stages import Filters, HeConv2d, stage

_KERNELS = ((5, 1, 1), (5, 1, 1), (3, 1))  # of each stage; the last 1x1 convolution, a map a class, is the head's


class NiN(Trunk):
    """Three stages of a convolution and 1x1 convolutions, with a pool and dropout after the first two.

    ReLU follows every convolution, the last too, which gives a map a class; the averages of these maps are the logits.
    With the defaults it has 966,986 parameters for 10 classes.

    Published errors on CIFAR-10: 10.41 % without augmentation, 14.51 without dropout as well, 8.81 with shifts and
    flips; of SGD with batches of 128 on contrast-normalised and whitened images, the rate lowered tenfold twice, each
    time when no more was gained. That was with 3x3 maxima every 2 pixels at both places; later copies of the net often
    have an average at the second.

    As published it takes its time to start, and it can die: where all class maps are below 0, all logits are 0 and
    nothing gets a gradient; the loss then stays at ``ln K``. It did so within some dozens of steps with ``init="he"``
    and SGD, not with ``init="paper"``, whose maps are faint at first; with ``batch_norm`` it learns at once.

    Args:
        pool: makes the pool of each site; natively a 3x3 maximum every 2 pixels.
        widths: filters of each convolution, those of the class maps left out.
        dropout: share of the values that are dropped after each of the two pools.
        batch_norm: normalise before each ReLU of the trunk; the paper does not.
        init: ``"paper"``: normal with a deviation of 0.05 in every layer; or ``"he"``, in the trunk alone.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave something of.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: where a net without fully connected layers is wanted whose classes can be seen as maps.
    Source: Lin, Chen and Yan, ICLR 2014, and the authors' definition for cuda-convnet.
    """

    native_head = ("global_average", {"class_maps": True})

    def __init__(
        self,
        pool: Sites,
        widths: Sequence[int] = (192, 160, 96, 192, 192, 192, 192, 192),
        dropout: float = 0.5,
        batch_norm: bool = False,
        init: str = "paper",
    ):
        super().__init__()
        checked("model nin: widths", widths, wholes(8))
        checked("model nin: dropout", dropout, share())
        checked("model nin: batch_norm", batch_norm, TRUTH)
        self.init = checked("model nin: init", init, one_of("paper", "he"))
        self.original_head = False
        rest = iter(widths)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, kernels in enumerate(_KERNELS, start=1):
            filters = [Filters(next(rest), kernel) for kernel in kernels]
            layers[f"stage{number}"] = block = stage(channels, filters, batch_norm=batch_norm)
            channels = filters[-1].width
            if number < len(_KERNELS):
                # All at the end, since the layers of a stage differ in width.
                for index, one in enumerate(pool.until(2.0**number, channels, native="overlapping"), start=1):
                    block.add_module(f"pool{index}", one)
                layers[f"dropout{number}"] = nn.Dropout(dropout)
        self.features = nn.Sequential(layers)
        self.channels = channels

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        self.original_head = True
        return super().make_native_head(num_classes, size)

    def reset_parameters(self) -> None:
        """The paper's initial weights over those that the layers drew, He's; the pools keep theirs."""
        if self.init == "he":
            return
        blocks = [block for block in self.features if isinstance(block, nn.Sequential)]
        layers = [layer for block in blocks for layer in block if isinstance(layer, HeConv2d)]
        if self.original_head:
            layers += [layer for layer in self.head.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=0.05)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
