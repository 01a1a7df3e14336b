import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool
from poolbench.pooling.fractional_max import average_over_draws
from tests.pooling.reference import maps

RATIOS = st.floats(1.05, 2)


@given(
    ratio=RATIOS,
    overlapping=st.booleans(),
    sequence=st.sampled_from(["pseudorandom", "random"]),
    training=st.booleans(),
    x=maps(2, 2),
)
def test_it_is_the_maximum_over_regions_that_cover_the_map(ratio, overlapping, sequence, training, x):
    pool = create_pool(
        "fractional_max", channels=x.shape[1], ratio=ratio, overlapping=overlapping, sequence=sequence
    ).train(training)
    size = (x.shape[-2], x.shape[-1])
    height, width = pool.output_size(size)
    torch.manual_seed(0)
    y = pool(x)
    torch.manual_seed(0)
    draws = len(x) if training and ratio < 2 else 0
    rows, columns = (pool._windows(side, out, draws, x.device) for side, out in zip(size, (height, width), strict=True))
    for lines, side, out in ((rows, size[0], height), (columns, size[1], width)):
        first, last = lines[:, 0], lines[:, 1]
        assert (first[:, 0] == 0).all()
        assert (last[:, -1] == min(side, 2 * out) - 1).all()
        steps = first.diff(dim=1)
        assert ((steps == 1) | (steps == 2)).all()
        if overlapping:
            assert (last - first == 1).all()
        else:
            assert (last[:, :-1] + 1 == first[:, 1:]).all()
    for image in range(len(x)):
        mine = [lines[min(image, len(lines) - 1)] for lines in (rows, columns)]
        for i in range(height):
            for j in range(width):
                (top, bottom), (left, right) = mine[0][:, i].tolist(), mine[1][:, j].tolist()
                region = x[image, :, top : bottom + 1, left : right + 1]
                assert torch.equal(y[image, :, i, j], region.amax((1, 2)))


@given(maps(2, 2))
def test_at_ratio_2_it_is_max_pooling(x):
    for options in ({}, {"overlapping": False}, {"sequence": "random"}):
        pool = create_pool("fractional_max", channels=x.shape[1], ratio=2.0, **options)
        assert torch.equal(pool.train()(x), F.max_pool2d(x, 2))
        assert torch.equal(pool.eval()(x), F.max_pool2d(x, 2))


@given(ratio=RATIOS, height=st.integers(2, 70), width=st.integers(2, 70))
def test_sides_shrink_to_the_nearest_whole_number(ratio, height, width):
    size = create_pool("fractional_max", channels=1, ratio=ratio).output_size((height, width))
    for after, before in zip(size, (height, width), strict=True):
        assert after < before
        assert after == before - 1 or abs(after - before / ratio) <= 0.5 + 1e-6


def test_the_papers_net_for_digits_has_its_sizes():
    pool = create_pool("fractional_max", channels=1)
    side, sizes = 36, []
    for _ in range(3):  # a 2x2 convolution without border follows each
        (side, _) = pool.output_size((side - 1, side - 1))
        sizes.append(side)
    assert sizes == [25, 17, 11]


def test_it_is_torchs_operator_where_that_gets_the_same_draw():
    x = torch.randn(3, 2, 11, 11)
    pool = create_pool("fractional_max", channels=2).train()
    (out, _) = pool.output_size((11, 11))
    torch.manual_seed(4)
    y = pool(x)
    torch.manual_seed(4)
    rows, columns = (pool._draw(3, 1, x.device) for _ in range(2))
    samples = torch.cat([columns, rows], 1)[:, None].expand(3, 2, 2).float()
    theirs = F.fractional_max_pool2d(x, 2, output_size=(out, out), _random_samples=samples.contiguous())
    torch.testing.assert_close(y, theirs)


def test_a_draw_is_of_an_image_for_all_its_channels():
    x = torch.rand(1, 1, 32, 32).expand(6, 5, 32, 32)
    y = create_pool("fractional_max", channels=5).train()(x)
    assert (y == y[:, :1]).all()
    assert len({tuple(image.flatten().tolist()) for image in y[:, 0]}) > 1


def test_random_steps_are_shuffled_fairly():
    pool = create_pool("fractional_max", channels=1, sequence="random")
    starts = pool._windows(12, 8, 4000, torch.device("cpu"))[:, 0]
    twos = (starts.diff(dim=1) == 2).float().mean(0)
    share = (12 - 2 - 7) / 7
    assert ((twos - share).abs() < 6 * math.sqrt(share * (1 - share) / 4000)).all()


def test_of_equal_cells_the_first_gets_the_gradient():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    create_pool("fractional_max", channels=1, ratio=2.0)(x).sum().backward()
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_net_is_averaged_over_its_draws():
    net = nn.Sequential(create_pool("fractional_max", channels=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(8, 3, 16, 16)
    torch.manual_seed(0)
    averaged = average_over_draws(net.train(), x, draws=5)
    assert net.training
    assert net[0].evaluation == "fixed"
    net[0].evaluation = "draw"
    torch.manual_seed(0)
    torch.testing.assert_close(averaged, torch.stack([net.eval()(x).softmax(1) for _ in range(5)]).mean(0))
    torch.testing.assert_close(averaged.sum(1), torch.ones(8))
    assert not torch.equal(average_over_draws(net, x, draws=1), average_over_draws(net, x, draws=1))
    with pytest.raises(ValueError, match="draws must be a whole number of at least 1, got 0"):
        average_over_draws(net, x, draws=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 1.0}, "ratio must be above 1"),
        ({"ratio": 2.5}, "ratio must be a number from 1 to 2, got 2.5"),
        ({"sequence": "shuffled"}, "sequence must be 'pseudorandom' or 'random'"),
        ({"evaluation": 12}, "evaluation must be 'fixed' or 'draw', got 12"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_pool("fractional_max", channels=3, **options)
