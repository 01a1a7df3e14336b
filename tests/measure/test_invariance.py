"""Transforms with known answers, and what is read of nets whose answers are known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_pool
from poolbench.measure.invariance import flipped, read_probes, rotated, scaled, transformed, translated
from poolbench.records.probes import TRANSFORMS, names

BORDERS = ("reflect", "zeros", "wrap")
every_border = pytest.mark.parametrize("border", BORDERS)


def images(n=3, height=12, width=10, dtype=torch.float64):
    return torch.randn(n, 3, height, width, dtype=dtype)


def smooth(side=32):
    """Waves of 16 pixels and more."""
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    return torch.stack([torch.cos(2 * math.pi * (a * y + b * x) / side) for a, b in ((1, 0), (0, 2), (1, 1))])[None]


def pixel(image, row, column, border):
    """What an endless plane shows at a whole place, one pixel of one channel."""
    for axis, (place, side) in enumerate(zip((row, column), image.shape, strict=True)):
        if border == "zeros" and not 0 <= place < side:
            return 0.0
        while border == "reflect" and not 0 <= place < side:
            place = -place if place < 0 else 2 * (side - 1) - place
        row, column = (place % side, column) if axis == 0 else (row, place % side)
    return float(image[row, column])


def bilinear(image, y, x, border):
    """What the plane shows at ``(y, x)``, measured from the middle of the first pixel."""
    top, left = math.floor(y), math.floor(x)
    return sum(
        (1 - abs(y - row)) * (1 - abs(x - column)) * pixel(image, row, column, border)
        for row in (top, top + 1)
        for column in (left, left + 1)
    )


def by_pixel(x, source, border):
    """``x`` with each pixel read where ``source(row, column)`` says, one by one."""
    y = torch.empty_like(x)
    for index in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        n, c, row, column = index
        y[n, c, row, column] = bilinear(x[n, c], *source(row, column), border)
    return y


@every_border
@pytest.mark.parametrize(("right", "down"), [(2.5, 0.0), (-0.3, 1.75), (0.0, -7.25), (23.5, 1.0)])
def test_a_translation_is_what_a_loop_over_pixels_makes(border, right, down):
    x = images(1, 6, 5)
    expected = by_pixel(x, lambda row, column: (row - down, column - right), border)
    torch.testing.assert_close(translated(x, right, down, border), expected)


@every_border
@pytest.mark.parametrize("degrees", [10, -37.5, 135, 300])
def test_a_rotation_is_what_a_loop_over_pixels_makes(border, degrees):
    x = images(1, 6, 5)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def source(row, column):  # rows run downwards, so a turn counter-clockwise comes from one clockwise
        down, right = row - 2.5, column - 2.0
        return 2.5 + cos * down + sin * right, 2.0 + cos * right - sin * down

    torch.testing.assert_close(rotated(x, degrees, border), by_pixel(x, source, border))


@every_border
def test_an_enlargement_is_what_a_loop_over_pixels_makes(border):
    x = images(1, 6, 5)
    expected = by_pixel(x, lambda row, column: (2.5 + (row - 2.5) / 1.7, 2.0 + (column - 2.0) / 1.7), border)
    torch.testing.assert_close(scaled(x, 1.7, border), expected)


@every_border
def test_nothing_is_changed_by_nothing(border):
    x = images()
    for same in (
        scaled(x, 1.0, border),
        translated(x, 0, 0.0, border),
        rotated(x, 0, border),
        rotated(x, -360, border),
    ):
        assert torch.equal(same, x)
    assert torch.equal(transformed(x, "size", 12), x)
    # Nor by almost nothing: no jump lies at what is left out.
    for almost in (scaled(x, 1 + 1e-9, border), translated(x, 1e-9, 1e-9, border), rotated(x, 1e-7, border)):
        torch.testing.assert_close(almost, x, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -4), (-2, 5), (9, 11)])
def test_whole_pixels_roll_or_come_from_a_padded_image(right, down):
    x = images(dtype=torch.float32)
    assert torch.equal(translated(x, right, down, "wrap"), x.roll((down, right), (2, 3)))
    pad = 11
    for border, padded in (
        ("zeros", F.pad(x, [pad] * 4)),
        ("reflect", F.pad(x, [9, 9, pad, pad], mode="reflect")),
    ):
        rows = padded[:, :, pad - down : pad - down + 12]
        first = (pad if border == "zeros" else 9) - right
        assert torch.equal(translated(x, right, down, border), rows[..., first : first + 10])


@every_border
def test_quarter_turns_are_exact(border):
    square = images(2, 8, 8)
    for turns in (1, 2, 3):
        torch.testing.assert_close(rotated(square, 90 * turns, border), square.rot90(turns, (2, 3)))
        torch.testing.assert_close(
            rotated(square.float(), 90 * turns), square.float().rot90(turns, (2, 3)), atol=1e-5, rtol=0
        )
    long = images(2, 8, 5)
    torch.testing.assert_close(rotated(long, 180, border), long.rot90(2, (2, 3)))


def test_flips_mirror():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert flipped(x, "horizontal")[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert flipped(x, "vertical")[0, 0].tolist() == [[3, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        *(("scale", factor) for factor in (0.05, 0.4, 0.9, 1.3, 20)),
        *((name, amount) for name in ("translate_x", "translate_y") for amount in (-9.5, 0.3, 100)),
        *(("rotate", degrees) for degrees in (-20, 45, 200)),
        *(("size", side) for side in (1, 7, 31)),
        ("flip", "horizontal"),
        ("flip", "vertical"),
    ],
)
@pytest.mark.parametrize("border", ["reflect", "wrap"])
@pytest.mark.parametrize("shape", [(2, 3, 12, 10), (2, 3, 1, 7), (2, 3, 2, 2)])
def test_a_constant_map_stays_constant(name, amount, border, shape):
    y = transformed(torch.full(shape, 1.5), name, amount, border)
    torch.testing.assert_close(y, torch.full_like(y, 1.5), atol=1e-5, rtol=0)


def test_with_zeros_the_mean_colour_comes_in():
    ones = torch.ones(1, 1, 8, 8)
    assert scaled(ones, 0.5, "zeros")[0, 0, 0].abs().max() == 0
    assert scaled(ones, 0.5, "zeros")[0, 0, 3:5, 3:5].min() == pytest.approx(1)
    assert translated(ones, right=3, border="zeros")[0, 0].sum() == 8 * 5
    assert rotated(ones, 45, "zeros")[0, 0, 0, 0] == 0


@pytest.mark.parametrize("border", ["reflect", "wrap"])
@pytest.mark.parametrize("factor", [1.25, 1.5])
def test_enlarging_and_shrinking_again_is_nearly_nothing(border, factor):
    x = smooth()
    inside = (..., slice(8, 24), slice(8, 24))  # what was in the enlarged image
    there_and_back = scaled(scaled(x, factor, border), 1 / factor, border)
    error = (there_and_back - x)[inside].square().mean() / x[inside].square().mean()
    assert error < 0.01
    assert error < 0.1 * (scaled(x, factor, border) - x)[inside].square().mean()


@every_border
def test_shrinking_by_2_is_antialiased_as_resizing_is(border):
    x = images(2, 32, 24)
    small = F.interpolate(x, (16, 12), mode="bilinear", antialias=True)
    assert torch.allclose(scaled(x, 0.5, border)[..., 9:23, 7:17], small[..., 1:-1, 1:-1])
    # The finest pattern is gone, where plain interpolation would keep it.
    checks = torch.ones(1, 1, 32, 32)
    checks[..., ::2] = -1
    assert scaled(checks, 0.45, border)[..., 10:22, 10:22].abs().max() < 0.1


def test_a_place_moves_where_the_option_says():
    x = torch.zeros(1, 1, 9, 9)
    x[..., 2, 4] = 1.0  # above the middle
    assert translated(x, right=3)[0, 0, 2, 7] == 1
    assert translated(x, down=3)[0, 0, 5, 4] == 1
    assert rotated(x, 90)[0, 0, 4, 2] == pytest.approx(1, abs=1e-5)  # to the left: counter-clockwise
    assert scaled(x, 2)[0, 0, 0, 4] == 1


@every_border
def test_translations_in_both_axes_add_up(border):
    x = images()
    both = translated(x, 2.25, -1.5, border)
    torch.testing.assert_close(translated(translated(x, right=2.25, border=border), down=-1.5, border=border), both)
    torch.testing.assert_close(
        translated(translated(x, 2, border="wrap"), 3.5, border="wrap"), translated(x, 5.5, border="wrap")
    )


@pytest.mark.parametrize("name", ["scale", "translate_x", "translate_y", "rotate", "flip"])
def test_size_type_and_memory_format_stay(name):
    amount = "vertical" if name == "flip" else 1.3
    for dtype in (torch.float32, torch.float64):
        x = images(dtype=dtype)
        plain = transformed(x, name, amount)
        last = transformed(x.contiguous(memory_format=torch.channels_last), name, amount)
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert plain.shape == x.shape
        assert plain.dtype == dtype
        torch.testing.assert_close(last, plain)


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="reflect, zeros or wrap, got 'mirror'"):
        translated(images(), 1.0, border="mirror")
    with pytest.raises(ValueError, match="horizontal or vertical, got 'left'"):
        flipped(images(), "left")
    with pytest.raises(ValueError, match=r"the transforms are .*got 'shear'"):
        transformed(images(), "shear", 1.0)


# Nets whose answers are known.


class Circular(nn.Module):
    """Stride 1, circular padding, a mean over the map: moving the image around moves no logit."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.conv(x).relu().mean((2, 3)))


