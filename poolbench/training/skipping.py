"""Which training images an epoch leaves out: easy ones, by the loss that each had when it was last seen."""

import torch
from torch import Generator, Tensor

from poolbench.training.course import left_out

# Of the easy images are left out, the others seen: what was easy once does not stay unlooked at for long. With the
# largest share that is allowed all images count as easy.
_DRAWN = 0.8


def skipped(losses: Tensor, share: float, draws: Generator) -> Tensor:
    """bool (N,): the ``share`` of the images that is left out, drawn by ``draws`` among those with the least losses.

    A simple form of dynamic data pruning, without weights for those that are seen: Qin et al., ICLR 2024 (InfoBatch).
    """
    count = left_out(share, len(losses))
    easy = losses.cpu().argsort(stable=True)[: round(count / _DRAWN)]
    mask = torch.zeros(len(losses), dtype=torch.bool)
    mask[easy[torch.randperm(len(easy), generator=draws)[:count]]] = True
    return mask
