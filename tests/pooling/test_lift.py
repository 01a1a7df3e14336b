import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import maps


def trained(channels, **options):
    """With predictions and updates that are not zero."""
    pool = create_pool("lift", channels=channels, **options).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.normal_(0, 0.5)
    return pool


@given(maps(2, 2))
def test_at_its_start_the_bands_are_the_pixels(x):
    pool = create_pool("lift", channels=x.shape[1]).double()
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    kept = x[..., :height, :width]
    torch.testing.assert_close(pool(x), 4 * F.avg_pool2d(kept, 2))
    ll, lh, hl, hh = pool.split(x)
    for band, (row, column) in ((ll, (0, 0)), (lh, (0, 1)), (hl, (1, 0)), (hh, (1, 1))):
        assert torch.equal(band, kept[..., row::2, column::2])


@given(maps(2, 2))
def test_whatever_is_learned_the_split_can_be_undone(x):
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    pool = trained(x.shape[1])
    torch.testing.assert_close(pool.merge(*pool.split(x)), x)


def test_the_steps_are_those_of_the_definition():
    x, pool = torch.randn(2, 3, 6, 8, dtype=torch.float64), trained(3)
    predict, update = pool.lifting.predict, pool.lifting.update

    def turned(network, half):  # along columns: the same network on the map on its side
        return network(half.transpose(2, 3), 3).transpose(2, 3)

    even, odd = x[..., ::2], x[..., 1::2]
    d = odd - predict(even, 3)
    s = even + update(d, 3)
    bands = []
    for half in (s, d):
        detail = half[:, :, 1::2] - turned(predict, half[:, :, ::2])
        bands += [half[:, :, ::2] + turned(update, detail), detail]
    torch.testing.assert_close(pool(x), sum(bands))
    torch.testing.assert_close(trained_low(pool)(x), bands[0])


def test_a_network_is_a_filter_of_each_channel_relu_a_mixture_and_tanh():
    x, network = torch.randn(1, 2, 1, 9, dtype=torch.float64), trained(2, groups=1).lifting.predict
    padded = F.pad(x, (2, 2))
    seen = torch.stack([(padded[0, :, 0, j : j + 5] * network.look.weight[:, 0, 0]).sum(1) for j in range(9)], 1)
    seen = (seen + network.look.bias[:, None]).relu()
    expected = (network.mix.weight[:, :, 0, 0] @ seen + network.mix.bias[:, None]).tanh()
    torch.testing.assert_close(network(x, 3)[0, :, 0], expected)


def trained_low(pool):
    low = create_pool("lift", channels=3, bands="low").double()
    low.load_state_dict(pool.state_dict())
    return low


def test_a_prediction_looks_along_its_own_axis_only():
    pool = trained(2)
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    other = x.clone()
    other[:, :, 3] += 1  # another row
    change = (pool.lifting.predict(x, 3) - pool.lifting.predict(other, 3)).abs().amax((0, 1, 3))
    assert (change > 0).tolist() == [row == 3 for row in range(8)]


def test_the_losses_are_of_the_predictions_and_the_updates():
    x, pool = torch.randn(4, 3, 8, 8), create_pool("lift", channels=3)
    odd = x[..., 1::2]
    even = x[..., ::2]
    # At the start s = even and d = odd.
    first = 0.1 * odd.square().mean() + 0.01 * (even - odd).square().mean()
    second = sum(
        0.1 * half[:, :, 1::2].square().mean() + 0.01 * (half[:, :, ::2] - half[:, :, 1::2]).square().mean()
        for half in (even, odd)
    )
    torch.testing.assert_close(pool.auxiliary_loss(x), first + second / 2)
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.05)
    x = F.interpolate(torch.randn(8, 3, 4, 4), scale_factor=4)  # neighbours are alike: easy to predict
    before = pool.auxiliary_loss(x).item()
    for _ in range(40):
        optimizer.zero_grad()
        pool.auxiliary_loss(x).backward()
        optimizer.step()
    assert pool.auxiliary_loss(x).item() < 0.7 * before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"groups": 3}, "groups must divide the 4 channels, got 3"),
        ({"bands": "high"}, "bands must be 'sum' or 'low', got 'high'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_pool("lift", channels=4, **options)


@pytest.mark.parametrize("groups", [None, 2, 1])
def test_parameters_and_flops(groups):
    pool = create_pool("lift", channels=6, groups=groups)
    width = 6 // (groups or 6)
    assert sum(p.numel() for p in pool.parameters()) == 2 * (6 * 5 + 6 + 6 * width + 6)
    network = 2 * 5 + 1 + 1 + 2 * width + 1 + 5 + 1
    assert pool.flops((8, 6)) == 6 * 4 * 3 * (8 * network + 3)
