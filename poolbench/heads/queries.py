"""Attention of few queries over the many positions of a map, for the heads that are made of it.

The keys ``K x_j`` and values ``V x_j`` of the positions are never formed. A score ``q . K x_j`` is ``(K' q) . x_j``,
and the average of the values is ``V`` times the average of the positions: each matrix goes to the few queries instead
of to every position. The numbers are the same. A bias of the keys adds one number to all scores of a query, which the
softmax takes out again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.heads.base import wide


def shares(queries: Tensor, positions: Tensor, heads: int, key: Tensor | None = None) -> Tensor:
    """How much each position counts for each head of each query: the softmax of their products, over the root of the
    channels of a head.

    Args:
        heads: parallel attentions, each with its part of the channels of queries and keys.
        key: weights ``(C, C)`` of the keys; None, with one head: a position is its own key.
    Shape: queries ``(N, Q, C)`` or, the same for all images, ``(1, Q, C)``; positions ``(N, C, P)``
        ``-> (N, Q heads, P)``.
    """
    parts = queries.unflatten(2, (heads, -1))
    parts = parts * parts.shape[3] ** -0.5
    if key is not None:
        parts = torch.einsum("nqhd,hdc->nqhc", parts, wide(key).unflatten(0, (heads, -1)))
    return (parts.flatten(1, 2) @ positions).softmax(2)


def values(averages: Tensor, value: Tensor, heads: int) -> Tensor:
    """Values of averages over the positions, each head's by its rows of the weights ``(C, C)``, side by side.

    Shape: ``(N, Q heads, C) -> (N, Q, C)``.
    """
    parts = wide(value).unflatten(0, (heads, -1))
    return torch.einsum("nqhc,hdc->nqhd", averages.unflatten(1, (-1, heads)), parts).flatten(2)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """What ``layer`` makes of ``x``, in float32 or wider."""
    return F.linear(x, wide(layer.weight), None if layer.bias is None else wide(layer.bias))


def normalised(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """What ``layer`` makes of ``x``, in float32 or wider."""
    return F.layer_norm(x, layer.normalized_shape, wide(layer.weight), wide(layer.bias), layer.eps)


def largest_divisor(of: int, most: int) -> int:
    """The largest divisor of ``of`` that is at most ``most``, and at least 1."""
    return next((one for one in range(min(of, most), 1, -1) if of % one == 0), 1)


def softmax_flops(positions: int) -> int:
    """Of one softmax: comparisons for the peak, differences to it, exponentials, additions, divisions."""
    return 5 * positions - 2
