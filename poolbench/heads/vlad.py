"""Vectors of locally aggregated descriptors: how far, in sum, the descriptors of each centre lie from it."""

import torch
from torch import Tensor

from poolbench.heads.base import plus

_TINY = 1e-6  # a vector much shorter than this stays short; the slope of the length stays finite


def residuals(shares: Tensor, descriptors: Tensor, centres: Tensor, scale: Tensor | None = None) -> Tensor:
    """Sum over the descriptors of their residuals to each centre, weighted by their share in it.

    Args:
        scale: factors of the descriptors, ``(N, 1, P)``.
    Shape: shares ``(N, K, P)``, descriptors ``(N, P, C)``, centres ``(K, C)`` ``-> (N, K, C)``.
    """
    # One matrix product: the residuals (N, K, P, C) themselves are never formed.
    weights = shares if scale is None else shares * scale
    return weights @ descriptors - shares.sum(-1, keepdim=True) * centres


def inverse_length(x: Tensor, dim: int) -> Tensor:
    """``1 / |x|`` along ``dim``, and finite for zeros."""
    return plus(torch.linalg.vector_norm(x, dim=dim, keepdim=True).square(), _TINY**2).rsqrt()


def unit(x: Tensor) -> Tensor:
    """``x`` with the length 1 along its last axis; zeros stay zeros."""
    return x * inverse_length(x, -1)
