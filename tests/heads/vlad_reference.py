"""VLAD by loops, for the heads that are made of it."""

import torch


def hard_vlad(descriptors, centres):
    """Sum of the residuals ``(M, D)`` of descriptors ``(P, D)`` to the centre that is nearest to each."""
    sums = torch.zeros_like(centres)
    for x in descriptors:
        nearest = min(range(len(centres)), key=lambda k: float((x - centres[k]).square().sum()))
        sums[nearest] += x - centres[nearest]
    return sums
