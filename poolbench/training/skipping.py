"""Which training images an epoch leaves out: easy ones, by the loss that each had when it was last seen."""

import torch
from torch import Generator, Tensor

# Of the easy images are left out, the others seen: what was easy once does not stay unlooked at for long. With the
# largest share that limits.py allows all images count as easy.
_DRAWN = 0.8


def share(skip_easy: float, epoch: int, epochs: int) -> float:
    """The share of the images that epoch number ``epoch``, from 0, leaves out.

    None in the first quarter of the training, where little is known, nor in the last epoch, which every image has its
    part in.
    """
    return skip_easy if epochs // 4 + 1 <= epoch < epochs - 1 else 0.0


def images_in(skip_easy: float, epoch: int, epochs: int, samples: int, batch_size: int) -> int:
    """How many of ``samples`` training images the epoch has, in whole batches."""
    return (samples - _left_out(share(skip_easy, epoch, epochs), samples)) // batch_size * batch_size


def skipped(losses: Tensor, share: float, draws: Generator) -> Tensor:
    """bool (N,): the ``share`` of the images that is left out, drawn by ``draws`` among those with the least losses.

    A simple form of dynamic data pruning, without weights for those that are seen: Qin et al., ICLR 2024 (InfoBatch).
    """
    count = _left_out(share, len(losses))
    easy = losses.cpu().argsort(stable=True)[: round(count / _DRAWN)]
    mask = torch.zeros(len(losses), dtype=torch.bool)
    mask[easy[torch.randperm(len(easy), generator=draws)[:count]]] = True
    return mask


def _left_out(share: float, samples: int) -> int:
    return round(share * samples)
