"""What every head shares: pool the last map to a vector, then classify it."""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Module):
    """Base of the heads: ``pool`` gives a vector of ``features`` values, fully connected layers give the logits.

    Args:
        channels: channels ``C`` of the last map.
        num_classes: number of classes ``K``.
        size: ``(H, W)`` of the last map, in pixels, for heads that work at one size only.
        hidden: widths of hidden fully connected layers with ReLU between the vector and the logits; none by default.
        features: length of the vector.
    Shape: ``(N, C, H, W) -> (N, K)``.
    Raises: ValueError naming the option for a value that is not allowed.

    A head with a loss of its own overrides ``criterion`` (of the logits alone: training and evaluation use it) or
    ``training_loss`` (of the maps and the images too: training only). One that is fitted to the features of the
    trained trunk defines ``fit(maps, generator)``: the trainer calls it once, after the last epoch, with a function
    ``maps()`` that goes through the training set in evaluation mode, batches of ``((N, C, H, W), (N,))`` in a fixed
    order, as often as it is called, and a generator for what it draws. Until then the head must train the trunk.
    """

    any_size: ClassVar[bool] = True  # does one trained head take maps of any size?

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None,
        hidden: Sequence[int],
        features: int,
    ):
        super().__init__()
        for option, value in (("channels", channels), ("num_classes", num_classes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{self._name()}: {option} must be a whole number of at least 1, got {value!r}")
        if (
            isinstance(hidden, str)
            or not isinstance(hidden, Sequence)
            or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in hidden)
        ):
            raise ValueError(f"{self._name()}: hidden must be a list of widths of at least 1, got {hidden!r}")
        self.channels, self.num_classes = channels, num_classes
        self.size = None if size is None else (int(size[0]), int(size[1]))
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
            features = width
        self.classifier = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def pool(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, features)``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(x))

    def criterion(self, logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean loss of logits ``(N, K)`` for labels ``(N,)``: cross-entropy."""
        return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)

    def training_loss(self, maps: Tensor, images: Tensor, y: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """What training makes small, and the logits, of maps ``(N, C, H, W)`` and the images they came from."""
        logits = self(maps)
        return self.criterion(logits, y, label_smoothing), logits

    def flops(self, size: tuple[int, int]) -> int:
        """Floating point operations of ``pool`` for one image with a last map of ``size``, two for a multiply-add;
        what the fully connected layers cost is counted where it happens."""
        raise NotImplementedError

    def _name(self) -> str:
        return f"head {type(self).__name__}"
