"""Random pools that draw in evaluation too, as in training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def random_pools(net: nn.Module) -> list[nn.Module]:
    """The pools of ``net`` whose training passes depend on a draw."""
    return [module for module in net.modules() if getattr(module, "random", False) is True]


@contextmanager
def drawing(net: nn.Module) -> Iterator[list[nn.Module]]:
    """Have all :func:`random_pools` of ``net`` draw as in training, then put them back.

    The rest keeps its mode, layers inside such a pool too; and what a pool counts while it draws (``mixed``) is
    forgotten afterwards, so that no reading changes a net.
    """
    pools = random_pools(net)
    modes = [pool.training for pool in pools]
    kept = [{name: buffer.clone() for name, buffer in pool.named_buffers(recurse=False)} for pool in pools]
    try:
        for pool in pools:
            pool.training = True
        yield pools
    finally:
        for pool, training, buffers in zip(pools, modes, kept, strict=True):
            pool.training = training
            with torch.no_grad():
                for name, buffer in pool.named_buffers(recurse=False):
                    buffer.copy_(buffers[name])
