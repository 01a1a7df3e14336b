"""The all convolutional net and its controls: is a pool needed, or do a stride or one more convolution do as well?"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from poolbench.checks import TRUTH, checked, one_of, share, wholes
from poolbench.models.sites import Sites, Trunk
from poolbench.models.stages import Filters, stage

_KERNELS = {"A": (5,), "B": (5, 1), "C": (3, 3)}  # of each of the two stages before a pool


class AllCNN(Trunk):
    """Two stages of convolutions with a pool, a 3x3 and a 1x1 convolution, and one map a class, averaged.

    Four variants of each base net differ in how the two stages halve the map:

    ========== ========================================================== =================================
    variant    the map is halved by                                       error of A, B, C (%)
    ========== ========================================================== =================================
    base       a pool, 3x3 maximum every 2 pixels                         12.47, 10.20, 9.74
    strided    stride 2 in the stage's last convolution, no pool          13.46, 10.98, 10.19
    convpool   one more 3x3 convolution, then the pool                    10.21, 9.33, 9.31
    all        the same convolution with stride 2, no pool (All-CNN)      10.30, 9.10, 9.08
    ========== ========================================================== =================================

    So ``all`` against ``convpool`` is the fair question, as both have the same filters; they start with the same
    weights here. The errors are the paper's on CIFAR-10 without augmentation, whitened, after 350 epochs of SGD with
    momentum 0.9, weight decay 0.001 and a rate that falls tenfold at epochs 200, 250 and 300, the best of 0.25, 0.1,
    0.05 and 0.01; with flips and shifts of up to 5 pixels ``all`` of C has 7.25. Parameters for 10 classes: 839,242
    (A), 885,610 (B), 954,730 (C), where the paper prints 1.3 million for C, and as ``convpool`` or ``all`` 1,254,250,
    1,300,618 and 1,369,738.

    The paper tells no initial weights, and repetitions of it got stuck at chance: with strong dropout the first logits
    are far apart, the first steps push what the classes have in common below 0, and a class map that is 0 everywhere
    learns no more. Here the filters are He's, with dropout allowed for, and the class maps start near 1; so the net
    trains at rates of 0.01 to 0.03, where from plain He weights it was at chance with up to half of its classes dead.
    ``batch_norm`` is there for those who want a higher rate.

    It averages maps of 6x6 pixels, which the last 3x3 convolution leaves of 8x8 without padding; many repetitions pad
    it. ``strided`` of B steps in its 1x1 convolution, which sees a quarter of the map then.

    Args:
        pool: makes the pool of each site.
        base: ``"A"``, a 5x5 convolution a stage; ``"B"``, with a 1x1 after it; ``"C"``, two 3x3.
        variant: ``"base"``, ``"strided"``, ``"convpool"`` or ``"all"``; those without a pool need ``pool=native``.
        widths: filters of the first stage, and of all others.
        input_dropout: share of the input's values that are dropped in training.
        dropout: share of the values that are dropped after each pool or what stands for it.
        last_padding: border of the last 3x3 convolution in pixels, 0 or 1.
        batch_norm: normalise before each ReLU of the trunk; the paper does not.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the pools leave at least 3 pixels of (1 with padding).
    Raises: ValueError naming the option for a value that is not allowed, or for a pool where the variant has none.
    Use: to ask whether pooling does anything that a stride or a layer more would not.
    Source: Springenberg, Dosovitskiy, Brox and Riedmiller, ICLR 2015 workshop, arXiv:1412.6806.
    """

    native_head = ("global_average", {"class_maps": True})

    def __init__(
        self,
        pool: Sites,
        base: str = "C",
        variant: str = "base",
        widths: Sequence[int] = (96, 192),
        input_dropout: float = 0.2,
        dropout: float = 0.5,
        last_padding: int = 0,
        batch_norm: bool = False,
    ):
        super().__init__()
        kernels = _KERNELS[checked("model all_cnn: base", base, one_of(*_KERNELS))]
        checked("model all_cnn: variant", variant, one_of("base", "strided", "convpool", "all"))
        checked("model all_cnn: widths", widths, wholes(2))
        checked("model all_cnn: input_dropout", input_dropout, share())
        checked("model all_cnn: dropout", dropout, share())
        checked("model all_cnn: last_padding", last_padding, one_of(0, 1))
        checked("model all_cnn: batch_norm", batch_norm, TRUTH)
        pooled = variant in ("base", "convpool")
        if not pooled and (pool.per_site or not pool.native):
            partner = "convpool" if variant == "all" else "base"
            raise ValueError(
                f"model all_cnn: variant {variant!r} has no pool but a stride: use pool=native, "
                f"or variant={partner}, which has the same convolutions and a pool"
            )
        if variant in ("convpool", "all"):
            kernels = (*kernels, 3)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dropout0=nn.Dropout(input_dropout))
        channels = 3
        for number, width in enumerate(widths, start=1):
            filters = [Filters(width, kernel) for kernel in kernels]
            if pooled:
                pools = pool.until(2.0**number, channels=width, native="overlapping")
            else:
                pools, filters[-1] = [], Filters(width, kernels[-1], stride=2)
            layers[f"stage{number}"] = stage(
                channels, filters, pools, batch_norm, input_dropout if number == 1 else dropout
            )
            layers[f"dropout{number}"] = nn.Dropout(dropout)
            channels = width
        last = [Filters(channels, 3, padding=last_padding), Filters(channels, 1)]
        layers["stage3"] = stage(channels, last, batch_norm=batch_norm, dropped=dropout)
        self.features = nn.Sequential(layers)
        self.channels = channels

    def reset_parameters(self) -> None:
        if getattr(self.head, "class_maps", False):
            nn.init.normal_(self.head.classifier[-1].weight, std=0.01)
            nn.init.ones_(self.head.classifier[-1].bias)
