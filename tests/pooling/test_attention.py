import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps


def _attend(cells):
    """The definition, for one window of pairs of map and scores, ``(N, 2 C, cells) -> (N, C)``."""
    x, scores = cells.chunk(2, 1)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return (weights * x).sum(-1) / weights.sum(-1)


@given(case=geometries_and_maps(), groups=st.sampled_from([1, 2, 3, 6]), score_kernel_size=st.sampled_from([1, 3]))
def test_the_channels_of_a_group_share_the_softmax_of_its_scores(case, groups, score_kernel_size):
    options, x = case
    x = torch.cat([x] * 6, 1)[:, :6].to(memory_format=torch.channels_last).detach().requires_grad_()
    x.data[:, 1:].mul_(1.5).sub_(0.3)
    pool = create_pool("attention", channels=6, groups=groups, score_kernel_size=score_kernel_size, **options).double()
    weight = pool.score.weight
    scores = torch.nn.functional.conv2d(x, weight, padding=score_kernel_size // 2)
    each = torch.cat([scores[:, channel * groups // 6, None] for channel in range(6)], 1)
    expected = by_loop(torch.cat([x, each], 1), _attend, **options)
    y = pool(x)
    torch.testing.assert_close(y, expected)
    along = torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, (x, weight), along) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


def test_equal_scores_give_the_average():
    pool, x = create_pool("attention", channels=3), torch.randn(2, 3, 8, 8)
    torch.nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(x), create_pool("average", channels=3)(x))


def test_one_group_keeps_a_pixel_with_all_its_channels():
    pool, x = create_pool("attention", channels=3), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([1e3, 0, 0]).view(1, 3, 1, 1))  # the first channel decides
    _, chosen = torch.nn.functional.max_pool2d(x[:, :1], 2, return_indices=True)
    expected = x.flatten(2).gather(2, chosen.expand(2, 3, 4, 4).flatten(2)).view(2, 3, 4, 4)
    torch.testing.assert_close(pool(x), expected, rtol=0, atol=1e-2)


def test_a_group_for_each_channel_is_lip_with_1x1_logits():
    x = torch.randn(2, 4, 7, 8)
    pool = create_pool("attention", channels=4, groups=4)
    lip = create_pool("lip", channels=4, logits="conv1x1")
    lip.layers[0].weight.data.copy_(pool.score.weight.data)
    torch.testing.assert_close(pool(x), lip(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 4}, "groups must divide the 6 channels, got 4"),
        ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"score_kernel_size": 2}, "score_kernel_size must be odd, got 2"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("attention", channels=6, **options)
    assert "AttentionPool2d" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "per_window"),
    [
        ({"groups": 6}, (4 * 2 * 6 + 18) + 7),  # scores and softmax, weighted sum
        ({"groups": 3}, (4 * 2 * 6 + 18) // 2 + 7),
        ({}, (4 * 2 * 6 + 18) // 6 + 7),
        ({"score_kernel_size": 3}, (9 * 4 * 2 * 6 + 18) // 6 + 7),
    ],
    ids=str,
)
def test_flops_share_the_scores_among_the_channels(options, per_window):
    assert create_pool("attention", channels=6, **options).flops((8, 6)) == 6 * 4 * 3 * per_window
