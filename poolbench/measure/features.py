"""How far what the classifier sees moves when an image is changed, and how sure a net is against how right it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from poolbench.accelerator import doubled
from poolbench.measure.subject import Subject

BINS = 15  # of confidence, as Guo, Pleiss, Sun and Weinberger (2017) have them


@contextmanager
def features_noted(model: nn.Module) -> Iterator[list[Tensor]]:
    """While it lasts, what the last fully connected layer of ``model`` is given, ``(N, ...)``, a tensor a call.

    Nothing is noted of a net without such a layer: its logits are its features.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    seen: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0])) if layers else None
    try:
        yield seen
    finally:
        if handle is not None:
            handle.remove()


def moved_by(plain: Tensor, changed: Tensor) -> float | None:
    """How far features ``(N, D)`` move when images are changed: one minus the cosine between those of an image and of
    the same image changed, the mean over images, in units of the median distance of two different images.

    0 is invariant, 1 as far as another image. None where all images look alike: there is nothing to measure by.
    """
    between = float(_distances(plain, plain.roll(1, 0)).median())
    return float(_distances(plain, changed).mean()) / between if between > 0 else None


def read_calibration(subject: Subject) -> dict[str, float]:
    """The expected calibration error: how far the probability of the class that is named is from the share of images
    that are right, the mean over 15 equal bins of that probability, weighted by images. A fraction.

    Source: Guo, Pleiss, Sun and Weinberger (2017).
    """
    logits, labels = subject.logits()
    sure, named = doubled(logits).softmax(1).max(1)
    right = (named == labels.to(named.device)).double()
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    apart = torch.zeros(BINS, dtype=torch.float64, device=sure.device).index_add_(0, bins, sure - right)
    return {"calibration_error": float(apart.abs().sum() / len(labels))}


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)``: one minus the cosine, and 0 of what is equal, also where a vector is 0."""
    cosine = torch.nn.functional.cosine_similarity(doubled(a), doubled(b), dim=1)
    return torch.where((a == b).all(1), torch.zeros_like(cosine), 1 - cosine)
