"""What pools with known answers keep of maps with known answers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model, create_pool
from poolbench.measure import information
from poolbench.measure.information import psnr, read_information, ssim, whole_step
from poolbench.measure.subject import Subject

NAMES = ("explained_variance", "psnr", "ssim", "aliased", "gradient_share")


class Site(nn.Module):
    """A pool at a site, made of a function."""

    is_pooling_site = True

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def site(name, channels):
    pool = create_pool(name, channels=channels)
    pool.is_pooling_site = True
    return pool


def subject(x, *layers, size=16):
    """A net of ``layers``, whose first sees the images themselves, read in batches of ``size``."""
    labels = torch.zeros(len(x), dtype=torch.long)
    net = nn.Sequential(*layers).eval()
    return Subject(net, lambda: zip(x.split(size), labels.split(size), strict=True), (0.0,) * 3, (1.0,) * 3)


def read(x, pool, size=16):
    """The numbers of one pool, a name or a function, that sees ``x``; without the site's."""
    pool = site(pool, x.shape[1]) if isinstance(pool, str) else Site(pool)
    return {
        name.removeprefix("site_1_"): value for name, value in read_information(subject(x, pool, size=size)).items()
    }


def noise(images=48, channels=3, height=16, width=16):
    return torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(1))


def smooth(images=24, side=32, channels=3):
    """Waves of 16 pixels and more, of other heights and places in every channel."""
    coarse = torch.fft.rfft2(noise(images, channels, side, side))
    coarse[..., 3:-2, :] = 0
    coarse[..., 3:] = 0
    waves = torch.fft.irfft2(coarse)
    return waves / waves.std()


def checkerboard(side=16):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return 1.0 - 2.0 * ((x + y) % 2)


def every_second(x):
    return x[:, :, ::2, ::2]


@pytest.mark.parametrize(("pool", "share"), [("max", 1 / 4), ("average", 1), ("subsample", 1 / 4)])
def test_gradients_reach_the_winner_or_all(pool, share):
    assert read(noise(), pool)["gradient_share"] == share


def test_gradients_are_of_the_first_images_alone():
    x = noise(80)
    x[64:] = 0
    assert read(x, F.relu, size=24)["gradient_share"] == pytest.approx((x[:64] > 0).float().mean().item())


def test_the_finest_pattern_folds_fully_where_nothing_is_filtered():
    x = checkerboard() * noise(height=1, width=1)
    assert read(x, "subsample")["aliased"] == pytest.approx(1)


@pytest.mark.parametrize("height", [0.5, 2.0])
@pytest.mark.parametrize("pattern", [checkerboard(), 1.0 - 2.0 * (torch.arange(16) % 2).expand(16, 16)])
def test_what_folds_is_what_no_blur_took_away(pattern, height):
    wave = height * torch.cos(2 * math.pi * torch.arange(16) / 16)[:, None]
    x = (pattern + wave + 7.0).expand(8, 2, 16, 16)

    def blurred(x):
        around = F.pad(x, (1, 1, 1, 1), mode="circular")
        weight = torch.tensor([1.0, 2.0, 1.0]) / 4
        weight = torch.outer(weight, weight).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(around, weight, stride=2, groups=x.shape[1])

    assert read(x, "subsample")["aliased"] == pytest.approx(1 / (1 + height**2 / 2), rel=1e-4)
    assert read(x, blurred)["aliased"] < 1e-8
    assert read(x, "average")["aliased"] < 1e-8


def test_a_wave_folds_when_it_is_finer_than_the_smaller_grid():
    for period, share in ((4, 1.0), (6, 1.0), (8, 0.0), (12, 0.0), (24, 0.0)):  # 8 pixels are the finest of steps of 4
        x = torch.cos(2 * math.pi * torch.arange(24) / period).expand(8, 2, 24, 24)
        assert read(x, lambda x: x[:, :, ::4, ::4])["aliased"] == pytest.approx(share, abs=1e-6)


def test_the_filter_that_cuts_at_nyquist_folds_nothing_of_noise():
    found = {pool: read(noise(), pool)["aliased"] for pool in ("spectral", "blur_average", "average", "subsample")}
    assert found["spectral"] < 1e-8
    assert found["spectral"] < found["blur_average"] < found["average"] < found["subsample"]
    assert found["subsample"] == pytest.approx(1 - 80 / 255, abs=0.01)  # all but 9x9 frequencies of 16x16


