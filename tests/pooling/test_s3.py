import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import maps


@given(kernel_size=st.integers(1, 3), strips=st.integers(1, 3), x=maps(3, 3))
def test_training_keeps_rows_and_columns_of_the_stride_1_maximum(kernel_size, strips, x):
    pool = create_pool("s3", channels=x.shape[1], kernel_size=kernel_size, grid_size=kernel_size * strips).train()
    height, width = pool.output_size((x.shape[-2], x.shape[-1]))
    z = F.max_pool2d(x[..., : height * kernel_size, : width * kernel_size], kernel_size, 1)
    torch.manual_seed(0)
    y = pool(x)
    torch.manual_seed(0)
    rows, columns = pool._drawn(height, 0, x.device), pool._drawn(width, 1, x.device)
    assert torch.equal(y, z[..., rows, :][..., columns])
    for kept, out in ((rows, height), (columns, width)):
        assert (kept.diff() > 0).all()
        for first, length, count in pool._strips(out, 0):
            assert ((kept >= first) & (kept < first + length)).sum() == count


def test_every_row_of_a_strip_is_drawn_as_often():
    pool = create_pool("s3", channels=1, grid_size=4)
    drawn = torch.cat([pool._drawn(8, 0, torch.device("cpu")) for _ in range(2000)])
    counts = drawn.bincount(minlength=15).float() / 2000
    # Two of four in full strips, two of three in the last; 6 standard deviations.
    expected = torch.tensor([0.5] * 12 + [2 / 3] * 3)
    assert ((counts - expected).abs() < 6 * (0.25 / 2000) ** 0.5).all()


def test_evaluation_is_the_average_that_the_authors_code_takes():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    y = create_pool("s3", channels=1).eval()(x)[0, 0]
    assert y[0].tolist() == [9, 10.5, 12.5, 14.5]
    assert y[-1].tolist() == [53, 54.5, 56.5, 58.5]


@pytest.mark.parametrize("grid_size", [2, 4, 8])
def test_the_expected_evaluation_is_the_mean_of_the_training_draws(grid_size):
    x = torch.randn(1, 2, 8, 8)
    pool = create_pool("s3", channels=2, grid_size=grid_size, evaluation="expected")
    expected = pool.eval()(x)
    draws = torch.stack([pool.train()(x) for _ in range(4000)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected).abs() <= 6 * error + 1e-5).all()


@given(maps(1, 1))
def test_with_a_window_of_one_pixel_nothing_happens(x):
    pool = create_pool("s3", channels=x.shape[1], kernel_size=1, grid_size=4)
    assert torch.equal(pool.train()(x), x)
    assert torch.equal(pool.eval()(x), x)


def test_a_draw_is_shared_by_images_and_channels():
    x = torch.rand(1, 1, 8, 8).expand(3, 4, 8, 8)
    y = create_pool("s3", channels=4, grid_size=8).train()(x)
    assert (y == y[:1, :1]).all()


def test_the_grid_is_a_multiple_of_the_window():
    with pytest.raises(ValueError, match="grid_size must be a multiple of kernel_size 2, got 3"):
        create_pool("s3", channels=3, grid_size=3)


def test_flops_are_the_maxima_and_the_average():
    assert create_pool("s3", channels=5).flops((8, 6)) == 5 * 4 * 3 * (4 * 3 + 4)
