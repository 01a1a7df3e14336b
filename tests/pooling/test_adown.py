import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool


@given(channels=st.integers(2, 5), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.random_module())
def test_half_is_convolved_and_half_is_a_maximum(channels, height, width, seed):
    pool = create_pool("adown", channels=channels).double().eval()
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    averaged = torch.stack([x[..., i : height - 1 + i, j : width - 1 + j] for i in (0, 1) for j in (0, 1)]).mean(0)
    half = channels // 2
    padded = F.pad(averaged, (1, 1, 1, 1))
    walls = F.pad(averaged, (1, 1, 1, 1), value=-torch.inf)
    y = torch.empty(2, channels, height // 2, width // 2, dtype=torch.float64)
    for i in range(height // 2):
        for j in range(width // 2):
            rows, columns = slice(2 * i, 2 * i + 3), slice(2 * j, 2 * j + 3)
            y[:, :half, i, j] = torch.einsum("nihw,oihw->no", padded[:, :half, rows, columns], pool.conv1.weight)
            y[:, half:, i, j] = walls[:, half:, rows, columns].amax((2, 3)) @ pool.conv2.weight[:, :, 0, 0].T
    scale = (1 + pool.norm1.eps) ** -0.5  # of normalisations at their start
    torch.testing.assert_close(pool(x), F.silu(y * scale))


def test_parameters_and_flops():
    pool = create_pool("adown", channels=4)
    assert sum(p.numel() for p in pool.parameters()) == 9 * 4 + 4 + 2 * 4
    # The average on 7x7; 2 channels of 9 * 2 multiply-adds, 2 of 8 comparisons and 2 multiply-adds; 6 for each value.
    assert pool.flops((8, 8)) == 4 * 7 * 7 * 4 + 16 * (2 * 36 + 2 * (8 + 4) + 4 * 6)


def test_one_channel_has_no_halves():
    with pytest.raises(ValueError, match="channels must be at least 2, one for each half, got 1"):
        create_pool("adown", channels=1)
