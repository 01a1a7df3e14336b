"""What every measure is handed: a trained net, and the images that it is read on."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.models.sites import derive, first_of, is_site
from poolbench.training.loop import Batch, autocast


@dataclass(frozen=True)
class Subject:
    """A net, and the images that measures read it on.

    Args:
        model: gives logits ``(N, K)`` of images ``(N, C, H, W)``; in evaluation mode.
        batches: begins a new pass over the images ``(N, C, H, W)``, normalised, and their labels ``(N,)``.
        mean, std: of each channel, where black is 0 and white is 1: what the images were normalised by.
        seed: whatever a measure draws comes from (seed, the measure's name, the amount).
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``, of the forward passes.
        untrained: gives the net as it was before its training, in evaluation mode; None where nobody knows.
    """

    model: nn.Module
    batches: Callable[[], Iterable[Batch]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int = 0
    precision: str = "fp32"
    untrained: Callable[[], nn.Module] | None = None

    @property
    def device(self) -> torch.device:
        """Where the net is."""
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def logits(self, change: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``(N, K)`` and labels ``(N,)`` of one pass over the images, after ``change`` of each batch."""
        found, labels = [], []
        with torch.no_grad():
            for x, y in self.batches():
                x = x if change is None else change(x)
                with autocast(self.precision, x.device):
                    found.append(self.model(x).float())
                labels.append(y)
        return torch.cat(found), torch.cat(labels)

    def generator(self, *words: object) -> torch.Generator:
        """Of draws that belong to ``words``, on the CPU: no measure moves another's."""
        return torch.Generator().manual_seed(derive(self.seed, "measure", *map(str, words)))

    def pixels(self, x: Tensor) -> Tensor:
        """Normalised images with black 0 and white 1."""
        return x * self._channels(self.std, x) + self._channels(self.mean, x)

    def normalised(self, pixels: Tensor) -> Tensor:
        """What :meth:`pixels` takes apart."""
        return (pixels - self._channels(self.mean, pixels)) / self._channels(self.std, pixels)

    @staticmethod
    def _channels(values: tuple[float, ...], x: Tensor) -> Tensor:
        return x.new_tensor(values).view(1, -1, 1, 1)


def first(batches: Iterable[Batch], samples: int | None) -> Iterator[Batch]:
    """The first ``samples`` images of ``batches``; None: all."""
    left = math.inf if samples is None else samples
    for x, y in batches:
        yield (x, y) if left >= len(y) else (x[: int(left)], y[: int(left)])
        left -= len(y)
        if left <= 0:
            return


def sites_of(model: nn.Module) -> list[nn.Module]:
    """The pools of ``model`` in the order in which they stand."""
    return [module for module in model.modules() if is_site(module)]


@contextmanager
def noted(modules: list[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While it lasts, the input and output of each of ``modules`` at its last call, in the order of ``modules``.

    The list is filled by a forward pass; what a module was not called with stays empty.
    """
    seen: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(modules)

    def note(place: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            # Copies: what comes next may work in place.
            seen[place] = (first_of(args, kwargs).detach().clone(), output.detach().clone())

        return hook

    handles = [module.register_forward_hook(note(place), with_kwargs=True) for place, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
