"""The places where pools stand: how many a model has, what stands there, and whether the sizes work out."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.heads import create_head
from poolbench.heads.base import Head
from poolbench.messages import counted
from poolbench.pooling import create_pool
from poolbench.registry import call

NATIVE = "native"  # as pool or head: what the model's paper used


def native(**options: Any) -> nn.Module:
    """What ``pool=native`` and ``head=native`` name in a config; the model says what it stands for.

    Raises: ValueError always: outside a model it stands for nothing.
    """
    raise ValueError("'native' is what a model's paper used, so only a model can make it")


class Sites:
    """Makes the pools of a model, site by site; what stands there the model never knows.

    Args:
        pool: a name, class or function called as ``pool(channels=C)`` for all sites, or a list with one per site;
            ``native`` is what the model names at a site.
        seed: seed from which a pool's own weights are drawn, by site.
    """

    def __init__(self, pool: Any, seed: int = 0):
        self.per_site = isinstance(pool, Sequence) and not isinstance(pool, str)
        chosen = list(pool) if self.per_site else [pool]
        if not chosen:
            raise ValueError("pool: a list with one pool per site must not be empty")
        for one in chosen:
            if isinstance(one, nn.Module):
                raise ValueError(
                    f"pool: {type(one).__name__} is made already, and every site needs one of its own: give its name, "
                    "its class or a function that is called as pool(channels=C)"
                )
        self.makers = [None if p in (NATIVE, native) else partial(create_pool, p) for p in chosen]
        self.seed = seed
        self.count = 0
        self.ratio = 1.0  # of the last pool
        self.reached = 1.0  # by how much the pools so far shrink the side of a map
        self.refused: float | None = None  # the last ratio that was too much for the place it was meant for

    @property
    def native(self) -> bool:
        """Whether the next site gets what the model's paper put there."""
        return self._maker() is None

    def __call__(self, channels: int, native: Any = None) -> nn.Module:
        """The pool of the next site, for maps of ``channels`` channels; ``native`` is what the model's paper put
        there: a name, or a function called as ``native(channels=C)``."""
        pool = self._make(channels, native)
        if hasattr(pool, "site"):
            pool.site = self.count  # for one that differs from place to place
        self.count += 1
        self.ratio = ratio_of(pool, channels)
        self.reached *= self.ratio
        pool.is_pooling_site = True  # for the size check and the cost report
        return pool

    def until(self, target: float, channels: int, native: Any = None) -> list[nn.Module]:
        """The pools that bring a map to about ``1 / target`` of the image's side, given those that stand already.

        Usually one; two of ratio sqrt 2; none where an earlier one of ratio 4 went as far already, so that the last
        map has about the same size whatever the ratio. A pool that does not shrink stands once. ``native``, see
        :meth:`__call__`, stands once as well: its paper knew where.

        Raises: ValueError when a list with one pool per site ends too early for that.
        """
        if not self.per_site and self.native:
            return [self(channels, native)]
        pools: list[nn.Module] = []
        while True:
            if self.per_site and self.count == len(self.makers):
                ratio = self.ratio if self.ratio > 1 else 2.0  # as if one more like the last, or a usual one, came next
            else:
                ratio = ratio_of(self._make(channels, native), channels)
                if ratio <= 1:
                    return [*pools, self(channels, native)]
            if self.reached * math.sqrt(ratio) >= target * (1 - 1e-9):
                self.refused = ratio
                return pools
            pools.append(self(channels, native))

    def finish(self) -> None:
        """Called when all sites are filled. Raises: ValueError when a list does not name one pool per site, or when
        none stands anywhere: one pool would shrink a map more than the whole model should, or there is no site."""
        if self.per_site and self.count < len(self.makers):
            named, there = counted(len(self.makers), "pool"), counted(self.count, "site")
            raise ValueError(f"pool: a list of {named}, but the model has {there} for it")
        if not self.count and not self.per_site and self.native:
            return  # a paper may have had no pool at all
        if not self.count and self.refused is None:
            raise ValueError("pool: the model has no site where one could stand")
        if not self.count:
            raise ValueError(
                f"pool: it shrinks a map {self.refused:g} times at once, more than the whole model is made for"
            )

    def _maker(self) -> Callable[..., nn.Module] | None:
        return self.makers[min(self.count, len(self.makers) - 1)]

    def _make(self, channels: int, native: Any) -> nn.Module:
        if self.per_site and self.count >= len(self.makers):
            raise ValueError(f"pool: a list of {counted(len(self.makers), 'pool')}, but the model has more sites")
        maker = self._maker()
        if maker is None:
            if native is None:
                raise ValueError("pool: the model names no native pool for this site")
            maker = partial(create_pool, native)
        with torch.random.fork_rng(devices=[]):
            # Its own stream: a pool that draws weights must not move those of the layers after it.
            _seed(derive(self.seed, "pool", self.count))
            return maker(channels=channels)


