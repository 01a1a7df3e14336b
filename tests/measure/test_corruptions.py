"""Corruptions with known answers, and what is read of nets whose answers are known."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import nn

from poolbench.measure.corruptions import AMOUNTS, KINDS, SEVERITIES, corrupted, disk, read_corruptions
from poolbench.measure.subject import Subject

every_kind = pytest.mark.parametrize("kind", KINDS)
every_severity = pytest.mark.parametrize("severity", SEVERITIES)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=32, height=32, width=32, channels=3):
    """Smooth shapes, sharp edges anywhere and a little texture, from 0.1 to 0.9."""
    coarse, edges = F.interpolate(torch.randn(n, channels + 1, 6, 6), (height, width), mode="bilinear").split(
        (channels, 1), 1
    )
    return 0.1 + 0.8 * torch.sigmoid(coarse + torch.tanh(8 * edges) + 0.2 * torch.randn(coarse.shape))


def distance(x, kind, severity):
    return float((corrupted(x, kind, severity, draws()) - x).square().mean().sqrt())


# What holds for all kinds.


def test_the_kinds_and_their_amounts_are_complete():
    assert KINDS == ("noise", "blur", "contrast", "brightness", "jpeg", "pixelate", "fog", "elastic")
    assert all(len(amounts) == len(SEVERITIES) for amounts in AMOUNTS.values())


@every_kind
def test_severity_0_is_the_image_and_draws_nothing(kind):
    x, generator = pictures(2), draws()
    before = generator.get_state()
    assert torch.equal(corrupted(x, kind, 0, generator), x)
    assert torch.equal(generator.get_state(), before)


@every_kind
@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (2, 1, 4, 4), (2, 3, 5, 9), (1, 4, 17, 6)])
def test_range_shape_type_and_memory_format_stay(kind, shape):
    levels = (300 * torch.rand(shape) - 20).round().clamp(0, 255)  # black and white are among them
    x = levels / 255
    for severity in SEVERITIES:
        kept = x.clone()
        y = corrupted(x, kind, severity, draws())
        last = corrupted(x.contiguous(memory_format=torch.channels_last), kind, severity, draws())
        double = corrupted(x.double(), kind, severity, draws())
        assert torch.equal(x, kept)
        assert y.shape == x.shape
        assert y.min() >= 0
        assert y.max() <= 1
        assert not torch.equal(y, x)
        assert y.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert (y.dtype, double.dtype) == (torch.float32, torch.float64)
        torch.testing.assert_close(last, y)
        torch.testing.assert_close(double.float(), y, atol=1e-5, rtol=0)
    half = x.bfloat16()
    assert corrupted(half, kind, 5, draws()).dtype == torch.bfloat16
    assert torch.equal(corrupted(half, kind, 5, draws()), corrupted(half.float(), kind, 5, draws()).bfloat16())


@every_kind
def test_black_stays_within_range_and_is_no_nan(kind):
    y = corrupted(torch.zeros(2, 3, 8, 8), kind, 5, draws())
    assert y.isfinite().all()
    assert y.max() == pytest.approx(0.3 if kind == "brightness" else y.max())


# The published shift of elastic falls while its push grows: nobody made its distance grow.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "elastic"])
def test_the_distance_from_the_image_grows_with_severity(kind):
    x = pictures()
    distances = [distance(x, kind, severity) for severity in (0, *SEVERITIES)]
    assert distances[0] == 0
    assert all(weaker < stronger for weaker, stronger in pairwise(distances)), distances


@every_kind
@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 3, 5, 7)])
def test_images_are_the_same_however_they_are_batched(kind, shape):
    x = torch.rand(shape)
    for severity in (1, 5):
        whole = corrupted(x, kind, severity, draws())
        assert torch.equal(corrupted(x, kind, severity, draws()), whole)
        for sizes in ((1, 2, 9), (5, 7)):
            generator = draws()
            parts = [corrupted(part, kind, severity, generator) for part in x.split(sizes)]
            torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)
    drawn = not torch.equal(corrupted(x, kind, 5, draws(1)), whole)
    assert drawn == (kind in ("noise", "fog", "elastic"))


@pytest.mark.parametrize("kind", ["noise", "fog", "elastic"])
def test_each_image_has_draws_of_its_own(kind):
    one, two = corrupted(pictures(1).expand(2, 3, 32, 32), kind, 4, draws())
    assert (one - two).abs().max() > 0.05


def test_what_is_not_known_is_refused():
    x = pictures(1)
    with pytest.raises(ValueError, match=r"kind is noise, .*fog or elastic, got 'snow'"):
        corrupted(x, "snow", 1, draws())
    for severity in (6, -1, 2.0, True, "1"):
        with pytest.raises(ValueError, match=f"severity is a whole number from 0 to 5, got {severity!r}"):
            corrupted(x, "blur", severity, draws())
    for wrong in (x[0], x[:, :, :3], (255 * x).byte()):
        with pytest.raises(
            ValueError, match=r"images are floats \(N, C, H, W\) of at least 4 pixels a side, got torch"
        ):
            corrupted(wrong, "blur", 1, draws())


# Each kind by itself.


@every_severity
def test_noise_has_the_stated_deviation_on_grey(severity):
    added = corrupted(torch.full((32, 3, 32, 32), 0.5), "noise", severity, draws()) - 0.5
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    assert float(added.std()) == pytest.approx(sigma, rel=0.01)
    assert abs(float(added.mean())) < 5 * sigma / math.sqrt(added.numel())
    pixels = added.movedim(1, 0).flatten(1)
    assert torch.corrcoef(pixels).fill_diagonal_(0).abs().max() < 0.03  # channels know nothing of each other


@every_severity
def test_the_blur_kernel_is_an_average_and_leaves_a_constant_image(severity):
    kernel = disk(*AMOUNTS["blur"][severity - 1])
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert kernel.min() >= 0
    assert torch.equal(kernel, kernel.T)
    grey = torch.full((1, 3, 9, 8), 0.37)
    torch.testing.assert_close(corrupted(grey, "blur", severity, draws()), grey)


def test_the_blur_kernel_is_a_gaussian_of_a_point_a_cross_and_a_square():
    # Radii below 1 hold one pixel, which the softening spreads; 1 holds five, and 1.5 nine.
    taps = np.exp(-(np.array([-1, 0, 1]) ** 2) / (2 * 0.6**2))
    point = np.outer(taps, taps)
    np.testing.assert_allclose(disk(0.5, 0.6).numpy(), point / point.sum())
    cross = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    torch.testing.assert_close(disk(1.0, 0.2)[1:-1, 1:-1].float(), cross, atol=1e-4, rtol=0)
    torch.testing.assert_close(disk(1.5, 0.1)[1:-1, 1:-1], torch.full((3, 3), 1 / 9, dtype=torch.float64))


def test_a_blur_is_a_convolution_of_the_mirrored_image():
    x = pictures(2, 10, 7).double()
    kernel = disk(1.0, 0.2).expand(3, 1, 5, 5)
    expected = F.conv2d(F.pad(x, [2] * 4, mode="reflect"), kernel, groups=3)
    torch.testing.assert_close(corrupted(x, "blur", 4, draws()), expected)


@every_severity
def test_contrast_keeps_the_mean_and_scales_the_rest(severity):
    x = pictures(4)
    y = corrupted(x, "contrast", severity, draws())
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(y.std((2, 3)), x.std((2, 3)) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1])


@every_severity
def test_brightness_adds_its_amount_to_the_value_alone(severity):
    amount = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    grey = torch.rand(1, 1, 6, 6).expand(2, 3, 6, 6)
    torch.testing.assert_close(corrupted(grey, "brightness", severity, draws()), (grey + amount).clamp(max=1))
    x = pictures(2)
    x[0, :, 0, 0], x[1, :, 0, 0] = 0.0, 1.0
    hsv = rgb_to_hsv(x.movedim(1, -1).numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    expected = torch.from_numpy(hsv_to_rgb(hsv)).movedim(-1, 1).float()
    torch.testing.assert_close(corrupted(x, "brightness", severity, draws()), expected, atol=1e-5, rtol=0)


@every_severity
@pytest.mark.parametrize("size", [(32, 32), (19, 26)])
def test_jpeg_is_what_pillow_makes(severity, size):
    for x in (pictures(1, *size), pictures(1, *size, channels=1)):
        levels = (x * 255).round().byte()
        grid = levels[0].movedim(0, -1).squeeze(-1).numpy()
        file = io.BytesIO()
        Image.fromarray(grid).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        expected = torch.from_numpy(np.array(Image.open(file))).view(*size, -1).movedim(-1, 0)
        # Pillow may bring another version of the same library.
        gap = (corrupted(levels / 255, "jpeg", severity, draws())[0] * 255 - expected).abs()
        assert gap.max() <= 2.01
        assert gap.mean() < 0.05
        between = (levels + torch.rand(levels.shape) * 0.8 - 0.4) / 255
        assert torch.equal(*(corrupted(one, "jpeg", severity, draws()) for one in (between, levels / 255)))


def test_jpeg_of_several_channels_is_of_grey_images():
    x = pictures(3, 8, 8, channels=5)
    alone = corrupted(x[1:2, 2:3], "jpeg", 3, draws())
    assert torch.equal(corrupted(x, "jpeg", 3, draws())[1:2, 2:3], alone)


@every_severity
@pytest.mark.parametrize("size", [(32, 32), (4, 6), (9, 37)])
def test_pixelating_is_what_two_boxes_of_pillow_make(severity, size):
    x = pictures(1, *size, channels=1)
    factor = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    small = int(size[1] * factor), int(size[0] * factor)
    image = Image.fromarray(x[0, 0].numpy(), mode="F")
    image = image.resize(small, Image.Resampling.BOX).resize(size[::-1], Image.Resampling.BOX)
    torch.testing.assert_close(corrupted(x, "pixelate", severity, draws())[0, 0], torch.from_numpy(np.array(image)))
    grey = torch.full((1, 3, *size), 0.37)
    assert torch.equal(corrupted(grey, "pixelate", severity, draws()), grey)


def fractal(severity, n=64, side=32):
    """The fog alone, from 0 to 1, as it lies over white."""
    thickness = AMOUNTS["fog"][severity - 1][0]
    return corrupted(torch.ones(n, 1, side, side), "fog", severity, draws())[:, 0] * (1 + thickness) / thickness - (
        1 / thickness
    )


@every_severity
def test_fog_whitens_and_darkens_by_its_formula(severity):
    thickness = (0.2, 0.5, 0.75, 1.0, 1.5)[severity - 1]
    colour = torch.tensor([0.3, 0.6, 0.1]).view(1, 3, 1, 1)
    fog = fractal(severity, 3)
    torch.testing.assert_close(fog.amin((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(fog.amax((1, 2)), torch.ones(3), atol=1e-5, rtol=0)
    y = corrupted(colour.expand(3, 3, 32, 32), "fog", severity, draws())
    expected = (colour + thickness * fog[:, None]) * 0.6 / (0.6 + thickness)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


@every_severity
def test_fog_is_finer_by_its_decay_at_each_level(severity):
    """What a point adds to the mean of the four points about it is the draw of its level, as large for each point."""
    fog = fractal(severity)
    sizes = []
    for step in (2, 4, 8):
        corners = fog[:, ::step, ::step]
        mean = sum(corners.roll(shift, (1, 2)) for shift in ((0, 0), (-1, 0), (0, -1), (-1, -1))) / 4
        sizes.append(float((fog[:, step // 2 :: step, step // 2 :: step] - mean).std()))
    for rows, columns in ((0, 1), (1, 0)):  # between two corners and two middles
        mean = sum(fog.roll(shift, axis)[:, rows::2, columns::2] for shift in (1, -1) for axis in (1, 2)) / 4
        assert float((fog[:, rows::2, columns::2] - mean).std()) == pytest.approx(sizes[0], rel=0.02)
    decay = (3, 3, 2.5, 2, 1.75)[severity - 1]
    assert sizes[1] / sizes[0] == pytest.approx(decay**2, rel=0.05)
    assert sizes[2] / sizes[1] == pytest.approx(decay**2, rel=0.1)


def test_fog_of_other_sides_is_cut_from_a_larger_one():
    x = torch.ones(2, 1, 32, 20)
    torch.testing.assert_close(
        corrupted(x, "fog", 2, draws()), corrupted(torch.ones(2, 1, 32, 32), "fog", 2, draws())[..., :20]
    )


def residuals(severity, n=48, side=32):
    """Where pixels of the middle come from, in pixels: the best affine maps ``(n, 3, 2)``, and what they leave over."""
    rows, columns = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    ramps = torch.stack([columns, rows]).expand(n, 2, side, side) / side
    middle = slice(side // 2 - 6, side // 2 + 6)  # no mirrored border comes so far
    came = side * corrupted(ramps, "elastic", severity, draws())[..., middle, middle].flatten(2).mT
    places = torch.stack([columns, rows, torch.ones_like(rows)])[..., middle, middle].flatten(1).T
    maps = torch.linalg.lstsq(places.expand(n, -1, 3), came).solution
    return maps, came - places @ maps


def test_the_first_elastic_severity_is_affine_and_moves_corners_as_far_as_stated():
    maps, left = residuals(1)
    assert left.abs().max() < 1e-8
    corners = torch.tensor([[26.0, 26, 1], [26, 6, 1], [6, 6, 1]], dtype=torch.float64)
    there = torch.linalg.solve(maps[:, :2], corners[:, :2] - maps[:, 2:], left=False)
    moved = there - corners[:, :2]
    assert 2.3 < moved.abs().max() <= 32 * 0.08 + 1e-9
    assert float(moved.std()) == pytest.approx(32 * 0.08 / math.sqrt(3), rel=0.1)
    assert moved.mean().abs() < 0.3


@pytest.mark.parametrize(("severity", "alpha", "sigma"), [(4, 0.1, 0.04), (5, 0.1, 0.03)])
def test_the_push_is_smoothed_noise_of_the_stated_size(severity, alpha, sigma):
    _, left = residuals(severity)
    # Of white noise a Gaussian leaves 1 / (2 sqrt(pi) sigma); that of [-1, 1) deviates by 1 / sqrt(3).
    expected = 32 * alpha / math.sqrt(3) / (2 * math.sqrt(math.pi) * 32 * sigma)
    assert float(left.std()) == pytest.approx(expected, rel=0.15)


@every_severity
def test_elastic_is_what_scipy_makes_of_the_same_draws(severity):
    height, width = 14, 11
    x = pictures(1, height, width).double()
    numbers = 2 * torch.rand(6 + 2 * height * width, generator=draws()).double().numpy() - 1
    push, sigma, shift = (11 * part for part in AMOUNTS["elastic"][severity - 1])
    corners = np.array([[8, 10], [8, 4], [2, 4]])  # a third of the shorter side about the middle, as column and row
    moved = np.column_stack([corners + shift * numbers[:6].reshape(3, 2), np.ones(3)])
    rows, columns = np.mgrid[:height, :width]
    along, down = np.einsum(
        "hwk,kc->chw", np.stack([columns, rows, np.ones_like(rows)], -1), np.linalg.inv(moved) @ corners
    )
    fields = numbers[6:].reshape(2, height, width)
    right, below = (push * gaussian_filter(field, sigma, mode="reflect", truncate=3) for field in fields)
    for channel, y in zip(x[0].numpy(), corrupted(x, "elastic", severity, draws())[0].numpy(), strict=True):
        turned = map_coordinates(channel, [down, along], order=1, mode="mirror")
        pushed = map_coordinates(turned, [rows + below, columns + right], order=1, mode="reflect")
        np.testing.assert_allclose(y, pushed, atol=1e-9)


@every_severity
def test_elastic_mirrors_at_the_border(severity):
    grey = torch.full((2, 3, 11, 8), 0.37)
    torch.testing.assert_close(corrupted(grey, "elastic", severity, draws()), grey)


# What is read.


class Circular(nn.Module):
    """A tiny net that notes the images it is shown."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.last = nn.Linear(8, 4)
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return self.last(self.conv(x).relu().mean((2, 3)))


