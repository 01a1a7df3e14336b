"""Which parts of a net make its maps smaller, found by running it once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from poolbench import accelerator
from poolbench.checks import Rule, checked, wholes
from poolbench.models.sites import is_site

# What ``forward`` may call instead of a module, and where its stride stands among the arguments.
_FUNCTIONS = {"max_pool2d": ("maxpool", 2), "avg_pool2d": ("avgpool", 2), "lp_pool2d": ("avgpool", 3)}
_FUNCTIONS |= {"conv2d": ("strided", 3)}

# Told by their names, since nothing of ours needs these packages: timm's, and that of antialiased-cnns.
_SAME = {"MaxPool2dSame", "AvgPool2dSame", "Conv2dSame"}
_BLUR = {"BlurPool2d", "BlurPool"}


_INPUT_SIZE = Rule(
    lambda size: any(wholes(length).allowed(size) for length in (2, 3)),
    "(height, width) or (channels, height, width) in pixels",
)


@dataclass(frozen=True)
class Window:
    """The arithmetic of a window that slides over a map: from the map's size to the number of steps.

    Args:
        kernel, stride, dilation: along height and width, in pixels.
        padding: on both sides together; with ``same``, as much as gives one step per ``stride`` pixels.
        ceil: whether a last window may hang over the border.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False
    same: bool = False

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """``(H', W')`` for a map of ``size``; 0 where no window fits."""
        height, width = (self._steps(side, axis) for axis, side in enumerate(size))
        return height, width

    def _steps(self, side: int, axis: int) -> int:
        stride, padding = self.stride[axis], self.padding[axis]
        if self.same:
            return -(-side // stride)
        room = side + padding - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        if room < 0:
            return 0
        steps = (room + (stride - 1 if self.ceil else 0)) // stride + 1
        # A window that starts beyond the map and its left padding does not count.
        return steps - 1 if self.ceil and (steps - 1) * stride >= side + padding // 2 else steps


@dataclass
class Place:
    """A module, or a call of a function inside one, that may make maps smaller.

    Args:
        name: of the module, as ``named_modules()`` has it.
        kind: ``maxpool``, ``avgpool``, ``blurpool``, ``strided`` or ``patchify``.
        module: None for a function; ``function`` names it then.
        inputs, outputs: shapes at each call, in order.
    """

    name: str
    kind: str
    module: nn.Module | None = None
    function: str = ""
    inputs: list[tuple[int, ...]] = field(default_factory=list)
    outputs: list[tuple[int, ...]] = field(default_factory=list)


def survey(model: nn.Module, input_size: tuple[int, int, int]) -> list[Place]:
    """The places of ``model`` in the order in which an image reaches them, then those that it does not reach.

    One zero image of ``input_size`` ``(C, H, W)`` runs through the model in evaluation mode; no weight, statistic,
    mode or random state changes.

    Raises: ValueError when the model does not take such an image.
    """
    modules = _outside_sites(model)
    found = {name: Place(name, kind, module) for name, module in modules.items() if (kind := kind_of(module))}
    reached: list[Place] = []
    stack: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda module, args: stack.append(name)

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            stack.pop()
            place = found.get(name)
            if place is not None:
                if not place.inputs:
                    reached.append(place)
                place.inputs.append(_shape([*args, *kwargs.values()]))
                place.outputs.append(_shape([output]))

        return hook

    def called(kind: str, function: str, x: Tensor, y: Any) -> None:
        inside = modules[stack[-1]] if stack else model
        if is_site(inside) or kind_of(inside):
            return  # a module called it, and is a place itself
        name = stack[-1] if stack else ""
        place = found.setdefault(f"{name}:{function}", Place(name, kind, function=function))
        if not place.inputs:
            reached.append(place)
        place.inputs.append(tuple(x.shape))
        place.outputs.append(_shape([y]))

    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, *input_size, device=parameter.device, dtype=parameter.dtype)
    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave(name), with_kwargs=True))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), accelerator.undrawn(image.device), _Functions(called):
            model(image)
    except (ValueError, RuntimeError, IndexError, AssertionError) as error:
        size = "x".join(str(side) for side in input_size)
        where = f" at {stack[-1]}" if stack and stack[-1] else ""
        raise ValueError(
            f"{type(model).__name__} does not take an image of {size} (channels x height x width){where}: {error}. "
            "Give the size that it is made for as input_size"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:  # one by one: a part of the model may be frozen
            module.training = mode
    return [*reached, *(place for place in found.values() if not place.inputs)]


def image_size(model: nn.Module, input_size: Sequence[int] | None) -> tuple[int, int, int]:
    """``(C, H, W)`` of the images of ``model``: what is given; else of a model of timm its own, else 224x224 pixels;
    as many channels as the first convolution takes, if they can be an image's, else 3."""
    if input_size is None:
        config = getattr(model, "default_cfg", None) or {}
        input_size = tuple(config.get("input_size", (3, 224, 224)))[-2:]
    checked("input_size", input_size, _INPUT_SIZE)
    if len(input_size) == 2:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        # More channels than a camera has bands are no image, but what a layer before made of one (space to depth).
        input_size = (first.in_channels if first is not None and first.in_channels < 16 else 3, *input_size)
    channels, height, width = input_size
    return channels, height, width


def kind_of(module: nn.Module) -> str | None:
    """Which kind of place ``module`` is; None for one that leaves maps as large as they are."""
    if hasattr(module, "swapped_kind"):
        return module.swapped_kind
    if isinstance(module, nn.MaxPool2d | nn.AdaptiveMaxPool2d | nn.FractionalMaxPool2d):
        return "maxpool"
    if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.LPPool2d):
        return "avgpool"
    if _named(module, _BLUR):
        return "blurpool"
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
        # At stride 1 such a convolution costs 9 times as much and more; with 2x2 windows it is like any other.
        return "patchify" if module.kernel_size == module.stride and max(module.stride) > 2 else "strided"
    return None