class Heads:
    """Makes the head: ``head(channels=C, num_classes=K, size=(H, W))``; ``native`` is the model's own."""

    def __init__(self, head: Any):
        self.native = head in (NATIVE, native)
        self.maker = partial(create_head, head)

    def __call__(self, channels: int, num_classes: int, size: tuple[int, int]) -> nn.Module:
        return self.maker(channels=channels, num_classes=num_classes, size=size)


class Trunk(nn.Module):
    """Base of the models: ``features`` (with the pools in it), then ``head``. A model fills ``features`` and
    ``channels``, and ``native_head`` where its paper had one; :func:`build` adds the head when the size of the last
    map is known.

    A model whose first weights come from images defines ``prepare(images)``, which the trainer calls once, before the
    first step, with some training images ``(N, 3, H, W)`` as the model takes them.
    """

    features: nn.Module
    head: nn.Module
    channels: int  # of the last map
    # What head=native means: a name of a head and its options.
    native_head: tuple[str, Mapping[str, Any]] = ("global_average", {})

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W) -> (N, K)``."""
        return self.head(self.features(x))

    def make_native_head(self, num_classes: int, size: tuple[int, int]) -> nn.Module:
        """The head of the model's paper for a last map of ``size``."""
        name, options = self.native_head
        return create_head(name, channels=self.channels, num_classes=num_classes, size=size, **options)

    def loss(self, x: Tensor, y: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """What training makes small, and the logits: the head's ``training_loss`` where it has one.

        Shape: images ``(N, 3, H, W)``, labels ``(N,)`` ``->`` a number and ``(N, K)``.
        """
        maps = self.features(x)
        if callable(getattr(self.head, "training_loss", None)):
            return self.head.training_loss(maps, x, y, label_smoothing)
        logits = self.head(maps)
        return self.criterion(logits, y, label_smoothing), logits

    @property
    def reads_chances(self) -> bool:
        """Whether the loss is cross-entropy, so that a softmax of the logits gives chances of the classes."""
        own = getattr(type(self.head), "criterion", Head.criterion)
        return own is Head.criterion

    def criterion(self, logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss of logits ``(N, K)``: the head's ``criterion`` where it has one, else cross-entropy."""
        if callable(getattr(self.head, "criterion", None)):
            return self.head.criterion(logits, y, label_smoothing)
        return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)


def build(
    model: Callable[..., Trunk],
    pool: Sites,
    head: Heads,
    num_classes: int,
    input_size: tuple[int, int],
    seed: int,
    options: Mapping[str, Any],
) -> Trunk:
    """A model with its pools and its head, checked site by site and initialised layer by layer."""
    name = getattr(model, "__name__", str(model))
    if not isinstance(input_size, Sequence) or len(input_size) != 2:
        raise ValueError(f"model {name!r}: input_size must be (height, width) in pixels, got {input_size!r}")
    device = torch.get_default_device()
    with torch.random.fork_rng(devices=[]), made_for(device):
        _seed(derive(seed, "model"))
        # A model with weights for every position asks for the size.
        tied = {"input_size": tuple(input_size)} if "input_size" in signature(model).parameters else {}
        net = call(model, f"model {name!r}", {"pool": pool, **tied, **options})
        pool.finish()
        size = map_sizes(net.features, input_size)[-1][1]
        if head.native:
            net.head = net.make_native_head(num_classes, size)
        else:
            net.head = head(channels=net.channels, num_classes=num_classes, size=size)
        initialise(net, seed)
        tie(net)
    return moved(net, device)


def made_for(device: torch.device) -> AbstractContextManager[Any]:
    """Where the weights of what goes to ``device`` are made: on the CPU, so that a seed gives the same ones for every
    device; for meta, where there are none, on meta."""
    place = torch.device("meta" if device.type == "meta" else "cpu")
    return nullcontext() if torch.get_default_device().type == place.type else place


def moved(net: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """``net``, newly made, with its parameters and buffers on ``device``, those of fractions in ``dtype``."""

    def there(x: Tensor) -> Tensor:
        return x.to(device, dtype if x.is_floating_point() else None)

    # Module.to does it too, but not with the imagined devices of torch's FakeTensorMode, in which nets are tried out.
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and there(parameter) is not parameter:
                if parameter not in made:  # tied ones stay tied
                    made[parameter] = nn.Parameter(there(parameter.detach()), parameter.requires_grad)
                module._parameters[name] = made[parameter]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else there(buffer)
    return net


def tie(net: nn.Module) -> None:
    """Make one parameter of those that pools of one class declare as shared in a net (``shared_in_net``)."""
    first: dict[tuple[type, str], nn.Parameter] = {}
    for pool in net.modules():
        if is_site(pool):
            for name in getattr(pool, "shared_in_net", ()):
                setattr(pool, name, first.setdefault((type(pool), name), getattr(pool, name)))


def initialise(model: nn.Module, seed: int) -> None:
    """Draw each layer's weights from a generator seeded by ``seed`` and the layer's name, so that two models agree in
    every layer that they share, whatever stands at their sites. A layer says how by ``reset_parameters``; what is made
    of layers has the last word on them by its own. Layers with ``draws_in_turn`` draw from one generator, in order."""
    with torch.random.fork_rng(devices=[]):
        _seed(derive(seed, "model"))
        for module in model.modules():
            if getattr(module, "draws_in_turn", False):
                module.reset_parameters()
        for name, module in reversed(list(model.named_modules())):  # the inner ones first
            if callable(getattr(module, "reset_parameters", None)) and not getattr(module, "draws_in_turn", False):
                _seed(derive(seed, name))
                module.reset_parameters()


def derive(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose: streams of different purposes are independent, and of one purpose the same everywhere."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1  # torch takes 63 bits


def _seed(seed: int) -> None:
    # Models are made on the CPU. torch.manual_seed would reset the generators of accelerators too, and the forks of
    # this file put back the CPU's alone.
    torch.default_generator.manual_seed(seed)


def is_site(module: nn.Module) -> bool:
    """Whether ``module`` stands at a site: :class:`Sites` marks what it makes."""
    return getattr(module, "is_pooling_site", False)


def map_sizes(features: nn.Module, input_size: tuple[int, int]) -> list[tuple[str, tuple[int, int]]]:
    """Sizes ``(H, W)`` after each site, in order, then ``("last map", size)``, found by running two grey images.

    Raises: ValueError that names the site at which a map shrinks to nothing or cannot be served.
    """
    sizes: list[tuple[str, tuple[int, int]]] = []
    current: list[str] = []

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            x = first_of(args, kwargs)
            current.append(f"{name} (map of {x.shape[-2]}x{x.shape[-1]})")

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            x = first_of(args, kwargs)
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            if len(shape) != 4 or shape[:2] != x.shape[:2] or 0 in shape:
                raise ValueError(
                    f"the pool gave {shape or type(output).__name__} for {tuple(x.shape)}; "
                    "it must give (N, C, H', W') with the same N and C, and H', W' of at least 1"
                )
            sizes.append((name, (output.shape[-2], output.shape[-1])))
            current.pop()

        return hook

    handles = []
    for name, module in features.named_modules():
        if is_site(module):
            handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(after(name), with_kwargs=True))
    was_training = features.training
    features.eval()  # No statistic of a normalisation may move before the first step.
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            last = features(torch.full((2, 3, *input_size), 0.5))
    except (ValueError, RuntimeError, IndexError) as error:
        where = f"site {current[-1]}" if current else "a layer before the first site or between sites"
        path = " -> ".join(f"{h}x{w}" for h, w in [input_size, *(size for _, size in sizes)])
        raise ValueError(
            f"images of {input_size[0]}x{input_size[1]} do not fit: at {where}: {error} (so far {path})"
        ) from error
    finally:
        features.train(was_training)
        for handle in handles:
            handle.remove()
    # A net that somebody else built may give its logits at once.
    return [*sizes, ("last map", (last.shape[-2], last.shape[-1]) if last.dim() == 4 else (1, 1))]


def first_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module was called with, by whatever name: ``layer(x)`` or ``layer(input=x)``."""
    return next(iter((*args, *kwargs.values())))


def ratio_of(pool: nn.Module, channels: int) -> float:
    """By how much ``pool`` shrinks the side of a map: what it says, else what it does to a map of 64 pixels.

    Raises: ValueError where it shrinks rows and columns differently: how many sites a net has follows from one number.
    """
    ratio = getattr(pool, "ratio", None)
    if isinstance(ratio, Sequence):
        raise ValueError(
            f"pool {type(pool).__name__}: stride must be one number (or twice the same) in a net, whose sites shrink "
            f"rows and columns alike, got {getattr(pool, 'stride', ratio)}"
        )
    if ratio is None:
        was_training = pool.training
        pool.eval()  # no statistic of its may move
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                shape = pool(torch.zeros(2, channels, 64, 64)).shape
                ratio = 64 / shape[3] if len(shape) == 4 else 2.0
        except (RuntimeError, ValueError, AttributeError, ZeroDivisionError):
            ratio = 2.0  # the check of sizes will say what is wrong with it
        finally:
            pool.train(was_training)
    return float(ratio)
