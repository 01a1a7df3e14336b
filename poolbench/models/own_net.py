"""Anybody's net: whatever a function builds, with our pools at its sites and, where they can be found, our heads."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.checks import PATH, checked, or_null, whole
from poolbench.models.last_map import Cut, find_cut
from poolbench.models.sites import Sites, Trunk
from poolbench.models.swap import SiteChoice, exchange, replace
from poolbench.models.weights import load_weights as read_weights

# Options that are ours; all others are the builder's.
OWN = ("swap_sites", "swap_min_channels", "load_weights", "weights_content", "builder_version")
_WHAT = "model custom"


class OwnNet(Trunk):
    """A net that ``builder`` builds: of timm, of torchvision, or anybody's that takes images ``(N, 3, H, W)``.

    ``pool=native`` is the net as it was built. Any other pool goes through :func:`poolbench.swap`: into the place of
    pooling modules, and behind convolutions with a stride, which then step by one pixel; maps stay as large as they
    were. ``head=native`` is the net's own classifier; another head takes the place of its global pool and classifier,
    where they can be found. The weights are those that the builder gives, the same ones for every pool: drawn from the
    seed, or pretrained. Where the net names another number of classes than the data has, and the builder takes no
    ``num_classes``, its last layer is made anew.

    Args:
        pool: makes the pool of each site, in the order of the forward pass.
        input_size: ``(H, W)`` of the images in pixels.
        builder: called with ``options``, and with ``num_classes`` if it takes that.
        num_classes: of the data.
        swap_sites: where pools stand, as :func:`poolbench.swap` has it; None: all.
        swap_min_channels: sites whose map has fewer channels, as those of a stem, are left as they are; None: none.
        load_weights: file of a state dict (``.pt``, ``.pth`` or ``.safetensors``) that the net takes before its sites
            are changed; a classifier of another number of classes is left out.
        weights_content, builder_version: of a config, which tell one such file and one version from others.
        options: the builder's own.
    Shape: ``(N, 3, H, W) -> (N, K)``.
    Raises: ValueError for a builder that gives no module, a net that does not take the images, sites that are not
        there, weights that do not fit, and a head where the net's own cannot be found.
    Use: when the question is about your net.
    """

    def __init__(
        self,
        pool: Sites,
        input_size: tuple[int, int],
        builder: Callable[..., nn.Module],
        num_classes: int,
        swap_sites: SiteChoice | None = None,
        swap_min_channels: int | None = None,
        load_weights: str | None = None,
        weights_content: str | None = None,
        builder_version: str | None = None,
        **options: Any,
    ):
        super().__init__()
        self._size = tuple(input_size)
        checked(f"{_WHAT}: swap_min_channels", swap_min_channels, or_null(whole(1)))
        checked(f"{_WHAT}: load_weights", load_weights, or_null(PATH))
        net = _built(builder, num_classes, options)
        image = (3, *input_size)
        given = _classes_of(net, image)
        if load_weights is not None:
            read_weights(net, Path(load_weights), weights_content)
        if given != num_classes:
            _other_classes(net, image, given, num_classes)
        # What initialisation draws anew is put back by reset_parameters, with the versions that layers ask for.
        state = net.state_dict()
        self._given = OrderedDict((name, value.detach().clone()) for name, value in state.items())
        self._given._metadata = getattr(state, "_metadata", None)
        self._cut = find_cut(net, image)
        try:
            self.swap_report = replace(
                net, pool, swap_sites or "all", image, strict=True, min_channels=swap_min_channels
            )
        except ValueError as error:
            raise ValueError(f"{_WHAT}: {error}") from error
        self.features = _Features(net, self._cut if not isinstance(self._cut, str) else None)
        self.own_head = False

    @property
    def channels(self) -> int:
        """Of the last map. Raises: ValueError, saying why, where no head of ours can take it."""
        if isinstance(self._cut, str):
            raise ValueError(
                f"{_WHAT}: head must be native for {type(self.features.net).__name__}, whose global pool and "
                f"classifier cannot be found: {self._cut}"
            )
        return self._cut.channels

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        self.own_head = True
        self.features = _Features(self.features.net, None)
        return _Given()

    def reset_parameters(self) -> None:
        """Put back the weights that the builder gave; new pools and heads keep theirs."""
        net = self.features.net
        if self._given:
            net.load_state_dict(self._given, strict=False)
        self._given = OrderedDict()
        if not self.own_head:
            self._drop_what_follows()

    def _drop_what_follows(self) -> None:
        """Take the layers from the net that the last map does not pass."""
        net, reached = self.features.net, set()
        layers = {name: module for name, module in net.named_modules() if name and not list(module.children())}
        handles = [
            module.register_forward_hook(lambda module, args, output: reached.add(module)) for module in layers.values()
        ]
        was_training = net.training
        net.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.features(torch.zeros(2, 3, *self._size))
        finally:
            net.train(was_training)
            for handle in handles:
                handle.remove()
        left = [
            module for module in layers.values() if module not in reached and any(True for _ in module.parameters())
        ]
        used = self._used([p for module in left for p in module.parameters()]) if left else set()
        for module in left:
            if not used.intersection(module.parameters()):
                exchange(net, module, nn.Identity())

    def _used(self, parameters: list[nn.Parameter]) -> set[nn.Parameter]:
        """Those that the last map depends on: a layer that is never called may lend its weights, as in the attention of
        torchvision's Swin."""
        net = self.features.net
        was_training, learned = net.training, [p for p in parameters if p.requires_grad]
        net.eval()
        try:
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                maps = self.features(torch.zeros(2, 3, *self._size))
        finally:
            net.train(was_training)
        if not learned or not maps.requires_grad:
            return set()
        gradients = torch.autograd.grad(maps.sum(), learned, allow_unused=True)
        return {p for p, gradient in zip(learned, gradients, strict=True) if gradient is not None}


