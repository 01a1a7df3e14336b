"""What the windows of all pools share."""

import inspect

import pytest
import torch

from poolbench import create_pool
from poolbench.pooling import POOLS

GEOMETRIES = ((2, 2, 1), (3, 2, 1), (2, 3, 0), (1, 2, 0), (5, 2, 2), (3, 1, 1))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_cut_off_leaves_an_output_in_one_piece_of_memory(memory_format):
    for name in POOLS.table:
        taken = inspect.signature(POOLS.find(name)).parameters
        for geometry in GEOMETRIES:
            options = dict(zip(("kernel_size", "stride", "padding"), geometry, strict=True))
            try:
                pool = create_pool(name, channels=4, **{k: v for k, v in options.items() if k in taken})
            except ValueError:
                continue
            for size in ((8, 8), (9, 11), (13, 6)):
                y = pool(torch.randn(2, 4, *size).to(memory_format=memory_format))
                assert y.is_contiguous(memory_format=memory_format), (name, options, size, y.stride())
