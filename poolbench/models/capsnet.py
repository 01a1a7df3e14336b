"""One convolution under capsules that route by agreement, and the convolutional net that the paper set beside it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from poolbench.checks import TRUTH, checked, number, one_of, share, whole, wholes
from poolbench.models.sites import Sites, Trunk
from poolbench.models.stages import Filters, stage


class CapsNet(Trunk):
    """A 9x9 convolution with ReLU under primary capsules of 9x9 filters and a capsule for each class.

    All but the first convolution is the head, :class:`~poolbench.heads.capsule.Capsule`, which another head replaces.
    The published net has no pool: the primary capsules' convolution has stride 2. With any other pool the map is pooled
    between the two convolutions and the second one has stride 1, and a border that leaves as many primary capsules as
    the stride did.

    ``variant="baseline"`` is the paper's control: three 5x5 convolutions of ``width``, ``width`` and ``width / 2``
    filters, fully connected layers of 328 and 192, dropout, and a linear classifier. It has no pool either; another
    pool than ``native`` stands after each of its convolutions.

    Published errors: MNIST 0.25 % (three runs, shifts of 2 pixels, with reconstruction), the baseline 0.39; CIFAR-10
    10.6 %, by an average of 7 nets on patches of 24x24 pixels with flips and changes of colour, without reconstruction,
    after 600,000 steps of Adam. The defaults are the net for CIFAR-10, 22,476,288 parameters at 24x24 pixels.
    ``padding="valid", types=32, leaky=False, reconstruction=0.0005`` are the net for MNIST, whose images are grey
    there: 6,804,224 parameters without its decoder, the baseline 35,445,522. Every position has its own matrices, so
    the numbers of parameters and votes grow with the image: at 32x32 pixels the defaults are for a GPU,
    ``capsnet_small`` is for CPUs.

    Args:
        pool: makes the pool of each site, if it is not native.
        input_size: ``(H, W)`` of the images in pixels, which a reconstruction must have.
        variant: ``"capsules"`` or ``"baseline"``.
        width: filters of the first convolution, and of that of the primary capsules' input.
        kernel: side of the filters of the convolutions, the primary capsules' too, odd; None: 9, the baseline's 5.
        padding: ``"same"``, which keeps the size, or ``"valid"``, none.
        types: kinds of primary capsules, of 8 numbers each.
        iterations: rounds of routing.
        leaky: let a primary capsule belong to none of the classes.
        reconstruction: weight of the error of a decoder of images; the paper's is 0.0005. 0: no decoder.
        hidden: the baseline's fully connected layers.
        dropout: the baseline's, before its classifier.
    Shape: ``(N, 3, H, W) -> (N, K)``; the native heads take ``input_size`` alone, others any ``H``, ``W``.
    Raises: ValueError naming the option for a value that is not allowed.
    Use: to compare routing, which keeps the position of what it finds, with pooling, which drops it.
    Source: Sabour, Frosst and Hinton, NIPS 2017.
    """

    def __init__(
        self,
        pool: Sites,
        input_size: tuple[int, int],
        variant: str = "capsules",
        width: int = 256,
        kernel: int | None = None,
        padding: str = "same",
        types: int = 64,
        iterations: int = 3,
        leaky: bool = True,
        reconstruction: float = 0.0,
        hidden: Sequence[int] = (328, 192),
        dropout: float = 0.5,
    ):
        super().__init__()
        capsules = checked("model capsnet: variant", variant, one_of("capsules", "baseline")) == "capsules"
        checked("model capsnet: width", width, whole(1 if capsules else 2))
        side = (9 if capsules else 5) if kernel is None else checked("model capsnet: kernel", kernel, whole(1))
        if side % 2 == 0:
            raise ValueError(f"model capsnet: kernel must be odd, got {kernel!r}")
        border = side // 2 if checked("model capsnet: padding", padding, one_of("same", "valid")) == "same" else 0
        checked("model capsnet: types", types, whole(1))
        checked("model capsnet: iterations", iterations, whole(1))
        checked("model capsnet: leaky", leaky, TRUTH)
        checked("model capsnet: reconstruction", reconstruction, number(least=0))
        checked("model capsnet: hidden", hidden, wholes())
        self.dropout = float(checked("model capsnet: dropout", dropout, share()))
        original = not pool.per_site and pool.native
        widths = (width,) if capsules else (width, width, width // 2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for index, filters in enumerate(widths, start=1):
            pools = [] if original else pool.until(2.0**index, channels=filters, native="max")
            layers[f"stage{index}"] = stage(channels, [Filters(filters, side, padding=border)], pools)
            channels = filters
        self.features = nn.Sequential(layers)
        self.channels = channels
        self.native_head = ("flatten", {"hidden": hidden})
        if capsules:
            if not original and padding == "valid":
                border = (side - 1) // 4  # (s - k) / 2 + 1 positions of s, as s / 2 + 2 * border - k + 1 of the half
            options: Mapping[str, Any] = {
                "types": types,
                "primary_kernel": side,
                "primary_stride": 2 if original else 1,
                "primary_padding": border,
                "iterations": iterations,
                "leaky": leaky,
                "shared": False,
                "reconstruction": reconstruction,
                "image_size": input_size,
            }
            self.native_head = ("capsule", options)

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        head = super().make_native_head(num_classes, size)
        if self.native_head[0] == "flatten":
            head.classifier.insert(len(head.classifier) - 1, nn.Dropout(self.dropout))
        return head
