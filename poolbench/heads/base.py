"""What every head shares: pool the last map to a vector, then classify it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.checks import Rule, checked, is_whole, share, whole


def _are_widths(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(is_whole(width, 1) for width in value)


_WIDTHS = Rule(_are_widths, "a list of widths of at least 1")


class Head(nn.Module):
    """Base of the heads: ``pool`` gives a vector of ``features`` values, fully connected layers give the logits.

    Args:
        channels: channels ``C`` of the last map.
        num_classes: number of classes ``K``.
        size: ``(H, W)`` of the last map, in pixels, for heads that work at one size only.
        hidden: widths of hidden fully connected layers with ReLU between the vector and the logits; none by default.
        features: length of the vector.
        dropout: share of the values of each hidden layer that training sets to 0; None for heads without the option.
        least_side, least_cells: rows and columns, and their product, that a map must have at least.
        because: why, for the message that refuses a smaller one.
    Shape: ``(N, C, H, W) -> (N, K)``, ``N`` of 0 too.
    Raises: ValueError naming the option for a value that is not allowed; for maps with another number of axes or of
        channels, of whole numbers, or too small, saying which.

    A subclass says how by ``pool``, or by ``logits`` where no vector comes first.

    A head with a loss of its own overrides ``criterion`` (of the logits alone: training and evaluation use it) or
    ``training_loss`` (of the maps and the images too: training only). One that is fitted to the features of the
    trained trunk defines ``fit(maps, generator)``: the trainer calls it once, after the last epoch, with a function
    ``maps()`` that goes through the training set in evaluation mode, batches of ``((N, C, H, W), (N,))`` in a fixed
    order, as often as it is called, and a generator for what it draws. Until then the head must train the trunk.
    """

    any_size: ClassVar[bool] = True  # does one trained head take maps of any size (from its least on)?

    # Further sets of options with which the contract is tested, beside the defaults.
    variants: ClassVar[tuple[dict[str, Any], ...]] = ()

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None,
        hidden: Sequence[int],
        features: int,
        dropout: float | None = None,
        least_side: int = 1,
        least_cells: int = 1,
        because: str = "",
    ):
        super().__init__()
        self.channels = self.checked("channels", channels, whole(1))
        self.num_classes = self.checked("num_classes", num_classes, whole(1))
        self.checked("hidden", hidden, _WIDTHS)
        if dropout is not None:
            self.checked("dropout", dropout, share())
        self.least_side, self.least_cells, self.because = least_side, least_cells, because
        self.size = None if size is None else (int(size[0]), int(size[1]))
        if self.size is not None:
            self._check_size(*self.size)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
            layers += [] if dropout is None else [nn.Dropout(dropout)]
            features = width
        self.classifier = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def pool(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, features)``."""
        raise NotImplementedError

    def logits(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, K)``, of maps that are checked already."""
        return self.classifier(self.pool(x))

    def forward(self, input: Tensor) -> Tensor:  # named as torch's layers name it
        if isinstance(input, torch.fx.Proxy):  # a net is traced by its symbols: a layer as torch's own, not its formula
            return _as_layer(self, input)
        self._check_map(input)
        return self.logits(input)

    def criterion(self, logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean loss of logits ``(N, K)`` for labels ``(N,)``: cross-entropy."""
        return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)

    def training_loss(self, maps: Tensor, images: Tensor, y: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """What training makes small, and the logits, of maps ``(N, C, H, W)`` and the images they came from."""
        logits = self(maps)
        return self.criterion(logits, y, label_smoothing), logits

    def flops(self, size: tuple[int, int]) -> int:
        """Floating point operations of ``pool`` for one image with a last map of ``size``, two for a multiply-add;
        what convolutions, matrix products and fully connected layers cost is counted where it happens."""
        raise NotImplementedError

    def _check_map(self, x: Tensor) -> None:
        """Raises: ValueError for what is no map that this head was made for."""
        if x.dim() != 4:
            raise ValueError(f"{self._name()}: it takes maps (N, C, H, W), got a tensor of shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"{self._name()}: it takes maps of floating point numbers, got {x.dtype}: convert them")
        if x.shape[1] != self.channels:
            raise ValueError(f"{self._name()}: it was made for maps of {self.channels} channels, got {x.shape[1]}")
        self._check_size(x.shape[2], x.shape[3])

    def _check_size(self, height: int, width: int) -> None:
        """Raises: ValueError for a map with less than ``least_side`` or ``least_cells``."""
        if min(height, width) < self.least_side or height * width < self.least_cells:
            side, cells = self.least_side, self.least_cells
            least = f"{side}x{side} pixels" if side > 1 else f"{cells} pixels"
            why = self.because and f": {self.because}"
            raise ValueError(f"{self._name()}: it needs maps of at least {least}, got {height}x{width}{why}")

    def checked(self, option: str, value: Any, rule: Rule) -> Any:
        """``value`` of an option, as ``rule`` of :mod:`poolbench.checks` allows it.

        Raises: ValueError naming this head, the option, its value and what is allowed.
        """
        return checked(f"{self._name()}: {option}", value, rule)

    def _name(self) -> str:
        return f"head {type(self).__name__}"


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 or wider: for powers and roots, which overflow or vanish in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def plus(x: Tensor, eps: float) -> Tensor:
    """``x + eps`` with an ``eps`` of up to 1e-8, which the optimiser of torch.onnx takes for 0 and leaves out."""
    if torch.compiler.is_compiling():
        return (x * (1 / eps) + 1) / (1 / eps)
    return x + eps


def _as_layer(head: Head, x: torch.fx.Proxy) -> torch.fx.Proxy:
    """A call of ``head`` in the graph that torch.fx makes of a net."""
    path = x.tracer.path_of_module(head)
    if not path:
        raise ValueError(f"{head._name()}: torch.fx takes it as one layer: trace the net that it stands in")
    return x.tracer.create_proxy("call_module", path, (x,), {})