def circular(x):
    """A net that gives the images ``x`` different classes: untrained ones say the same of all."""
    net = Circular()
    with torch.no_grad():
        net.last.bias -= net(x).mean(0)
        assert len(net(x).argmax(1).unique()) == 4
    return net


class Side(nn.Module):
    """Class 0 where the left half is brighter, else class 1."""

    def forward(self, x):
        left, right = x.mean((1, 2)).tensor_split(2, 1)
        return torch.stack([left.mean(1), right.mean(1)], 1)


def batches_of(x, y, size=7):
    return lambda: zip(x.split(size), y.split(size), strict=True)


@pytest.fixture
def data():
    return torch.randn(40, 3, 12, 12), torch.randint(4, (40,))


WHOLE = {
    "sizes": [8, 12],
    "scale": [0.7, 1.25],
    "translate_x": [-2.5, 3],
    "translate_y": [1],
    "rotate": [-10],
    "flip": ["vertical"],
}


def test_a_constant_classifier_agrees_with_itself(data):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(len(x), 4)

    x, y = data
    found = read_probes(Constant(), batches_of(x, y), WHOLE)
    assert list(found) == names(WHOLE)
    for name, share in found.items():
        assert share == (1.0 if name.startswith("agreement") else int((y == 1).sum()) / 40), name


