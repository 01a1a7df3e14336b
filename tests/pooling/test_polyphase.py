import pytest
import torch
from hypothesis import given
from torch import nn

from poolbench import create_pool
from poolbench.pooling.polyphase import take_phase
from tests.pooling.reference import maps

SHIFTS = [(0, 1), (1, 0), (1, 1), (3, 2), (5, 7), (2, 2)]


def phases(x):
    """00, 10, 01, 11 (row, column), of the same size."""
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    x = x[..., :height, :width]
    return [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]


@pytest.mark.parametrize("criterion", ["l2", "l1", "linf"])
@given(x=maps(2, 2))
def test_each_image_keeps_its_phase_of_the_largest_norm(criterion, x):
    order = {"l2": 2, "l1": 1, "linf": torch.inf}[criterion]
    pool = create_pool("polyphase", channels=x.shape[1], criterion=criterion)
    y = pool(x)
    for image in range(len(x)):
        norms = torch.stack([p[image].flatten().norm(order) for p in phases(x)])
        assert any(
            torch.equal(y[image], p[image])
            for p, norm in zip(phases(x), norms, strict=True)
            if norm >= norms.max() * (1 - 1e-9)
        )


def test_a_bright_pixel_decides():
    for index, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        x = torch.rand(1, 3, 8, 8)
        x[0, 1, 2 + row, 4 + column] = 9
        pool = create_pool("polyphase", channels=3)
        assert pool.phase(x).item() == index
        assert torch.equal(pool(x), x[..., row::2, column::2])


def test_of_equal_norms_the_first_is_kept():
    x = torch.full((2, 3, 6, 6), 2.0)
    pool = create_pool("polyphase", channels=3)
    assert pool.phase(x).tolist() == [0, 0]
    assert (pool(x) == 2).all()


@pytest.mark.parametrize("options", [{}, {"criterion": "l1"}, {"criterion": "linf"}, {"filter_size": 3}], ids=str)
def test_a_circular_shift_keeps_the_same_values(options):
    x = torch.randn(16, 4, 12, 12)
    pool = create_pool("polyphase", channels=4, **options)
    for shift in SHIFTS:
        moved = pool(x.roll(shift, (2, 3)))
        torch.testing.assert_close(moved.flatten(2).sort().values, pool(x).flatten(2).sort().values)


def circular_net(pool):
    layers, channels = [], 3
    for width in (8, 16, 16):
        conv = nn.Conv2d(channels, width, 3, padding=1, padding_mode="circular")
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(), create_pool(pool, channels=width)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def consistency(net, images, shifts):
    """Share of images and shifts that keep the class, and the largest change of a logit."""
    with torch.no_grad():
        logits = net(images)
        moved = [net(images.roll(shift, (2, 3))) for shift in shifts]
    same = torch.stack([one.argmax(1) == logits.argmax(1) for one in moved]).float().mean().item()
    return same, max((one - logits).abs().max().item() for one in moved)


@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "trained"])
def test_a_net_of_circular_convolutions_is_exactly_consistent_under_circular_shifts(trained):
    torch.manual_seed(1)
    images = torch.rand(64, 3, 32, 32, dtype=torch.float64)
    shifts = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if (i, j) != (0, 0)]
    net = circular_net("polyphase").double()
    if trained:
        labels = torch.arange(64) % 10
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(15):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    same, change = consistency(net.eval(), images, shifts)
    assert same == 1
    assert change < 1e-10
    torch.manual_seed(1)
    _, change = consistency(circular_net("max").double().eval(), images, shifts)
    assert change > 1e-4  # which max pooling is not


@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_an_odd_map_may_go_on_circularly(size):
    x = torch.randn(3, 2, *size)
    pool = create_pool("polyphase", channels=2, border="circular")
    bottom, right = (side % 2 for side in size)
    padded = nn.functional.pad(x, (0, right, 0, bottom), mode="circular")
    assert torch.equal(pool(x), create_pool("polyphase", channels=2)(padded))
    assert pool.output_size(size) == tuple(-(-side // 2) for side in size)


@given(maps(2, 2))
def test_the_gradient_reaches_the_kept_phase_only(x):
    x = x.detach().clone().requires_grad_()
    pool = create_pool("polyphase", channels=x.shape[1])
    pool(x).sum().backward()
    kept = pool.phase(x.detach())
    reference = torch.zeros_like(x)
    for image, phase in enumerate(kept.tolist()):
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        reference[image, :, phase % 2 : height : 2, phase // 2 : width : 2] = 1
    assert torch.equal(x.grad, reference)


def test_a_phase_can_be_taken_for_a_shortcut_too():
    x, shortcut = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    phase = create_pool("polyphase", channels=3).phase(x)
    taken = take_phase(shortcut, phase)
    for image, one in enumerate(phase.tolist()):
        assert torch.equal(taken[image], shortcut[image, :, one % 2 :: 2, one // 2 :: 2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "l3"}, "criterion must be"),
        ({"filter_size": 8}, "filter_size must be"),
        ({"border": "zero"}, "border must be 'crop' or 'circular'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_pool("polyphase", channels=3, **options)
