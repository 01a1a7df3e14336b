"""Batches: each image augmented by its own draws, the same for a seed, the same as doing it one by one."""

import numpy as np
import pytest
import torch

from poolbench.accelerator import here
from poolbench.data.augment import Batches, plain_batches

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
OFF = {"flip": False, "crop": 0, "cutout": 0}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pictures(samples=60, height=8, width=6):
    images = torch.randint(0, 256, (samples, height, width, 3), dtype=torch.uint8, generator=seeded(1))
    return images, torch.arange(samples)  # the label is the index


def epoch(batches, order=0, draws=0):
    """All batches of an epoch as (images, labels)."""
    x, y, _ = zip(*batches.epoch(seeded(order), seeded(draws)), strict=True)
    return torch.cat(x), torch.cat(y)


def normalised(image):
    """Slow and plain: (H, W, 3) uint8 to (3, H, W)."""
    return ((image.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)


def one_by_one(images, order, draws, flip, crop, cutout):
    """The definition, image by image, from the documented order of the draws."""
    samples, height, width, _ = images.shape
    chosen = torch.randperm(samples, generator=seeded(order))
    draws = seeded(draws)
    spans = (2, 2 * crop + 1, 2 * crop + 1, height - cutout + 1, width - cutout + 1)
    plan = torch.stack([torch.randint(span, (samples,), generator=draws) for span in spans], 1).tolist()
    result = []
    for index, (mirrored, down, right, top, left) in zip(chosen.tolist(), plan, strict=True):
        padded = np.pad(images[index].numpy(), ((crop, crop), (crop, crop), (0, 0)), mode="reflect")
        image = padded[down : down + height, right : right + width]
        if flip and mirrored:
            image = image[:, ::-1]
        image = normalised(torch.from_numpy(image.copy()))
        image[:, top : top + cutout, left : left + cutout] = 0
        result.append(image)
    return torch.stack(result).float()


def test_with_everything_off_a_batch_is_the_images_themselves():
    images, labels = pictures()
    x, y = epoch(Batches(images, labels, 10, MEAN, STD, OFF))
    plain = torch.cat([x for x, _ in plain_batches(images, labels, 7, MEAN, STD)])
    assert sorted(y.tolist()) == labels.tolist() != y.tolist()
    assert torch.equal(x, plain[y])


def test_plain_batches_keep_order_and_hand_out_every_image():
    images, labels = pictures()
    batches = list(plain_batches(images, labels, 25, MEAN, STD))
    assert [len(x) for x, _ in batches] == [25, 25, 10]
    assert torch.equal(torch.cat([y for _, y in batches]), labels)
    expected = torch.stack([normalised(image) for image in images]).float()
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), expected)


@pytest.mark.parametrize("size", [(8, 6), (5, 9)])
@pytest.mark.parametrize(
    ("flip", "crop", "cutout"), [(True, 0, 0), (False, 3, 0), (False, 0, 4), (True, 2, 3), (True, 4, 5)]
)
def test_batches_are_what_doing_it_one_by_one_gives(size, flip, crop, cutout):
    images, labels = pictures(40, *size)
    batches = Batches(images, labels, 8, MEAN, STD, {"flip": flip, "crop": crop, "cutout": cutout})
    x, _ = epoch(batches, order=5, draws=6)
    expected = one_by_one(images, 5, 6, flip, crop, cutout)
    torch.testing.assert_close(x, expected)
    assert torch.equal(x == 0, expected == 0)


def test_about_half_of_the_images_are_mirrored_and_the_others_untouched():
    images, labels = pictures(2000, 4, 4)
    x, y = epoch(Batches(images, labels, 50, MEAN, STD, {"flip": True}))
    plain, _ = next(plain_batches(images, labels, 2000, MEAN, STD))
    same = (x == plain[y]).flatten(1).all(1)
    mirrored = (x.flip(3) == plain[y]).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 900 < int(mirrored.sum()) < 1100