def window_of(module: nn.Module) -> Window:
    """The window of a pool or a convolution that :func:`kind_of` knows, of no adaptive one."""
    if hasattr(module, "swapped_window"):
        return module.swapped_window
    if _named(module, _BLUR):
        kernel, stride = int(module.filt_size), int(module.stride)
        padding = getattr(module, "pad_sizes", None) or module.padding  # left, right, top, bottom
        sides = (padding[2] + padding[3], padding[0] + padding[1])
        return Window((kernel, kernel), (stride, stride), (int(sides[0]), int(sides[1])))
    kernel = _pair(module.kernel_size)
    padding = getattr(module, "padding", 0)
    same = _named(module, _SAME) or getattr(module, "same_pad", False) is True
    return Window(
        kernel,
        _pair(module.stride or kernel),
        (0, 0) if isinstance(padding, str) else tuple(2 * side for side in _pair(padding)),
        _pair(getattr(module, "dilation", 1)),
        bool(getattr(module, "ceil_mode", False)),
        same,
    )


class _Functions(TorchFunctionMode):
    """Tells ``called`` of each function that shrinks a map by its stride."""

    def __init__(self, called: Callable[[str, str, Tensor, Any], None]):
        super().__init__()
        self.called = called

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        name = getattr(func, "__name__", "").removeprefix("_").removesuffix("_with_indices")
        if name in _FUNCTIONS and args and isinstance(args[0], Tensor):
            kind, position = _FUNCTIONS[name]
            stride = kwargs.get("stride", args[position] if len(args) > position else None)
            if not stride:  # a pool's is its window's side
                window = kwargs.get("kernel_size", args[position - 1] if len(args) >= position else 1)
                stride = 1 if name == "conv2d" else window
            if max(_pair(stride)) > 1:
                self.called(kind, name, args[0], y)
        return y


def _outside_sites(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, without those inside a pool of ours: a strided convolution there is no place."""
    modules: dict[str, nn.Module] = {}
    pools: list[str] = []
    for name, module in model.named_modules():
        if not any(name.startswith(f"{pool}.") for pool in pools):
            modules[name] = module
            if is_site(module):
                pools.append(name)
    return modules


def _named(module: nn.Module, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(module).__mro__)


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return int(values[0]), int(values[-1])


def _shape(values: list[Any]) -> tuple[int, ...]:
    return tuple(values[0].shape) if values and isinstance(values[0], Tensor) else ()