class Constant(nn.Module):
    """Class 1, whatever it is shown."""

    def forward(self, x):
        return torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(len(x), 4)


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LABELS = torch.arange(24) % 4


def subject(net, size=10, seed=0):
    torch.manual_seed(7)
    x = (pictures(24, 8, 8) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    x = x.contiguous(memory_format=torch.channels_last)
    return Subject(net, lambda: zip(x.split(size), LABELS.split(size), strict=True), MEAN, STD, seed)


def differing():
    """A net that gives the images different classes: untrained ones say the same of all."""
    net = Circular().eval()
    with torch.no_grad():
        logits, _ = subject(net).logits()
        net.last.weight.div_(logits.std(0)[:, None])
        net.last.bias.sub_(subject(net).logits()[0].mean(0))
    net.seen.clear()
    return net


def test_a_constant_classifier_has_the_share_of_its_class():
    found = read_corruptions(subject(Constant()), KINDS, SEVERITIES)
    names = [f"{kind}{end}" for kind in KINDS for end in (*(f"_{severity}" for severity in SEVERITIES), "")]
    assert list(found) == [f"test_accuracy_{name}" for name in (*names, "corrupted")]
    assert set(found.values()) == {0.25}


def test_each_number_is_of_the_images_of_its_name_and_means_are_means():
    net = differing()
    of_all = subject(net)
    found = read_corruptions(of_all, ["fog", "elastic"], [1, 5])
    assert len(found) == 7
    for kind in ("fog", "elastic"):
        for severity in (1, 5):
            generator = of_all.generator("corruption", kind, severity)
            hits = [
                net(of_all.normalised(corrupted(of_all.pixels(x), kind, severity, generator))).argmax(1) == y
                for x, y in of_all.batches()
            ]
            assert found[f"test_accuracy_{kind}_{severity}"] == int(torch.cat(hits).sum()) / 24
        pair = [found[f"test_accuracy_{kind}_{severity}"] for severity in (1, 5)]
        assert found[f"test_accuracy_{kind}"] == pytest.approx(sum(pair) / 2)
    assert found["test_accuracy_corrupted"] == pytest.approx(
        (found["test_accuracy_fog"] + found["test_accuracy_elastic"]) / 2
    )
    assert len(set(found.values())) > 2


@pytest.mark.parametrize("kind", ["noise", "fog", "elastic"])
def test_every_net_sees_the_same_images_whatever_else_is_read(kind):
    def shown(kinds, severities, size, seed=0):
        net = differing()
        read_corruptions(subject(net, size, seed), kinds, severities)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in net.seen)
        return torch.cat(net.seen)

    alone = shown([kind], [4], 10)
    torch.testing.assert_close(shown(["blur", kind], [2, 4], 7)[-24:], alone, atol=1e-5, rtol=0)
    assert not torch.equal(shown([kind], [4], 10, seed=1), alone)


