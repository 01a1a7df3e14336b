"""Shapes: the same bytes for the same options, a class that only the outline tells, too hard for a linear model."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from poolbench.data.shapes import CHUNK, CLASSES, OUTLINES, VERSION, Shapes, generate

SCENE = Shapes().scene


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def default():
    """The default data: training images, labels, test images, labels; pixels standardised, (N, 3, H, W)."""
    arrays = Shapes().build()
    images = [torch.from_numpy(arrays[f"{part}_images"]).float().permute(0, 3, 1, 2) for part in ("train", "test")]
    mean, std = (f(images[0], (0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    labels = [torch.from_numpy(arrays[f"{part}_labels"]) for part in ("train", "test")]
    return (images[0] - mean) / std, labels[0], (images[1] - mean) / std, labels[1]


@pytest.fixture
def one_thread():
    """The same bits whatever the number of cores, and no contention between tests that run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(samples=60, seed=0, stream=0, chunk=CHUNK, **options):
    return generate(samples, seed, stream, dataclasses.replace(SCENE, **options), chunk)


def test_null_is_as_many_training_images_as_by_default():
    assert Shapes(train_samples=None).train_samples == Shapes().train_samples == 10_000
    assert Shapes(test_samples=None).test_samples == Shapes().test_samples == 2000
    assert Shapes(train_samples=None, test_samples=None).cache_key() == Shapes().cache_key()


def test_the_pixels_of_this_version_are_the_same_on_every_machine():
    digest = hashlib.sha256(b"".join(part.tobytes() for part in draw(200))).hexdigest()[:16]
    message = (
        "the generator draws other pixels: raise VERSION (the fingerprint stands for the content), renew the digest"
    )
    assert (VERSION, digest) == (1, "df89d202118ec700"), message


@pytest.mark.parametrize("options", [{}, {"size": 17}, {"clutter": 0}])
def test_a_chunk_changes_no_byte(options):
    images, labels = draw(**options)
    for chunk in (1, 7, 1000):
        other_images, other_labels = draw(chunk=chunk, **options)
        assert np.array_equal(images, other_images)
        assert np.array_equal(labels, other_labels)


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    images, labels = draw(60)
    fewer_images, fewer_labels = draw(33)
    assert np.array_equal(images[:33], fewer_images)
    assert np.array_equal(labels[:33], fewer_labels)


def test_seeds_and_streams_draw_different_images():
    sets = [draw(seed=0), draw(seed=1), draw(seed=0, stream=1)]
    images = {image.tobytes() for images, _ in sets for image in images}
    assert len(images) == sum(len(images) for images, _ in sets)


def test_every_ten_images_have_every_class_once():
    _, labels = draw(200)
    assert (np.sort(labels.reshape(-1, 10), axis=1) == np.arange(10)).all()
    assert len({tuple(row) for row in labels.reshape(-1, 10).tolist()}) > 15  # in an order of their own


@pytest.mark.parametrize("shape", CLASSES)
def test_a_shape_is_its_own_mirror_image_and_fits_into_its_circle(shape):
    u, v = np.meshgrid(np.arange(-150, 151) / 100, np.arange(-150, 151) / 100)
    inside = OUTLINES[shape](u, v) < 0
    assert np.array_equal(inside, inside[:, ::-1])
    assert np.hypot(u, v)[inside].max() < 1.07
    assert 0.15 < inside.sum() * 0.01**2 / np.pi < 0.8  # of the circle's area


def test_shapes_differ_from_each_other_however_they_are_turned():
    """Turned and scaled to fit as well as they can, of the union of two shapes at least an eighth differs."""
    u, v = np.meshgrid(np.linspace(-1.4, 1.4, 61), np.linspace(-1.4, 1.4, 61))
    turned = {
        shape: [
            outline((u * np.cos(a) + v * np.sin(a)) / s, (v * np.cos(a) - u * np.sin(a)) / s) < 0
            for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)
            for s in (0.8, 0.9, 1.0, 1.1, 1.2)
        ]
        for shape, outline in OUTLINES.items()
    }
    for i, one in enumerate(CLASSES):
        upright = OUTLINES[one](u, v) < 0
        for other in CLASSES[i + 1 :]:
            overlap = max((upright & mask).sum() / (upright | mask).sum() for mask in turned[other])
            assert overlap < 0.875, (one, other, overlap)


def test_distances_have_unit_slope_near_the_outline():
    """Else the edge of a shape would be drawn too sharp or too soft."""
    step = 1e-4
    u, v = np.meshgrid(np.linspace(-1.2, 1.2, 241), np.linspace(-1.2, 1.2, 241))
    for shape, outline in OUTLINES.items():
        slope = np.hypot(*((outline(u + a, v + b) - outline(u, v)) / step for a, b in ((step, 0), (0, step))))
        near = np.abs(outline(u, v)) < 0.03
        assert np.median(np.abs(slope[near] - 1)) < 1e-3, shape


def test_ranges_that_are_points_put_the_shape_where_they_say():
    plain = {"position": 0.0, "rotation": 0.0, "scale": (0.4, 0.4), "clutter": 0, "noise": 0.0, "size": 64}
    images, labels = draw(400, **plain)
    mean = {k: images[labels == i].mean((0, 3)) for i, k in enumerate(CLASSES)}
    offset = np.abs(np.arange(64) - 31.5)
    square = np.maximum.outer(offset, offset) < 0.4 * 64 * 0.75
    assert mean["square"][square].min() > mean["square"][~square].max() + 10  # shapes are lighter than grounds
    ring = mean["ring"]
    assert ring[32, 32] < ring[32, 32 + 18] > ring[32, 63]


