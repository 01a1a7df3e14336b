import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import maps


def phases(x):
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    x = x[..., :height, :width]
    return torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])  # 00, 01, 10, 11


@pytest.mark.parametrize("source", ["quadrants", "phases"])
@given(x=maps(2, 2))
def test_each_channel_is_a_mixture_of_its_phases(source, x):
    pool = create_pool("tips", channels=x.shape[1], source=source).double()
    y = pool(x)
    for image in range(len(x)):
        for channel in range(x.shape[1]):
            weights = pool.weights(x)[image, channel]
            assert weights.sum().item() == pytest.approx(1)
            mixture = sum(w * p for w, p in zip(weights, phases(x)[:, image, channel], strict=True))
            torch.testing.assert_close(y[image, channel], mixture)


def test_the_weights_come_from_the_four_quadrants_in_the_order_of_the_authors_code():
    x, pool = torch.rand(1, 2, 8, 8, dtype=torch.float64), create_pool("tips", channels=2).double()
    psi = pool.conv(x).relu()
    quadrants = torch.stack([psi[..., i : i + 4, j : j + 4].mean((2, 3)) for i in (0, 4) for j in (0, 4)], -1)
    tau = (quadrants * pool.scale.weight[:, 0, 0, 0][:, None]).softmax(-1)
    # Theirs lists the phases 00, 10, 01, 11 (row, column); ours row by row.
    torch.testing.assert_close(pool.weights(x), tau[..., [0, 2, 1, 3]])


def test_weights_from_phases_follow_a_circular_shift():
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    pool = create_pool("tips", channels=3, source="phases").double()
    pool.conv.padding_mode, pool.conv._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]
    # A shift by a row swaps the phases of even and odd rows, and so do their weights: the mean of the map stays.
    torch.testing.assert_close(pool.weights(x.roll(1, 2)), pool.weights(x)[..., [2, 3, 0, 1]])
    torch.testing.assert_close(pool(x.roll((1, 1), (2, 3))).mean((2, 3)), pool(x).mean((2, 3)))


def test_without_a_scale_it_is_the_average():
    x, pool = torch.randn(2, 3, 6, 6), create_pool("tips", channels=3)
    torch.nn.init.zeros_(pool.scale.weight)
    torch.testing.assert_close(pool(x), create_pool("average", channels=3)(x))
    assert pool.index_loss(x).item() == pytest.approx(0.5)  # four equal weights have the norm 1 / 2


def test_the_index_loss_vanishes_where_one_phase_is_taken():
    x, pool = torch.rand(2, 3, 8, 8) + torch.eye(2).repeat(4, 4), create_pool("tips", channels=3, source="phases")
    with torch.no_grad():
        pool.conv.weight.zero_()
        pool.conv.weight[:, :, 1, 1] = 1
        pool.scale.weight.fill_(1000)
    assert pool.index_loss(x).item() < 0.01


def test_the_undo_loss_is_of_a_shift_of_the_input():
    x, pool = torch.rand(2, 3, 8, 8), create_pool("tips", channels=3)
    with torch.no_grad():
        pool.conv.weight.zero_()
        pool.conv.weight[:, :, 1, 1] = 1  # then psi(x) = x
    pool.generator = torch.Generator().manual_seed(0)
    losses = {round(pool.undo_loss(x).item(), 6) for _ in range(100)}
    possible = {
        round((x - x.roll((i, j), (2, 3))).square().mean().item(), 6) for i in range(-2, 3) for j in range(-2, 3)
    }
    assert losses <= possible
    assert len(losses) > 5


def test_parameters_and_flops():
    pool = create_pool("tips", channels=5)
    assert sum(p.numel() for p in pool.parameters()) == 9 * 5 + 5
    assert pool.flops((8, 6)) == 5 * (48 * 20 + 20 + 48 * 2)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="source must be 'quadrants' or 'phases', got 'phase'"):
        create_pool("tips", channels=3, source="phase")
