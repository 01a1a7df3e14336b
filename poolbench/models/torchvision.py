"""The convolutional classifiers of torchvision, with another pool wherever they make their maps smaller."""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torchvision import models

from poolbench.checks import TRUTH, checked, whole
from poolbench.models.sites import Sites, Trunk
from poolbench.models.survey import survey
from poolbench.models.swap import SiteChoice, exchange, replace
from poolbench.models.torchvision_names import NO_MAP
from poolbench.registry import nearest

# The children of a net that turn its last map into logits; those before it make the map.
_TOP = ("avgpool", "dropout", "flatten", "classifier", "fc", "head")

# With which sites are found, whatever the images are: it fits all nets, and no site depends on the size.
_IMAGE = (3, 96, 96)


class Torchvision(Trunk):
    """A classifier of torchvision by its name, split at its last map.

    ``pool=native`` is the net as torchvision builds it, of random weights. Any other pool goes through
    :func:`poolbench.swap`: into the place of pooling modules, and behind convolutions with a stride, which then step by
    one pixel; every map stays as large as it was. ``head=native`` is the net's own classifier, for any number of
    classes; any other head of ours takes what follows the last map away. Auxiliary classifiers are left out. Initial
    weights are drawn as torchvision draws them, from the seed, the same ones for every pool.

    The nets were made for images of 224 pixels, and shrink a map 32 times: of 32 pixels one is left.

    Args:
        pool: makes the pool of each site, in the order of the forward pass.
        name: what torchvision calls it: any of its classifiers but ``vit_*`` and ``maxvit_t``, whose last map is none
            or of one size only.
        small_stem: the usual change for small images: the first convolution becomes 3x3 with stride 1, and a max pool
            that is the next to shrink the map is left out.
        sites: where pools stand, as :func:`poolbench.swap` has it: ``all``, ``maxpool``, ``strided``, ``layer2``, ...;
            names of modules are torchvision's.
    Shape: ``(N, 3, H, W) -> (N, K)``, any ``H``, ``W`` that the net leaves something of.
    Raises: ValueError for a name that is unknown, a stem without a stride, sites that are not there, and a pool whose
        ratio does not fit a site.
    Use: when what you will deploy is one of these nets, or to see whether a finding on small nets holds in one.
    Source: torchvision.models; its documentation names the paper of each.
    """

    def __init__(self, pool: Sites, name: str = "resnet18", small_stem: bool = False, sites: SiteChoice = "all"):
        super().__init__()
        known = models.list_models(module=models)
        if name not in known or name.startswith(NO_MAP):
            why = "has no last map that another head could take" if name in known else "is none of torchvision's nets"
            raise ValueError(f"model torchvision: name {name!r} {why}.{nearest(name, known)} Known: {', '.join(known)}")
        self.name, self.small_stem = name, checked("model torchvision: small_stem", small_stem, TRUTH)
        self._entrance: list[str] = []  # the layers that a small stem replaces, found once
        net = self._original()
        self.channels = _channels(_split(net)[0])
        try:
            self.swap_report = replace(net, pool, sites, _IMAGE, strict=True)
        except ValueError as error:
            raise ValueError(f"model torchvision: {error}") from error
        self.features, _ = _split(net)
        self.own_classes: int | None = None  # of the native head, if that is ours

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        positive = checked("model torchvision: num_classes", num_classes, whole(1))
        self.own_classes = positive
        _, top = _split(self._original(positive))
        top.channels = self.channels
        return top

    def reset_parameters(self) -> None:
        """Draw the weights as torchvision's constructors do: their draws follow from the order of the layers, which
        swapping leaves alone. The pools keep theirs."""
        trunk, _ = _split(self._original())
        self.features.load_state_dict(trunk.state_dict(), strict=False)
        if self.own_classes is not None:
            _, top = _split(self._original(self.own_classes))
            self.head.load_state_dict(top.state_dict())

    def _original(self, num_classes: int = 1000) -> nn.Module:
        # The number of classes moves the draws, so the trunk always comes from a net with one number of them.
        options: dict[str, Any] = {"num_classes": num_classes}
        if self.name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        net = models.get_model(self.name, weights=None, **options)
        if self.small_stem:
            self._entrance = self._entrance or _entrance(net, self.name)
            _keep_small_maps(net, *self._entrance)
        return net


class _Top(nn.Sequential):
    """What follows the last map in a net of torchvision."""

    any_size = True  # all of them average the map to a fixed size
    channels: int

    def flops(self, size: tuple[int, int]) -> int:
        """Operations of the average for one image; what the other layers cost is counted where it happens."""
        return self.channels * size[0] * size[1]


def _split(net: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The layers of ``net`` up to its last map, and those after it, both under the names that they have there."""
    children = list(net.named_children())
    first = next(n for n, (name, _) in enumerate(children) if name in _TOP)
    trunk, top = OrderedDict(children[:first]), OrderedDict(children[first:])
    if len(trunk) == 1 and isinstance(children[0][1], nn.Sequential):
        trunk = OrderedDict(children[0][1].named_children())
    # What a net does by functions in its forward, as layers.
    if isinstance(net, models.DenseNet):
        trunk["relu"] = nn.ReLU(inplace=True)
    parts = [module for child in top.values() for module in child.modules()]
    if not any(isinstance(part, nn.AdaptiveAvgPool2d) for part in parts):
        top = OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), **top)
    if not any(isinstance(part, nn.Flatten) for part in parts):
        before = [name for name in top if name == "avgpool"]
        after = [name for name in top if name != "avgpool"]
        names = [*before, "flatten", *after] if before else [*after, "flatten"]
        top = OrderedDict((name, nn.Flatten() if name == "flatten" else top[name]) for name in names)
    return nn.Sequential(trunk), _Top(top)


def _channels(trunk: nn.Module) -> int:
    trunk.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        channels = trunk(torch.zeros(1, *_IMAGE)).shape[1]
    trunk.train()
    return channels


def _entrance(net: nn.Module, name: str) -> list[str]:
    """The names of the first convolution of ``net``, and of the max pooling that is the next to shrink the map, if one
    does. Raises: ValueError where that convolution has no stride."""
    places = [place for place in survey(net, _IMAGE) if place.inputs and place.inputs[0][2:] != place.outputs[0][2:]]
    if not isinstance(places[0].module, nn.Conv2d) or places[0].inputs[0] != (1, *_IMAGE):
        raise ValueError(
            f"model torchvision: small_stem must be false for {name}, whose first convolution has no stride"
        )
    return [places[0].name, *(place.name for place in places[1:2] if isinstance(place.module, nn.MaxPool2d))]


def _keep_small_maps(net: nn.Module, convolution: str, *pool: str) -> None:
    """Let the entrance of ``net`` keep the size of small images."""
    first = net.get_submodule(convolution)
    conv = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=first.bias is not None)
    with torch.no_grad():  # drawn as the net draws its filters, for a window of 3x3
        # The deviation is not read as a number: on meta there is none. In float64, as a number would be.
        conv.weight.normal_().mul_(first.weight.std().double() * math.sqrt(first.weight[0, 0].numel() / 9))
        if first.bias is not None:
            conv.bias.copy_(first.bias)
    exchange(net, first, conv)
    for name in pool:
        exchange(net, net.get_submodule(name), nn.Identity())