def test_turns_and_offsets_stay_in_their_ranges():
    """Without turns a triangle's mean image points one way; with all turns it is round."""
    still, labels = draw(1000, rotation=0.0, position=0.0)
    turned, _ = draw(1000, position=0.0)
    triangle = labels == CLASSES.index("triangle")

    def lopsided(images):
        mean = images[triangle].mean((0, 3))
        return np.abs(mean - mean[::-1]).mean()

    assert lopsided(still) > 2 * lopsided(turned)


def test_class_tells_nothing_of_the_ground():
    """The corners, which no shape reaches, have the same mean colour in every class."""
    images, labels = draw(2000, position=0.0, scale=(0.23, 0.3))
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean((1, 2)) / 255
    means = [corners[labels == label] for label in range(10)]
    for one in means:
        assert abs(one.mean() - corners.mean()) < 4 * corners.std() / len(one) ** 0.5


@pytest.mark.parametrize("size", [16, 17, 48])
def test_any_size_from_16_on(size):
    source = Shapes(train_samples=25, test_samples=5, size=size)
    images = source.load(seed=0)
    assert images.train_images.shape == (25, size, size, 3)
    assert images.test_images.shape == (5, size, size, 3)
    assert source.info().size == (size, size)


def test_a_larger_size_shows_the_same_scenes():
    small, large = draw(20, noise=0.0)[0], draw(20, noise=0.0, size=64)[0]
    halved = large.reshape(20, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean() < 6  # of 255: textures are sampled more finely


def test_loading_gives_what_info_says_and_never_mixes_train_and_test():
    source = Shapes(train_samples=100, test_samples=30, validation=0.2)
    info, images = source.info(), source.load(seed=3)
    assert (info.train_samples, info.test_samples, info.num_classes, info.classes) == (100, 30, 10, CLASSES)
    assert (len(images.train_images), len(images.validation_images), len(images.test_images)) == (80, 20, 30)
    assert images.train_images.dtype == images.test_images.dtype == torch.uint8
    assert images.train_labels.dtype == torch.int64
    assert images.classes == CLASSES
    seen = {image.numpy().tobytes() for image in torch.cat([images.train_images, images.validation_images])}
    assert not seen & {image.numpy().tobytes() for image in images.test_images}


def test_the_fingerprint_changes_with_the_content_and_only_then():
    def fingerprint(**options):
        return Shapes(**options).info().fingerprint

    content = [
        {"train_samples": 9999},
        {"test_samples": 1999},
        {"size": 33},
        {"data_seed": 1},
        {"position": 0.1},
        {"rotation": 90},
        {"scale": [0.2, 0.4]},
        {"clutter": 5},
        {"noise": 0.05},
    ]
    assert len({fingerprint(), *(fingerprint(**options) for options in content)}) == 10
    assert fingerprint(validation=0.1, augmentation=None, rotation=180, scale=[0.23, 0.4]) == fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 15}, r"data\.size must be a whole number of at least 16, got 15"),
        ({"train_samples": 0}, r"data\.train_samples must be .* at least 1, got 0"),
        ({"test_samples": 2.5}, r"data\.test_samples must be null or a whole number"),
        ({"data_seed": -1}, r"data\.data_seed must be .* at least 0, got -1"),
        ({"position": 0.6}, r"data\.position must be a number from 0 to 0\.5, got 0\.6"),
        ({"rotation": "full"}, r"data\.rotation must be a number from 0 to 180, got 'full'"),
        ({"scale": 0.3}, r"data\.scale must be \[smallest, largest\] .* got 0\.3"),
        ({"scale": [0.4, 0.3]}, r"data\.scale must be \[smallest, largest\]"),
        ({"clutter": True}, r"data\.clutter must be a whole number"),
        ({"noise": -0.1}, r"data\.noise must be a number from 0 to 1, got -0\.1"),
        ({"validation": 1.5}, r"data\.validation must be a number in \[0, 1\), got 1\.5"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**options)


def test_a_linear_classifier_stays_under_half(default):
    """Ridge regression on all pixels, even with the penalty that suits the test set best."""
    x, y, test_x, test_y = default
    x, test_x = x.flatten(1), test_x.flatten(1)
    gram, target = x.T @ x, x.T @ (F.one_hot(y, 10) - 0.1)
    accuracies = []
    for penalty in (1e4, 1e5, 1e6, 1e7):
        weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), target)
        accuracies.append((test_x @ weights).argmax(1).eq(test_y).float().mean().item())
    assert 0.12 < max(accuracies) < 0.5


@pytest.mark.wide
def test_a_small_net_learns_nine_in_ten(default, one_thread):
    x, y, test_x, test_y = default
    torch.manual_seed(0)
    layers, channels = [], 3
    for width in (16, 32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    net.to(memory_format=torch.channels_last)
    epochs, batch = 4, 100  # 93 %
    steps = epochs * len(x) // batch
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps, pct_start=0.15, cycle_momentum=False)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(x)).split(batch):
            images = x[chosen] if epoch % 2 else x[chosen].flip(3)
            loss = F.cross_entropy(net(images), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        accuracy = net(test_x).argmax(1).eq(test_y).float().mean().item()
    assert accuracy > 0.9