def test_a_circular_net_keeps_its_answers_when_images_go_around(data):
    x, y = data
    net = circular(x)
    probe = {"translate_x": [-5, 3], "translate_y": [7]}
    wrapped = read_probes(net, batches_of(x, y), {**probe, "border": "wrap"})
    assert {v for k, v in wrapped.items() if k.startswith("agreement")} == {1.0}
    accuracy = int((net(x).argmax(1) == y).sum()) / 40
    assert {v for k, v in wrapped.items() if k.startswith("test_accuracy")} == {accuracy}
    other = read_probes(net, batches_of(x, y), {**probe, "border": "zeros"})
    assert min(v for k, v in other.items() if k.startswith("agreement")) < 1.0


def test_agreement_is_with_the_plain_answer_and_accuracy_with_the_label(data):
    x, _ = data
    net = Side()
    said = net(x).argmax(1)
    wrong = said.clone()
    wrong[:10] = 1 - wrong[:10]
    found = read_probes(net, batches_of(x, wrong), {"flip": ["horizontal", "vertical"], "sizes": [12]})
    # Seen in a mirror, left is right and the top is still the top.
    assert found["agreement_flip_horizontal"] == 0.0
    assert found["test_accuracy_flip_horizontal"] == 0.25
    assert found["agreement_flip_vertical"] == 1.0
    assert found["test_accuracy_flip_vertical"] == found["test_accuracy_size_12"] == found["test_accuracy_size"] == 0.75
    assert found["agreement_flip"] == found["test_accuracy_flip"] == 0.5


def test_what_each_name_reads_is_the_transform_of_that_name(data):
    x, y = data
    net = circular(x)
    found = read_probes(net, batches_of(x, y), {**WHOLE, "border": "zeros"})
    for option, word in TRANSFORMS.items():
        for amount in WHOLE[option]:
            classes = net(transformed(x, word, amount, "zeros")).argmax(1)
            text = amount if isinstance(amount, str) else f"{amount:g}"
            assert found[f"test_accuracy_{word}_{text}"] == int((classes == y).sum()) / 40