def as_trunk(builder: Any, num_classes: int) -> Callable[..., Trunk]:
    """What makes a :class:`~poolbench.models.sites.Trunk` of ``builder``, a class of these or anything that builds a
    net: called with ``pool``, ``input_size`` and the options of the config."""
    if isinstance(builder, type) and issubclass(builder, Trunk):
        return builder
    if not callable(builder):
        raise ValueError(f"{_WHAT}: _target_ must be a class or a function, got {builder!r}")

    def own_net(pool: Sites, input_size: tuple[int, int], **options: Any) -> OwnNet:
        if "num_classes" in options:
            raise ValueError(f"{_WHAT}: num_classes is that of the data ({num_classes}), and not to be given")
        return OwnNet(pool, input_size, builder, num_classes, **options)

    own_net.__name__ = getattr(builder, "__name__", str(builder))
    return own_net


def without_weights(target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` of the builder at the dotted path ``target`` with which it loads no weights, as far as that is known:
    of ours, of timm and of torchvision."""
    dropped = {"load_weights", "weights_content"}
    if target.startswith("timm."):
        dropped |= {"pretrained"}
    if target.startswith("torchvision."):
        dropped |= {"weights"}
    return {key: value for key, value in options.items() if key not in dropped}


class _Features(nn.Module):
    """The net up to its last map, or all of it."""

    def __init__(self, net: nn.Module, cut: Cut | None):
        super().__init__()
        self.net, self.cut = net, cut

    def forward(self, x: Tensor) -> Tensor:
        return _logits(self.net(x)) if self.cut is None else self.cut.take(self.net, x)


class _Given(nn.Module):
    """The head of a net that gives logits already."""

    any_size = True

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def _built(builder: Callable[..., Any], num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    name = getattr(builder, "__name__", str(builder))
    try:
        taken = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        taken = {}
    takes = "num_classes" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())
    # torchvision refuses other classes than those that its weights were trained on.
    of_weights = str(getattr(builder, "__module__", "")).startswith("torchvision.") and options.get("weights")
    given = {**options, "num_classes": num_classes} if takes and not of_weights else dict(options)
    try:
        try:
            net = builder(**given)
        except TypeError as error:
            if "num_classes" in taken or "num_classes" not in given or "num_classes" not in str(error):
                raise
            net = builder(**options)  # what takes anything passed it on to what does not take it
    except TypeError as error:
        raise ValueError(f"{_WHAT}: {name} cannot be called with {', '.join(given) or 'nothing'}: {error}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{_WHAT}: {name} must give a torch.nn.Module, got {type(net).__name__}")
    return net


def _logits(output: Any) -> Tensor:
    """The logits among what a net gives: itself, what it calls so, or the first of several."""
    found = getattr(output, "logits", output)
    return found[0] if isinstance(found, (tuple, list)) else found


def _classes_of(net: nn.Module, image: tuple[int, int, int]) -> int:
    """How many logits ``net`` gives. Raises: ValueError where it takes no such images, or gives something else."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    size = f"{image[1]}x{image[2]}"
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = _logits(net(torch.zeros(2, *image)))
    except (ValueError, RuntimeError, IndexError, AssertionError, TypeError) as error:
        raise ValueError(f"{_WHAT}: {type(net).__name__} does not take images of {size} pixels: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{_WHAT}: {type(net).__name__} gives {what} for 2 images; logits (N, K) are needed")
    return logits.shape[1]


def _other_classes(net: nn.Module, image: tuple[int, int, int], given: int, wanted: int) -> None:
    """Make the last layer of ``net`` anew, for another number of classes."""
    last: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, args, output: last.append(module))
        for module in net.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    training = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            net(torch.zeros(2, *image))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training:
            module.training = mode
    old = last[-1] if last else None
    width = getattr(old, "out_features", getattr(old, "out_channels", None))
    if width != given:
        raise ValueError(
            f"{_WHAT}: {type(net).__name__} gives {given} classes, the data has {wanted}, and its last layer cannot be "
            "found: build it for that many"
        )
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, wanted, bias)
    else:
        new = nn.Conv2d(old.in_channels, wanted, old.kernel_size, old.stride, old.padding, old.dilation, bias=bias)
    exchange(net, old, new.train(old.training))