def offsets(crop=2, samples=5000, size=7):
    """Where each crop of an epoch lies, read off images whose pixels say where they come from: (samples, 2)."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)], 2).to(torch.uint8)
    images = image.expand(samples, -1, -1, -1).contiguous()
    batches = Batches(images, torch.zeros(samples).long(), 100, (0, 0, 0), (1 / 255,) * 3, {"crop": crop})
    x, _ = epoch(batches)
    middle = size // 2  # far enough from the border that no reflection shows
    return (x[:, :2, middle, middle] - middle).round().long()


def test_crops_are_uniform_over_all_shifts():
    crop, samples = 2, 5000
    counts = torch.bincount(((offsets(crop, samples) + crop) @ torch.tensor([2 * crop + 1, 1])), minlength=25)
    assert len(counts) == 25
    expected = samples / 25
    assert float(((counts - expected) ** 2 / expected).sum()) < 51  # chi square, 24 degrees of freedom, p = 0.001


def test_images_of_one_batch_are_shifted_differently():
    assert len(offsets(samples=200)[:100].unique(dim=0)) > 15


def test_a_cutout_is_one_whole_square_of_the_mean():
    images = torch.full((500, 9, 7, 3), 255, dtype=torch.uint8)
    x, _ = epoch(Batches(images, torch.zeros(500).long(), 50, MEAN, STD, {"cutout": 3}))
    hole = (x == 0).all(1)
    assert bool((hole.sum((1, 2)) == 9).all())
    assert bool((hole.any(2).sum(1) == 3).all() and (hole.any(1).sum(1) == 3).all())
    assert bool(hole.any(0).all())  # every pixel is hidden sometimes, the corners too


def test_seeds_give_the_same_batches_bit_for_bit():
    images, labels = pictures()
    everything = {"flip": True, "crop": 3, "cutout": 2}
    batches = Batches(images, labels, 10, MEAN, STD, everything)
    x, y = epoch(batches, 1, 2)
    torch.manual_seed(123)
    x_again, y_again = epoch(Batches(images, labels, 10, MEAN, STD, everything), 1, 2)
    assert torch.equal(x, x_again)
    assert torch.equal(y, y_again)
    assert not torch.equal(y, epoch(batches, 2, 2)[1])
    x_other, y_other = epoch(batches, 1, 3)
    assert torch.equal(y, y_other)
    assert not torch.equal(x, x_other)


def test_an_option_moves_no_draw_of_another():
    images, labels = pictures()
    with_hole, _ = epoch(Batches(images, labels, 10, MEAN, STD, {"flip": True, "crop": 3, "cutout": 2}))
    without, _ = epoch(Batches(images, labels, 10, MEAN, STD, {"flip": True, "crop": 3}))
    seen = with_hole != 0
    assert torch.equal(with_hole[seen], without[seen])


def test_generators_end_an_epoch_in_the_same_state_whatever_the_options():
    images, labels = pictures()
    states = []
    for options in (OFF, {"flip": True, "crop": 3, "cutout": 2}):
        order, draws = seeded(0), seeded(0)
        list(Batches(images, labels, 10, MEAN, STD, options).epoch(order, draws))
        states.append((order.get_state(), draws.get_state()))
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


def test_what_is_skipped_moves_nothing_of_what_is_not():
    images, labels = pictures()
    batches = Batches(images, labels, 10, MEAN, STD, {"flip": True, "crop": 3, "cutout": 2})
    skip = torch.rand(60, generator=seeded(5)) < 0.4
    mirror = torch.randint(2, (60,), generator=seeded(6))
    for mirrored in (None, mirror):
        whole, some = (
            [torch.cat(part) for part in zip(*batches.epoch(seeded(0), seeded(0), mirrored, left_out), strict=True)]
            for left_out in (None, skip)
        )
        kept = ~skip[whole[2]]
        assert len(some[2]) == int((~skip).sum()) // 10 * 10 < 60
        for part, all_ in zip(some, whole, strict=True):
            assert torch.equal(part, all_[kept][: len(part)])
        assert torch.equal(some[1], some[2])  # the label is the index


def test_batches_have_the_form_that_convolutions_like():
    images, labels = pictures(25)
    batches = Batches(images, labels, 10, MEAN, STD, {"flip": True})
    assert len(batches) == 2
    for x, y, _ in batches.epoch(seeded(0), seeded(0)):
        assert x.shape == (10, 3, 8, 6)
        assert y.shape == (10,)
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
    x, _, _ = next(Batches(images, labels, 10, MEAN, STD, OFF, dtype=torch.bfloat16).epoch(seeded(0), seeded(0)))
    assert x.dtype == torch.bfloat16
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_the_images_in_memory_are_left_alone():
    images, labels = pictures()
    before = images.clone()
    epoch(Batches(images, labels, 10, MEAN, STD, {"flip": True, "crop": 3, "cutout": 2}))
    list(plain_batches(images, labels, 10, MEAN, STD))
    assert torch.equal(images, before)


@pytest.mark.parametrize("batch_size", [0, 61])
def test_a_batch_larger_than_the_set_is_refused(batch_size):
    with pytest.raises(ValueError, match=r"trainer\.batch_size must be from 1 to the 60 training images, got"):
        Batches(*pictures(), batch_size, MEAN, STD, OFF)


@pytest.mark.parametrize("options", [{"crop": 6}, {"cutout": 7}, {"spin": 1}])
def test_an_augmentation_that_does_not_fit_is_refused(options):
    with pytest.raises(ValueError, match=r"data\.augmentation"):
        Batches(*pictures(), 10, MEAN, STD, options)


@pytest.mark.skipif(here() is None, reason="needs an accelerator")
def test_an_accelerator_makes_the_same_batches():
    images, labels = pictures()
    everything = {"flip": True, "crop": 3, "cutout": 2}
    x, y = epoch(Batches(images, labels, 10, MEAN, STD, everything))
    x_gpu, y_gpu = epoch(Batches(images, labels, 10, MEAN, STD, everything, device=here()))
    torch.testing.assert_close(x_gpu.cpu(), x)
    assert torch.equal(y_gpu.cpu(), y)
