"""Folders of images: laid out as asked, any size and mode, every mistake named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import v2

from poolbench.data.base import DataError
from poolbench.data.image_folder import ImageFolder

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))


def picture(path, colour=(200, 10, 30), size=(12, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def root(tmp_path):
    """Two classes, red and blue; three training images and one test image of each."""
    root = tmp_path / "images"
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        for i in range(3):
            picture(root / "train" / name / f"{i}.png", colour, (10 + i, 14))
        picture(root / "test" / name / "deeper" / "a.PNG", colour)
    (root / "train" / "red" / "notes.txt").write_text("not an image")
    (root / "train" / ".hidden").mkdir()
    return root


def test_images_come_with_the_class_of_their_folder(root):
    source = ImageFolder(root, size=8)
    source.check()
    info = source.info()
    assert (info.num_classes, info.size, info.train_samples, info.test_samples) == (2, (8, 8), 6, 2)
    assert info.classes == ("blue", "red")
    images = source.load(seed=0)
    assert images.train_images.shape == (6, 8, 8, 3)
    assert images.test_images.shape == (2, 8, 8, 3)
    for pixels, labels in ((images.train_images, images.train_labels), (images.test_images, images.test_labels)):
        assert torch.equal(pixels[:, 4, 4, 0] == 250, labels == 1)
        assert torch.equal(pixels[:, 4, 4, 2] == 250, labels == 0)


def test_an_image_of_the_right_size_is_kept_as_it_is(root):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "train" / "blue" / "0.png")
    assert np.array_equal(ImageFolder(root, size=9).load(0).train_images[0], pixels)


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (15, 15), (4, 4)])
def test_an_image_is_resized_by_its_short_side_and_cropped_to_the_centre(root, size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "train" / "blue" / "0.png")
    reference = v2.Compose([v2.Resize(10, v2.InterpolationMode.BILINEAR, antialias=True), v2.CenterCrop(10)])
    found = ImageFolder(root, size=10).load(0).train_images[0].numpy()
    np.testing.assert_allclose(found, np.asarray(reference(Image.fromarray(pixels))), atol=1)


def test_shrinking_averages_instead_of_dropping_pixels(root):
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(root / "train" / "blue" / "0.png")
    shrunk = ImageFolder(root, size=8).load(0).train_images[0].float()
    assert bool(((shrunk - 127.5).abs() < 4).all())


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_every_mode_becomes_rgb(root, mode):
    path = root / "train" / "blue" / f"extra.{'tiff' if mode == 'CMYK' else 'png'}"
    picture(path, (255, 255, 255), mode=mode)
    image = ImageFolder(root, size=8).load(0).train_images[3]
    assert image.shape == (8, 8, 3)
    assert bool((image == 255).all())


def test_sixteen_bits_are_scaled_not_cut_off(root):
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(root / "train" / "blue" / "0.png")
    assert bool((ImageFolder(root, size=8).load(0).train_images[0] == 40_000 >> 8).all())


def test_deeper_pixels_are_refused(root):
    Image.fromarray(np.ones((8, 8), np.float32)).save(root / "train" / "blue" / "deep.tiff")
    with pytest.raises(DataError, match=r"blue/deep\.tiff cannot be read .* 32 bits deep"):
        ImageFolder(root, size=8).prepare()


def test_a_second_load_does_not_decode(root, monkeypatch):
    ImageFolder(root, size=8).prepare()
    monkeypatch.setattr(ImageFolder, "build", lambda self: pytest.fail("decoded again"))
    assert len(ImageFolder(root, size=8).load(0).train_images) == 6


def test_fingerprint_and_cache_follow_the_files(root, tmp_path):
    first, key = ImageFolder(root).info().fingerprint, ImageFolder(root).cache_key()
    assert ImageFolder(root).info().fingerprint == first
    assert ImageFolder(root, size=16).cache_key() != key
    root.rename(tmp_path / "elsewhere")
    assert ImageFolder(tmp_path / "elsewhere").info().fingerprint == first
    picture(tmp_path / "elsewhere" / "train" / "red" / "new.png")
    assert ImageFolder(tmp_path / "elsewhere").info().fingerprint != first
    assert ImageFolder(tmp_path / "elsewhere").cache_key() != key


def test_a_missing_folder_says_what_is_expected(root, tmp_path):
    with pytest.raises(DataError, match=r"nowhere/train/<class>/: .*train/<class>/<images> and test/<class>/<images>"):
        ImageFolder(tmp_path / "nowhere").check()
    (root / "test").rename(root / "val")
    with pytest.raises(DataError, match=r"images/test/<class>/: "):
        ImageFolder(root).info()


def test_classes_that_differ_are_listed(root):
    picture(root / "train" / "green" / "a.png")
    picture(root / "test" / "grey" / "a.png")
    with pytest.raises(DataError, match=r"only in train: green; only in test: grey"):
        ImageFolder(root).check()


def test_a_class_without_images_is_named(root):
    (root / "train" / "green").mkdir()
    with pytest.raises(DataError, match=r"train/green holds no images"):
        ImageFolder(root).check()


@pytest.mark.parametrize("content", [b"", b"not a png", "cut"])
def test_an_unreadable_image_is_named_and_nothing_is_cached(root, content):
    path = root / "test" / "blue" / "bad.png"
    picture(path, size=(50, 50))
    path.write_bytes(path.read_bytes()[:60] if content == "cut" else content)
    with pytest.raises(DataError, match=r"test/blue/bad\.png cannot be read as an image"):
        ImageFolder(root, size=8).load(0)
    path.unlink()
    assert len(ImageFolder(root, size=8).load(0).test_images) == 2


def test_a_link_that_leads_nowhere_is_named(root):
    (root / "test" / "blue" / "gone.png").symlink_to(root / "missing.png")
    with pytest.raises(DataError, match=r"gone\.png cannot be read"):
        ImageFolder(root).check()


@pytest.mark.parametrize("size", [1, 0, -3, 32.0, True, None])
def test_a_wrong_size_is_refused(size):
    with pytest.raises(ValueError, match=r"data\.size must be a whole number of pixels from 2 up, got"):
        ImageFolder(size=size)


def test_the_augmentation_must_fit_the_size():
    with pytest.raises(ValueError, match=r"data\.augmentation\.crop .* from 0 to 3 for images of 4x4, got 4"):
        ImageFolder(size=4)


def test_the_yaml_shows_the_defaults():
    config = OmegaConf.to_container(OmegaConf.load(CONF / "image_folder.yaml"))
    assert config.pop("_target_") == "poolbench.data.ImageFolder"
    given, default = ImageFolder(**config), ImageFolder()
    assert list(config) == ["root", "size", "validation", "augmentation"]
    assert vars(given) == vars(default)
