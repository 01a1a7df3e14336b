import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_head

REDUCE = {"max": lambda cells: cells.amax((2, 3)), "average": lambda cells: cells.mean((2, 3))}


def make(channels=2, **options):
    return create_head("spp", channels=channels, num_classes=3, **options)


def edges(a, n, rule):
    """Where the bins begin and end, by the words of the paper, and of the detection code that came with it."""
    if rule == "paper":
        window, stride = math.ceil(a / n), math.floor(a / n)
        return [(i * stride, i * stride + window) for i in range(n)]
    return [(math.floor(i * a / n), math.ceil((i + 1) * a / n)) for i in range(n)]


def by_loop(x, levels, rule, reduce):
    values = []
    for n in levels:
        cells = [
            REDUCE[reduce](x[:, :, top:bottom, left:right])
            for top, bottom in edges(x.shape[2], n, rule)
            for left, right in edges(x.shape[3], n, rule)
        ]
        values.append(torch.stack(cells, 2).flatten(1))
    return torch.cat(values, 1)


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("rule", ["adaptive", "paper"])
@pytest.mark.parametrize("side", range(1, 21))
def test_bins_are_those_of_the_rule_at_every_size(rule, reduce, side):
    x = torch.randn(1, 2, side, 21 - side)
    possible = [n for n in range(1, 9) if rule == "adaptive" or n <= min(side, 21 - side)]
    for levels in [possible, *([n] for n in possible)]:
        head = make(levels=levels, bins=rule, reduce=reduce)
        torch.testing.assert_close(head.pool(x), by_loop(x, levels, rule, reduce))


@pytest.mark.parametrize("side", range(1, 21))
def test_adaptive_bins_are_those_of_torch(side):
    x = torch.randn(2, 3, side, 21 - side)
    for n in range(1, 9):
        most, mean = (make(channels=3, levels=(n,), reduce=reduce).pool(x) for reduce in ("max", "average"))
        assert torch.equal(most, F.adaptive_max_pool2d(x, n).flatten(1))
        torch.testing.assert_close(mean, F.adaptive_avg_pool2d(x, n).flatten(1))


@pytest.mark.parametrize(("n", "window", "stride"), [(6, 3, 2), (3, 5, 4), (2, 7, 6), (1, 13, 13)])
def test_the_paper_s_windows_on_its_map_of_13_are_the_published_ones_and_adaptive(n, window, stride):
    x = torch.randn(1, 2, 13, 13)
    expected = F.max_pool2d(x, window, stride).flatten(1)
    assert torch.equal(make(levels=(n,), bins="paper").pool(x), expected)
    assert torch.equal(make(levels=(n,)).pool(x), expected)


@pytest.mark.parametrize(
    ("a", "n", "count"),
    [
        (5, 3, 4),
        (6, 4, 5),
        (7, 4, 6),
        (11, 4, 5),
        (8, 6, 7),
        (9, 6, 8),
        (10, 6, 9),
        (11, 6, 10),
        (15, 6, 7),
        (17, 6, 8),
    ],
)
def test_where_the_paper_s_windows_are_too_many_the_first_count(a, n, count):
    x = torch.randn(1, 2, a, a)
    windows = F.max_pool2d(x, math.ceil(a / n), a // n)
    assert windows.shape[2] == count > n
    assert torch.equal(make(levels=(n,), bins="paper").pool(x), windows[:, :, :n, :n].flatten(1))


@pytest.mark.parametrize(("a", "n", "seen"), [(8, 3, 7), (10, 6, 7), (13, 6, 13), (12, 4, 12)])
def test_the_paper_s_bins_may_leave_a_border_out_and_adaptive_ones_never(a, n, seen):
    for rule, columns in (("paper", seen), ("adaptive", a)):
        x = torch.zeros(1, 1, a, a, requires_grad=True)
        make(channels=1, levels=(n,), bins=rule, reduce="average").pool(x).sum().backward()
        assert int((x.grad[0, 0, 0] > 0).sum()) == columns


@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_paper_s_bins_refuse_maps_with_fewer_pixels_and_say_why(side):
    head = make(bins="paper")
    words = f"SpatialPyramid: it needs maps of at least 4x4 pixels, got {side}x5: .* 4 bins would step by 0 pixels"
    with pytest.raises(ValueError, match=words):
        head(torch.zeros(1, 2, side, 5))
    with pytest.raises(ValueError, match=words):
        make(bins="paper", size=(side, 5))
    assert make(size=(side, 5))(torch.zeros(1, 2, side, 5)).shape == (1, 3)


@pytest.mark.parametrize(
    ("levels", "bins"), [((6, 3, 2, 1), 50), ((4, 3, 2, 1), 30), ((3, 2, 1), 14), ((4, 2, 1), 21), ([1], 1)]
)
def test_the_vector_has_a_value_for_each_channel_and_bin(levels, bins):
    head = make(channels=256, levels=levels)
    assert head.classifier[0].in_features == bins * 256
    assert head.pool(torch.randn(1, 256, 7, 5)).shape == (1, bins * 256)


def test_the_level_of_one_bin_is_the_global_maximum_or_average():
    x = torch.randn(2, 3, 5, 7)
    for reduce in ("max", "average"):
        expected = create_head(f"global_{reduce}", channels=3, num_classes=2).pool(x)
        torch.testing.assert_close(make(channels=3, levels=(1,), reduce=reduce).pool(x), expected)


def test_it_knows_where_the_global_maximum_does_not():
    x = torch.randn(2, 2, 8, 8)
    assert not torch.allclose(make().pool(x), make().pool(x.flip(3)))


def test_a_bin_of_equal_cells_gives_its_gradient_to_one():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    make(channels=1, levels=(2,)).pool(x).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0] * 12 + [1] * 4


def test_hidden_layers_are_followed_by_dropout_which_moves_no_weight():
    names = [type(layer) for layer in make().classifier]
    assert names == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert make().classifier[0].out_features == 256
    assert make().classifier[2].p == 0.5
    assert make(dropout=0.0).state_dict().keys() == make().state_dict().keys()
    x = torch.rand(2, 2, 4, 4)
    for dropout, alike in ((0.0, True), (0.5, False)):
        head = make(dropout=dropout)
        assert torch.equal(head(x), head(x)) == alike
        assert torch.equal(head.eval()(x), head(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": ()}, r"SpatialPyramid: levels must be a list of numbers of at least 1, got \(\)"),
        ({"levels": 4}, "levels must be"),
        ({"levels": "421"}, "levels must be"),
        ({"levels": (4, 0)}, "levels must be"),
        ({"levels": (4, 2.0)}, "levels must be"),
        ({"bins": "floor"}, "SpatialPyramid: bins must be 'adaptive' or 'paper', got 'floor'"),
        ({"reduce": "sum"}, "reduce must be 'max' or 'average', got 'sum'"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"dropout": None}, "dropout must be"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_flops():
    assert make(levels=(2, 1)).flops((4, 6)) == 2 * (4 * (6 - 1) + 23)
    assert make(levels=(2, 1), reduce="average").flops((4, 6)) == 2 * (4 * 6 + 24)
    # On 5 pixels two adaptive bins share the middle one, the paper's windows do not reach the end.
    assert make(levels=(2,), reduce="average").flops((5, 5)) == 2 * 4 * 9
    assert make(levels=(3,), bins="paper").flops((8, 8)) == 2 * 9 * (9 - 1)