def test_severity_0_leaves_the_images_as_they_are():
    net = differing()
    of_all = subject(net)
    found = read_corruptions(of_all, ["noise"], [0])
    assert all(torch.equal(seen, x) for seen, (x, _) in zip(net.seen, of_all.batches(), strict=True))
    logits, labels = of_all.logits()
    assert found["test_accuracy_noise_0"] == float((logits.argmax(1) == labels).double().mean())


def test_what_lies_beyond_black_and_white_is_cut_first():
    net = differing()
    x = torch.linspace(-9, 9, 6).view(6, 1, 1, 1).expand(6, 3, 8, 8)
    read_corruptions(Subject(net, lambda: [(x, LABELS[:6])], MEAN, STD), ["jpeg"], [1])
    pixels = subject(net).pixels(net.seen[0]).mean((1, 2, 3))
    torch.testing.assert_close(pixels, subject(net).pixels(x).clamp(0, 1).mean((1, 2, 3)), atol=0.01, rtol=0)


def test_where_nothing_is_asked_nothing_is_read():
    assert read_corruptions(subject(Constant()), [], [1]) == {}
    assert read_corruptions(subject(Constant()), ["fog"], []) == {}


@pytest.mark.parametrize(
    ("kinds", "severities", "words"),
    [
        (["fog", "rain"], [1], "kind is noise, .* or elastic, got 'rain'"),
        (["rain"], [], "got 'rain'"),
        (["fog"], [1, 9], "severity is a whole number from 0 to 5, got 9"),
        (["fog", "fog"], [1], r"each kind is read once, got \['fog', 'fog'\]"),
        (["fog"], [2, 2], r"each severity is read once, got \[2, 2\]"),
    ],
)
def test_what_cannot_be_read_is_said_before_any_pass(kinds, severities, words):
    def batches():
        raise AssertionError("images were asked for")

    with pytest.raises(ValueError, match=words):
        read_corruptions(Subject(Constant(), batches, MEAN, STD), kinds, severities)