def test_a_draw_counts_as_one_operator():
    x = noise()
    drawn = read(x, lambda x: every_second(x) * torch.rand(1))
    assert drawn["aliased"] == pytest.approx(read(x, every_second)["aliased"])
    assert drawn["explained_variance"] == pytest.approx(read(x, every_second)["explained_variance"])


def test_draws_come_from_the_subject_s_seed():
    def found(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return read_information(subject(noise(), Site(lambda x: x + torch.rand_like(x)), site("max", 3)))

    assert found(1) == found(2)


@pytest.mark.parametrize("pool", ["average", "subsample"])
@pytest.mark.parametrize("size", [(16, 16), (17, 15), (8, 6)])
def test_a_quarter_of_noise_can_be_rebuilt_from_a_number_for_four(pool, size):
    assert read(noise(128, 2, *size), pool)["explained_variance"] == pytest.approx(1 / 4, abs=0.02)


def test_all_can_be_rebuilt_where_all_is_kept():
    whole = read(noise(), lambda x: F.pixel_unshuffle(x, 2) @ torch.randn(8, 8))  # a place's own columns, mixed
    assert whole["explained_variance"] < 0.9
    whole = read(noise(), lambda x: F.pixel_unshuffle(x, 2))
    assert whole["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert "psnr" not in whole
    assert "ssim" not in whole


@pytest.mark.parametrize("pool", ["average", "max", "subsample"])
def test_nearly_all_of_a_smooth_map_can_be_rebuilt(pool):
    assert read(smooth(), pool)["explained_variance"] > 0.98


def test_the_decoder_is_that_of_least_squares(monkeypatch):
    """On unfolded maps, with torch's own solver."""
    monkeypatch.setattr(information, "_CHUNK", 300)
    x = F.avg_pool2d(noise(64, 2, 18, 18), 3, stride=1)
    x = x + torch.tensor([5.0, -3.0])[:, None, None]
    y = F.max_pool2d(x, 2)
    reads = F.unfold(F.pad(y, (1, 1, 1, 1), mode="replicate"), 3).transpose(1, 2).double()
    wanted = F.unfold(x, 2, stride=2).transpose(1, 2).double()
    reads = torch.cat([reads, torch.ones_like(reads[..., :1])], dim=2)
    fitted, held_out = torch.arange(64) % 4 < 2, torch.arange(64) % 4 == 3
    decoder = torch.linalg.lstsq(reads[fitted].flatten(0, 1), wanted[fitted].flatten(0, 1)).solution
    left = (wanted[held_out] - reads[held_out] @ decoder).square().sum()
    variance = (x[held_out] - x[fitted].mean((0, 2, 3), keepdim=True)).square().sum()
    expected = float(1 - left / variance)
    assert 0.5 < expected < 0.95
    assert read(x, "max")["explained_variance"] == pytest.approx(expected, abs=1e-3)


def test_every_fourth_image_is_held_out():
    x = noise(128)
    x[3::4] = F.interpolate(x[3::4, :, ::2, ::2], scale_factor=2)  # blocks of 2x2, of which an average keeps all
    assert read(x, "average")["explained_variance"] > 0.97


def test_an_output_that_says_nothing_explains_nothing():
    found = read(noise(), lambda x: 0 * every_second(x))
    assert found["explained_variance"] == 0
    assert found["gradient_share"] == 0
    assert "aliased" not in found


def test_many_channels_read_the_place_alone_and_rebuild_some(monkeypatch):
    x = F.avg_pool2d(noise(96, 2, 18, 18), 3, stride=1)
    near = read(x, "subsample")["explained_variance"]
    monkeypatch.setattr(information, "MOST_INPUTS", 17)
    alone = read(x, "subsample")["explained_variance"]
    assert near > alone + 0.1
    # Of such a map of unit variance a pixel's neighbours to the side have 2/3 of it, those across 4/9.
    assert alone == pytest.approx((1 + 2 * (2 / 3) ** 2 + (4 / 9) ** 2) / 4, abs=0.03)
    monkeypatch.setattr(information, "MOST_TARGETS", 4)
    assert read(x, "subsample")["explained_variance"] == pytest.approx(alone, abs=0.03)


def test_some_places_are_enough(monkeypatch):
    x = F.avg_pool2d(noise(96, 2, 18, 18), 3, stride=1)
    every = read(x, "average")["explained_variance"]
    monkeypatch.setattr(information, "ROWS", 1000)
    monkeypatch.setattr(information, "OTHER_ROWS", 400)
    some = read(x, "average")["explained_variance"]
    assert some != every
    assert some == pytest.approx(every, abs=0.03)
    assert read(x, "average")["explained_variance"] == some


def test_a_pool_that_does_nothing_loses_nothing():
    found = read(noise(), lambda x: x)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-6)
    assert found["ssim"] == pytest.approx(1, abs=1e-5)
    assert {name: found[name] for name in ("psnr", "aliased", "gradient_share")} == {
        "psnr": 100.0,
        "aliased": 0.0,
        "gradient_share": 1.0,
    }


def slow_ssim(x, y):
    """By window and pixel, as Wang 2004 writes it, of two pictures ``(H, W)`` of range 1."""
    height, width = x.shape
    side = max(n for n in (1, 3, 5, 7, 9, 11) if n <= min(height, width))
    window = [
        [math.exp(-((i - side // 2) ** 2 + (j - side // 2) ** 2) / 4.5) for j in range(side)] for i in range(side)
    ]
    total = sum(map(sum, window))
    found = []
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            cells = [
                (window[i][j] / total, float(x[top + i, left + j]), float(y[top + i, left + j]))
                for i in range(side)
                for j in range(side)
            ]
            a, b = sum(w * p for w, p, _ in cells), sum(w * q for w, _, q in cells)
            aa, bb = sum(w * (p - a) ** 2 for w, p, _ in cells), sum(w * (q - b) ** 2 for w, _, q in cells)
            ab = sum(w * (p - a) * (q - b) for w, p, q in cells)
            found.append((2 * a * b + 1e-4) * (2 * ab + 9e-4) / ((a * a + b * b + 1e-4) * (aa + bb + 9e-4)))
    return sum(found) / len(found)


@pytest.mark.parametrize("size", [(13, 12), (6, 9), (2, 5)])
def test_pictures_are_compared_as_a_loop_over_windows_does(size):
    x, y = noise(4, 1, *size)[:, 0].sigmoid().chunk(2)
    y = 0.6 * x + 0.4 * y
    assert ssim(x, y).tolist() == pytest.approx([slow_ssim(*pair) for pair in zip(x, y, strict=True)], rel=1e-4)
    errors = [float(((a - b) ** 2).mean()) for a, b in zip(x, y, strict=True)]
    assert psnr(x, y).tolist() == pytest.approx([10 * math.log10(1 / error) for error in errors], rel=1e-4)


def test_a_picture_is_a_channel_from_its_least_value_to_its_largest():
    x = noise(6, 2)
    x[0, 1] = 3.0  # no picture: the others make the mean
    y = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    expected = {"psnr": [], "ssim": []}
    for one, other in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True):
        span = one.max() - one.min()
        if span:
            expected["psnr"].append(float(20 * (span / (one - other).square().mean().sqrt()).log10()))
            expected["ssim"].append(slow_ssim((one - one.min()) / span, (other - one.min()) / span))
    found, scaled = read(x, "average", size=4), read(100 * x - 50, "average")
    for name, values in expected.items():
        assert found[name] == pytest.approx(sum(values) / len(values), rel=1e-4)
        assert scaled[name] == pytest.approx(found[name], rel=1e-4)


def test_pixels_stay_in_their_place_when_a_map_is_cropped():
    x = noise(height=7, width=9)
    whole = read(x[..., :6, :8], "average")
    assert read(x, "average") == pytest.approx(whole | {"gradient_share": 48 / 63}, rel=1e-5)


@pytest.mark.parametrize(
    ("side", "pooled", "step"),
    [
        *((32, 16, 2), (33, 16, 2), (15, 8, 2), (32, 15, 2), (56, 14, 4), (7, 1, 7), (8, 8, 1)),
        *((32, 22, 0), (22, 15, 0), (15, 10, 0), (10, 7, 0), (7, 5, 0), (6, 4, 0), (5, 4, 0), (4, 3, 0), (4, 8, 0)),
    ],
)
def test_a_step_is_whole_or_none(side, pooled, step):
    assert whole_step(side, pooled) == step


def test_patches_lie_in_the_map():
    for side in range(1, 40):
        for pooled in range(1, side + 1):
            starts, width = information._patches(side, pooled)
            assert starts.min() >= 0
            assert starts.max() + width <= side
            assert 1 <= len(starts) <= pooled
            if not whole_step(side, pooled):
                middles = (torch.arange(pooled) + 0.5) * side / pooled
                assert ((starts + width / 2 - middles).abs() <= 0.5 + 1e-5).all()


def test_a_step_of_root_2_has_no_phases():
    found = read(smooth(), "fractional_max")
    assert set(found) == set(NAMES) - {"aliased"}
    assert found["explained_variance"] > 0.95
    assert read(noise(), "fractional_max")["explained_variance"] < 0.8


def test_every_site_has_its_numbers():
    net = create_model("convnet", widths=(4, 6), depths=(1, 1), pool=["average", "max"], input_size=(16, 16))
    found = read_information(subject(noise(24), net.eval()))
    assert list(found) == [f"site_{number}_{name}" for number in (1, 2) for name in NAMES]
    assert found["site_1_gradient_share"] == 1
    assert found["site_2_gradient_share"] == 1 / 4
    for name, value in found.items():
        assert 0 < value < (math.inf if name.endswith("psnr") else 1 + 1e-9)


def test_a_net_without_sites_has_no_numbers():
    assert read_information(subject(noise(), nn.ReLU())) == {}


def test_a_site_that_no_map_reaches_has_no_numbers():
    aside = nn.ReLU()
    aside.unused = Site(every_second)
    found = read_information(subject(noise(), aside, site("max", 3)))
    assert list(found) == [f"site_2_{name}" for name in NAMES]


@pytest.mark.parametrize("pool", ["average", "max", "blur_max", "subsample"])
@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_constant_map_has_no_numbers_but_the_gradient_s(pool, value, rounding):
    x = value * (1 + rounding * noise(8).sign())
    assert set(read(x, pool)) == {"gradient_share"}


def test_few_images_cannot_be_split():
    assert set(read(noise(2), "max")) == set(NAMES) - {"explained_variance"}
    assert set(read(noise(3), "max")) == set(NAMES)


def test_numbers_that_are_not_finite_are_left_out():
    x = noise()
    x[1, 1, 1, 1] = math.nan
    assert all(math.isfinite(value) for value in read(x, "average").values())


def test_a_pool_of_one_size_keeps_its_other_numbers():
    def fixed(x):
        if x.shape[-1] != 17:
            raise ValueError("maps of 17 pixels alone")
        return F.max_pool2d(x, 2)

    assert set(read(noise(height=17, width=17), fixed)) == set(NAMES) - {"aliased"}


def test_a_pool_that_gives_maps_of_one_size_has_no_step():
    assert set(read(noise(height=15, width=15), nn.AdaptiveAvgPool2d(8))) == set(NAMES) - {"aliased"}
    assert set(read(noise(), nn.AdaptiveAvgPool2d(8))) == set(NAMES)


def test_a_fault_of_a_pool_is_not_hidden():
    def faulty(x):
        if torch.is_grad_enabled():
            raise RuntimeError("no gradient of mine")
        return every_second(x)

    with pytest.raises(RuntimeError, match="of mine"):
        read(noise(), faulty)


def test_what_works_in_place_after_a_pool_is_no_part_of_it():
    x = noise()
    pool = site("average", 3)
    plain, followed = (read_information(subject(x, pool, *after)) for after in ((), (nn.ReLU(inplace=True),)))
    assert plain == followed


def test_batches_do_not_matter():
    few, many = (read(noise(), "max", size=size) for size in (7, 48))
    assert few == pytest.approx(many, rel=1e-4)


def test_reading_changes_nothing():
    net = create_model("convnet", widths=(4, 6), depths=(1, 1), pool="strided_conv", input_size=(16, 16))
    x = noise(24)
    net(x).sum().backward()
    net.train()
    next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    images, generator = x.clone(), torch.get_rng_state()
    labels = torch.zeros(24, dtype=torch.long)
    one = Subject(net, lambda: [(x, labels)], (0.0,) * 3, (1.0,) * 3)
    first = read_information(one)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, old) for p, old in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(x, images)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks for module in net.modules())
    assert read_information(one) == first
