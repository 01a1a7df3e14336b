import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from poolbench import create_pool
from tests.pooling.reference import by_loop, maps


@given(maps(2, 2))
def test_a_shortcut_mixes_the_channels_of_averages(x):
    pool = create_pool("average_conv", channels=x.shape[1]).double().eval()
    scale = (1 + pool.norm.eps) ** -0.5  # of a normalisation at its start
    weight = pool.conv.weight[:, :, 0, 0]
    torch.testing.assert_close(pool(x), by_loop(x, lambda cells: cells.mean(-1) @ weight.T * scale, 2, 2))


@given(maps(2, 2))
def test_aconv_is_a_strided_convolution_of_the_averages_at_every_pixel(x):
    pool = create_pool("average_conv", channels=x.shape[1], kind="aconv").double().eval()
    height, width = x.shape[2:]
    averaged = torch.stack([x[..., i : height - 1 + i, j : width - 1 + j] for i in (0, 1) for j in (0, 1)]).mean(0)
    padded = F.pad(averaged, (1, 1, 1, 1))
    y = torch.empty(x.shape[0], x.shape[1], height // 2, width // 2, dtype=torch.float64)
    for i in range(height // 2):
        for j in range(width // 2):
            cells = padded[..., 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            y[..., i, j] = torch.einsum("nihw,oihw->no", cells, pool.conv.weight)
    y = y * (1 + pool.norm.eps) ** -0.5
    torch.testing.assert_close(pool(x), y * y.sigmoid())


def test_a_shortcut_gives_what_timm_gives():
    timm = pytest.importorskip("timm")
    theirs = timm.models.resnet.downsample_avg(3, 3, kernel_size=1, stride=2)
    ours = create_pool("average_conv", channels=3)
    with torch.no_grad():
        theirs[1].weight.copy_(ours.conv.weight)
    x = torch.randn(4, 3, 8, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    x = torch.randn(4, 3, 9, 7)  # theirs rounds up, and so normalises over more
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x)[..., :4, :3])


@pytest.mark.parametrize("kind", ["shortcut", "aconv"])
def test_the_output_is_normalised_in_training(kind):
    x, pool = torch.randn(4, 3, 8, 8), create_pool("average_conv", channels=3, kind=kind)
    averaged = F.avg_pool2d(x, 2, 2 if kind == "shortcut" else 1)
    y = nn.BatchNorm2d(3)(pool.conv(averaged))
    torch.testing.assert_close(pool(x), y if kind == "shortcut" else F.silu(y))


@pytest.mark.parametrize("kind", ["shortcut", "aconv"])
def test_the_gradients_are_right(kind):
    pool = create_pool("average_conv", channels=2, kind=kind).double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


def test_parameters_and_flops():
    pool = create_pool("average_conv", channels=5)
    assert sum(p.numel() for p in pool.parameters()) == 5 * 5 + 2 * 5
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (4 + 2 * 5 + 2)
    pool = create_pool("average_conv", channels=5, kind="aconv")
    assert sum(p.numel() for p in pool.parameters()) == 9 * 5 * 5 + 2 * 5
    # The average on 7x5 pixels; 45 multiply-adds, a normalisation and SiLU.
    assert pool.flops((8, 6)) == 4 * 7 * 5 * 5 + 5 * 4 * 3 * (2 * 45 + 6)


def test_errors_name_the_option():
    with pytest.raises(ValueError, match="AverageConv2d: kind must be 'shortcut' or 'aconv', got 'max'"):
        create_pool("average_conv", channels=3, kind="max")
