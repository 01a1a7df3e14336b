import math

import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import maps


def phases(x):
    """00, 10, 01, 11 (row, column)."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    x = x[..., :height, :width]
    return [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]


@given(maps(2, 2))
def test_evaluation_keeps_the_phase_of_the_highest_score(x):
    pool = create_pool("lps", channels=x.shape[1]).double().eval()
    scores = torch.stack([pool.net.conv2(pool.net.conv1(p).relu()).mean((1, 2, 3)) for p in phases(x)], 1)
    y = pool(x)
    for image, best in enumerate(scores.argmax(1)):
        if scores[image].sort().values.diff()[-1] > 1e-9:
            assert torch.equal(y[image], phases(x)[best][image])


@given(maps(2, 2))
def test_training_mixes_the_phases_and_so_may_evaluation(x):
    pool = create_pool("lps", channels=x.shape[1], evaluation="mixture").double().eval()
    scores = torch.stack([pool.net.conv2(pool.net.conv1(p).relu()).mean((1, 2, 3)) for p in phases(x)], 1)
    expected = sum(w.view(-1, 1, 1, 1) * p for w, p in zip(scores.softmax(1).unbind(1), phases(x), strict=True))
    torch.testing.assert_close(pool(x), expected)


def test_a_circular_shift_keeps_the_same_values():
    x = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    pool = create_pool("lps", channels=3).double().eval()
    for shift in [(1, 0), (0, 1), (1, 1), (3, 2)]:
        moved = pool(x.roll(shift, (2, 3)))
        assert torch.equal(moved.flatten(1).sort().values, pool(x).flatten(1).sort().values)


def test_a_low_temperature_draws_one_phase_in_proportion_to_its_score():
    x = torch.zeros(1, 1, 2, 2).expand(4000, 1, 2, 2).clone()
    x[:, :, 0, 0], x[:, :, 1, 0], x[:, :, 0, 1], x[:, :, 1, 1] = 0, 1, 2, 3
    pool = create_pool("lps", channels=1, temperature=1e-4).train()
    scores = torch.tensor([0.0, math.log(2), math.log(3), math.log(4)])
    pool.scores = lambda x: scores.expand(len(x), 4)  # 00, 10, 01, 11: probabilities 0.1, 0.2, 0.3, 0.4
    drawn = pool(x).flatten().round()
    for value, share in enumerate((0.1, 0.2, 0.3, 0.4)):
        deviation = math.sqrt(share * (1 - share) / len(x))
        assert abs((drawn == value).float().mean().item() - share) < 6 * deviation


def test_one_draw_an_image_for_all_channels():
    x = torch.rand(6, 4, 8, 8)
    pool = create_pool("lps", channels=4, temperature=1e-4).train()
    y = pool(x)
    for image in range(6):
        distances = [(y[image] - p[image]).abs().max().item() for p in phases(x)]
        assert min(distances) < 1e-3


def test_the_scores_learn_which_phase_is_wanted():
    x = torch.rand(32, 1, 8, 8)
    x[:, :, 1::2, 1::2] += 2  # the bright phase
    pool = create_pool("lps", channels=1).train()
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (-pool(x).mean()).backward()
        optimizer.step()
    assert torch.equal(pool.eval()(x), x[:, :, 1::2, 1::2])


def test_parameters_and_flops():
    pool = create_pool("lps", channels=4, hidden=6)
    assert sum(p.numel() for p in pool.parameters()) == 9 * 4 * 6 + 6 + 9 * 36
    assert pool.flops((8, 8)) == 4 * 16 * (4 * 6 * (18 * 4 + 3) // 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 0}, "hidden must be a whole number of at least 1"),
        ({"temperature": 0}, "temperature must be a number above 0"),
        ({"evaluation": "soft"}, "evaluation must be 'choice' or 'mixture'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_pool("lps", channels=4, **options)
