"""What all data sources share: options, the validation split, statistics, the table of names."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from poolbench.data import DATA, base, list_data
from poolbench.data.base import FLIP_AND_CROP, DataInfo, DataSource, checked_augmentation, nested, with_statistics
from poolbench.data.cache import rows_of


class Numbers(DataSource):
    """Images whose every pixel is their index, so that a split can be read off them."""

    name = "numbers"
    builds = 0

    def __init__(self, validation=0.0, augmentation=FLIP_AND_CROP, samples=100, train_samples=None, test_samples=None):
        super().__init__(validation, augmentation, (8, 6), train_samples, test_samples)
        self.samples = samples

    def info(self):
        return DataInfo(5, self.size, self.kept(self.samples), self.kept_for_test(10), tuple("abcde"), "1")

    def check(self):
        pass

    def cache_key(self):
        return f"{self.samples}"

    def build(self):
        Numbers.builds += 1
        images = np.arange(self.samples, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 6, 3), np.uint8)
        labels = np.arange(self.samples) % 5
        return {
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:10],
            "test_labels": labels[:10],
            "classes": np.array(list("abcde")),
        }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbers_of(images):
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("validation", [1.0, 1.5, -0.1, "half", True, None, float("nan")])
def test_validation_outside_its_range_is_refused(validation):
    with pytest.raises(ValueError, match=r"data\.validation must be a number in \[0, 1\), got"):
        Numbers(validation=validation)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"crop": -1}, r"data\.augmentation\.crop .* 0 to 5 for images of 8x6, got -1"),
        ({"crop": 6}, r"data\.augmentation\.crop .* got 6"),
        ({"crop": 1.5}, r"data\.augmentation\.crop .* got 1\.5"),
        ({"cutout": 7}, r"data\.augmentation\.cutout .* 0 to 6 for images of 8x6, got 7"),
        ({"flip": 1}, r"data\.augmentation\.flip must be true or false, got 1"),
        ({"rotate": 3}, r"data\.augmentation has no option 'rotate'; it has flip, crop, cutout"),
        ("flip", r"data\.augmentation must be a mapping"),
    ],
)
def test_a_wrong_augmentation_is_refused_by_name(augmentation, message):
    with pytest.raises(ValueError, match=message):
        Numbers(augmentation=augmentation)


def test_augmentations_left_out_are_off():
    assert checked_augmentation({"flip": True}, (8, 8)) == {"flip": True, "crop": 0, "cutout": 0}
    assert checked_augmentation(None, (8, 8)) == {"flip": False, "crop": 0, "cutout": 0}
    assert Numbers(augmentation={"crop": 5, "cutout": 6}).augmentation["cutout"] == 6


def test_the_default_augmentation_is_not_shared_between_sources():
    Numbers().augmentation["crop"] = 1
    assert Numbers().augmentation["crop"] == FLIP_AND_CROP["crop"] == 4


def test_without_validation_the_whole_training_set_is_trained_on():
    images = Numbers().load(seed=0)
    assert numbers_of(images.train_images) == list(range(100))
    assert images.validation_images.shape == (0, 8, 6, 3)
    assert images.validation_labels.shape == (0,)
    assert images.train_images.dtype == torch.uint8
    assert images.train_labels.dtype == images.validation_labels.dtype == torch.int64
    assert images.classes == tuple("abcde")


def test_the_split_parts_the_training_set_with_its_labels():
    images = Numbers(validation=0.25).load(seed=0)
    train, validation = numbers_of(images.train_images), numbers_of(images.validation_images)
    assert len(validation) == 25
    assert sorted(train + validation) == list(range(100))
    assert [n % 5 for n in train] == images.train_labels.tolist()
    assert [n % 5 for n in validation] == images.validation_labels.tolist()


def test_the_split_depends_on_the_seed_alone():
    split = [numbers_of(Numbers(validation=0.25).load(seed).validation_images) for seed in (3, 3, 4)]
    torch.manual_seed(99)
    assert split[0] == split[1] == numbers_of(Numbers(validation=0.25).load(3).validation_images)
    assert split[0] != split[2]


def test_the_test_set_and_statistics_do_not_depend_on_the_split():
    whole, split = Numbers().load(0), Numbers(validation=0.3).load(1)
    assert torch.equal(whole.test_images, split.test_images)
    assert (whole.mean, whole.std) == (split.mean, split.std)


@pytest.mark.parametrize("validation", [0.001, 0.999])
def test_a_split_that_leaves_nothing_is_refused(validation):
    with pytest.raises(ValueError, match=r"data\.validation=.* both need at least one"):
        Numbers(validation=validation).load(0)


def test_the_set_is_built_once_and_then_read():
    Numbers(samples=37).prepare()
    before = Numbers.builds
    Numbers(samples=37).load(0)
    assert Numbers.builds == before


def test_statistics_are_those_of_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 4, 5, 3), dtype=np.uint8)
    found = with_statistics({"train_images": pixels})
    np.testing.assert_allclose(found["mean"], (pixels / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(found["std"], (pixels / 255).std((0, 1, 2)))


def test_a_constant_channel_can_be_normalised():
    assert with_statistics({"train_images": np.full((4, 2, 2, 3), 7, np.uint8)})["std"].tolist() == [1, 1, 1]


def test_sources_are_listed_and_checked_without_torch():
    code = (
        "import sys; from poolbench.data import DATA, list_data; import poolbench.data.base\n"
        "[DATA.describe(n) for n in list_data()]\n"
        "assert DATA.find('cifar10')(root='nowhere').info().num_classes == 10\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_source_has_a_first_line():
    assert {"cifar10", "cifar100", "shapes", "image_folder"} <= set(list_data())
    assert all(len(DATA.describe(name)[0]) > 10 for name in list_data())


def test_a_part_of_the_images_holds_every_smaller_part_and_every_class_in_proportion():
    labels = np.repeat([3, 0, 7], [600, 300, 100])
    parts = [nested(labels, count) for count in (10, 50, 100, 1000)]
    for part, more in itertools.pairwise(parts):
        assert set(part) < set(more)
        assert (np.diff(part) > 0).all()
    assert parts[-1].tolist() == list(range(1000))
    for part in parts[:-1]:
        assert np.bincount(labels[part], minlength=8)[[3, 0, 7]].tolist() == [len(part) * n / 10 for n in (6, 3, 1)]
    assert parts[1].tolist() != list(range(50))  # drawn


def test_a_part_is_the_same_for_every_seed_and_taken_before_the_validation_split():
    whole, part = Numbers(), Numbers(train_samples=40)
    rows = [sorted(numbers_of(part.load(seed).train_images)) for seed in (0, 1)]
    assert rows[0] == rows[1] == nested(np.arange(100) % 5, 40).tolist()
    split = Numbers(train_samples=40, validation=0.25).load(3)
    assert (len(split.train_images), len(split.validation_images)) == (30, 10)
    assert sorted([*numbers_of(split.train_images), *numbers_of(split.validation_images)]) == rows[0]
    # Images are normalised alike, whatever part is taken, and the test set is whole.
    assert part.load(0).mean == whole.load(0).mean
    assert len(part.load(0).test_images) == 10
    assert part.info().train_samples == 40
    assert numbers_of(Numbers(train_samples=100).load(0).train_images) == list(range(100))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "all"])
def test_a_part_is_a_count_or_null(count):
    with pytest.raises(ValueError, match=r"data\.train_samples must be null or a whole number of at least 1, got"):
        Numbers(train_samples=count)


def test_a_part_of_the_test_set_holds_every_smaller_part_whatever_the_seed():
    labels, drawn = np.arange(10) % 5, []
    for count in (5, 7, 10):
        sources = [Numbers(test_samples=count, validation=validation) for validation in (0.0, 0.2)]
        rows = [numbers_of(source.load(seed).test_images) for seed, source in enumerate(sources)]
        assert rows[0] == rows[1] == nested(labels, count, "test_samples").tolist()
        assert [row % 5 for row in rows[0]] == sources[0].load(0).test_labels.tolist()
        assert sources[0].info().test_samples == count
        assert len(sources[0].load(0).train_images) == 100
        drawn.append(set(rows[0]))
    assert drawn[0] < drawn[1] < drawn[2] == set(range(10))
    assert sorted(row % 5 for row in drawn[0]) == list(range(5))  # every class
    many = np.arange(100) % 5
    assert nested(many, 50, "test_samples").tolist() != nested(many, 50).tolist()


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "all"])
def test_a_part_of_the_test_set_is_a_count_or_null(count):
    with pytest.raises(ValueError, match=r"data\.test_samples must be null or a whole number of at least 1, got"):
        Numbers(test_samples=count)
    with pytest.raises(ValueError, match=r"data\.test_samples must be at most the 10 test images, got 11; null is all"):
        Numbers(test_samples=11).info()


def test_parts_are_the_same_from_memory_and_from_disk(monkeypatch, cache):
    few = Numbers(train_samples=40, validation=0.25, test_samples=5).load(3)
    monkeypatch.setattr(base, "rows_of", lambda images, rows: rows_of(images, rows, most=0))
    many = Numbers(train_samples=40, validation=0.25, test_samples=5).load(3)
    for part in ("train", "validation", "test"):
        for kind in ("images", "labels"):
            assert torch.equal(getattr(few, f"{part}_{kind}"), getattr(many, f"{part}_{kind}"))


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"data\.train_samples must be at most the 100 training images, got 101"):
        Numbers(train_samples=101).info()
