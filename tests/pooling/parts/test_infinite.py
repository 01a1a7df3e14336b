"""Infinities: every formula gives what it tends to, and what is not finite stays where the window is."""

import math

import pytest
import torch

from poolbench import create_pool
from poolbench.pooling import POOLS

CASES = [(name, options) for name in POOLS.table for options in ({}, *POOLS.find(name).variants)]
# Whose every output depends on the whole map, or on torch's own convolutions and normalisations of it.
WIDE = ("spectral", "diff_stride", "tips", "lps", "polyphase", "lift", "carafe")


def _maps(far, positive):
    """Maps ``(M, 2, 6, 6)`` whose only cells of size ``far`` lie in one window of 2x2, all alike in sign."""
    torch.manual_seed(2)
    x = torch.randn(6, 2, 6, 6, dtype=torch.float64) * 2
    x = x.abs() + 0.1 if positive else x
    middle = x[:, :, 2:4, 2:4]
    for image, (cells, sign) in zip(
        middle, [([0], 1), ([3], -1), ([1, 2], 1), ([0, 3], -1), ([0, 1, 2, 3], 1), ([0, 1, 2, 3], -1)], strict=True
    ):
        for cell in cells:
            image[:, cell // 2, cell % 2] = sign * far
    return x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_every_formula_gives_its_limit(memory_format):
    for name, options in CASES:
        pool = create_pool(name, channels=2, **options).double().eval()
        # What filters of both signs give of two infinities depends on which is the larger.
        signed = name == "tree" or options.get("wavelet") == "db2" or options.get("full")
        if options.get("wavelet") == "db4":
            continue  # its filter goes round these maps more than once, so that one infinite cell counts twice
        if name in WIDE or pool.mixes_channels or (name == "lip" and options.get("logits") != "identity"):
            continue
        results = []
        for far in (1e6, 1e12, math.inf):
            x = _maps(far, positive=name == "power_mean")[: 2 if signed else 6].to(memory_format=memory_format)
            torch.manual_seed(0)
            results.append(pool(x))
        near, further, found = results
        grows = further.abs() > 3 * near.abs() + 1e-2
        expected = torch.where(grows, further.sign() * math.inf, further)
        # The largest numbers have taken some digits of the others with them.
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3, msg=lambda m: f"{name} {options}: {m}")  # noqa: B023
        torch.manual_seed(0)
        slow = found if pool.random or memory_format == torch.channels_last else torch.func.vmap(pool)(x[:, None])[:, 0]
        torch.testing.assert_close(slow, found, msg=lambda m: f"{name} {options}, plainly: {m}")  # noqa: B023


def test_a_masked_cell_leaves_the_gradients_of_all_others_finite():
    for name, options in (
        *[(name, {}) for name in ("soft", "log_sum_exp", "rank", "median", "fuzzy", "stochastic")],
        ("ada", {"learnable": False}),
        *[(name, {"learnable": "channel"}) for name in ("soft", "log_sum_exp")],
        *[("ordinal", {"learnable": False, "init": init}) for init in ("falling", "max")],
        ("lip", {"logits": "identity"}),
        ("blur_max", {}),
    ):
        pool = create_pool(name, channels=2, **options)
        x = torch.rand(1, 2, 6, 6)
        x[:, :, 2, 2] = -math.inf
        x.requires_grad_()
        y = pool(x)
        within = y.isfinite()
        found = torch.autograd.grad(y, (x, *pool.parameters()), within.to(y.dtype))
        assert all(one.isfinite().all() for one in found), (name, options)