def test_the_first_samples_are_read_however_they_are_batched(data):
    x, y = data
    net = circular(x)
    probe = {"scale": [1.5], "rotate": [30, 60], "samples": 17}
    found = read_probes(net, batches_of(x, y, 5), probe)
    assert found == read_probes(net, batches_of(x, y, 40), probe)
    assert found == read_probes(net, batches_of(x[:17], y[:17], 17), {**probe, "samples": None})
    assert found != read_probes(net, batches_of(x, y, 40), {**probe, "samples": None})


def test_reading_leaves_the_model_and_the_generators_as_they_were(data):
    net = nn.Sequential(nn.BatchNorm2d(3), create_pool("mixed", channels=3, weight="random"), Circular()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    read_probes(net, batches_of(*data), {"rotate": [5], "draws": [2]})
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# Repeated draws.


def drawing_net():
    torch.manual_seed(1)
    pool = create_pool("stochastic", channels=8, kernel_size=2)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8 * 25, 4))
    with torch.no_grad():
        net[-1].weight.mul_(20)  # sure of what it says, so that draws turn classes
    return net.eval()


def test_passes_are_nested_and_average_probabilities(data):
    x, y = data
    net = drawing_net()
    found = read_probes(net, batches_of(x, y), {"draws": [1, 3, 8]}, seed=5)
    assert list(found) == names({"draws": [1, 3, 8]})
    alone = {
        n: read_probes(net, batches_of(x, y), {"draws": [n]}, seed=5)[f"test_accuracy_draws_{n}"] for n in (1, 3, 8)
    }
    assert found == {f"test_accuracy_draws_{n}": share for n, share in alone.items()}
    other = [read_probes(net, batches_of(x, y), {"draws": [1, 3, 8]}, seed=seed) for seed in (6, 7, 8)]
    assert any(one != found for one in other)


def test_many_draws_tend_to_the_expected_answer(data):
    x, _ = data
    net = drawing_net()
    net[-1].weight.data.div_(20)
    with torch.no_grad():
        said = net(x).argmax(1)  # of the expected value, in evaluation
    found = read_probes(net, batches_of(x, said), {"draws": [1, 200]})
    assert found["test_accuracy_draws_200"] > 0.9
    assert found["test_accuracy_draws_200"] > found["test_accuracy_draws_1"]


def test_draws_move_nothing_else(data):
    net = drawing_net()
    alone = read_probes(net, batches_of(*data), {"rotate": [20, 40]})
    together = read_probes(net, batches_of(*data), {"scale": [1.2], "rotate": [40, 20], "draws": [4]})
    assert all(together[name] == share for name, share in alone.items() if name != "test_accuracy_rotate")


def test_a_net_that_draws_in_evaluation_draws_each_amount_by_itself(data):
    net = drawing_net()
    net[2].evaluation = "draw"
    one = read_probes(net, batches_of(*data), {"rotate": [20, 40]}, seed=1)
    two = read_probes(net, batches_of(*data), {"rotate": [40]}, seed=1)
    assert one["agreement_rotate_40"] == two["agreement_rotate_40"]
    assert read_probes(net, batches_of(*data), {"sizes": [12]}, seed=1)["agreement_size_12"] < 1


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"rotatee": [5]}, "unknown option 'probe.rotatee'. Did you mean 'rotate'"),
        ({"rotate": [5, 5.0]}, r"probe.rotate must be a list of degrees .*got \[5, 5.0\]"),
        ({"draws": [2]}, r"probe.draws is \[2\], and no pool of this net draws"),
    ],
)
def test_what_cannot_be_read_is_said_before_any_pass(probe, words):
    def batches():
        raise AssertionError("images were asked for")

    with pytest.raises(ValueError, match=words):
        read_probes(Circular(), batches, probe)


def test_half_precision_is_of_the_net_and_not_of_the_images(data):
    seen = []

    class Eye(Circular):
        def forward(self, x):
            seen.append((x.dtype, self.conv(x).dtype))
            return super().forward(x)

    read_probes(Eye(), batches_of(*data), {"scale": [1.3]}, precision="bf16")
    assert set(seen) == {(torch.float32, torch.bfloat16)}
