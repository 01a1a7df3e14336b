"""Nets as users have them: nothing of ours in them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Small(nn.Module):
    """Two stages with a stride each, and a classifier after a global pool of some kind."""

    def __init__(self, num_classes: int = 1000, top: str = "module", width: int = 8, batch_norm: bool = True):
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.stem = nn.Conv2d(3, width // 2, 3, stride=2, padding=1)
        self.body = nn.Sequential(norm(width // 2), nn.ReLU(), nn.Conv2d(width // 2, width, 3, padding=1))
        self.pool = nn.MaxPool2d(2)
        self.top = top
        self.average = nn.AdaptiveAvgPool2d(2 if top == "vgg" else 1)
        self.fc = nn.Linear(width * {"vgg": 4, "flatten": 16, "two": 2}.get(top, 1), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.body(self.stem(x)))
        if self.top in ("module", "vgg"):
            return self.fc(self.average(x).flatten(1))
        if self.top == "mean":
            return self.fc(x.mean((2, 3)))
        if self.top == "relu":
            return self.fc(F.relu(x).mean((2, 3)))
        if self.top == "flatten":
            return self.fc(x.flatten(1))
        return self.fc(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def small(**options: object) -> nn.Module:
    """Takes anything, and passes it on."""
    return Small(**options)


def fixed() -> nn.Module:
    """Has the classes that it has."""
    return Small(7)


class _WithAuxiliary(nn.Module):
    """In training it gives logits and more, by name."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.net, self.aux = Small(num_classes), nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> object:
        output = type("Output", (), {})()
        output.logits = self.net(x)
        output.more = self.aux(x.mean((2, 3))) if self.training else None
        return output


def with_auxiliary(num_classes: int) -> nn.Module:
    return _WithAuxiliary(num_classes)


def no_module(num_classes: int) -> str:
    return "a net"


def a_map(num_classes: int) -> nn.Module:
    return nn.Conv2d(3, num_classes, 3)


def shrinking(num_classes: int = 10) -> nn.Module:
    """Leaves one pixel of 64: its global pool sees a map of more only for larger images."""
    convolutions = [nn.Conv2d(3 if not n else 4 + n, 5 + n, 3, stride=2, padding=1) for n in range(6)]
    return nn.Sequential(*convolutions, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, num_classes))


def class_maps(num_classes: int = 10) -> nn.Module:
    """Its classifier is a convolution that makes a map of each class, before the global pool."""
    body = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*body, nn.Conv2d(6, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Lending(nn.Module):
    """A layer that is never called: its weights alone are used."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.lent, self.average = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1)
        self.mix, self.fc = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.lent.weight, self.lent.bias, stride=2, padding=1)
        return self.fc(self.average(self.mix(x)).flatten(1))


def lending(num_classes: int = 10) -> nn.Module:
    return _Lending(num_classes)
