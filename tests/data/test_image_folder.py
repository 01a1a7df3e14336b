"""Folders of images: laid out as asked, any size and mode, every mistake named."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import v2

from poolbench.data import cache, pictures
from poolbench.data.base import DataError
from poolbench.data.image_folder import ImageFolder

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
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


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("kind", [np.uint16, np.uint8, "RGB"], ids=str)
def test_every_depth_is_turned_upright_as_the_camera_noted(root, kind, suffix):
    high = np.arange(6 * 10).reshape(6, 10)
    pixels = {np.uint8: high, np.uint16: high * 256 + 7, "RGB": np.stack([high, 0 * high, high], -1)}[kind]
    upright = {1: high, 3: np.rot90(high, 2), 6: np.rot90(high, -1), 8: np.rot90(high)}
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = root / "train" / "blue" / f"{orientation}.{suffix}"
        Image.fromarray(pixels.astype(np.uint8 if kind == "RGB" else kind)).save(path, exif=exif)
        with pictures.opened(path) as image:
            assert np.array_equal(np.asarray(pictures.upright(image).convert("RGB"))[..., 0], expected)
        square = expected[2:8] if orientation > 4 else expected[:, 2:8]
        assert np.array_equal(ImageFolder(root, size=6)._decode(f"train/blue/{path.name}")[..., 0], square)


def test_a_size_that_is_no_square_is_height_and_width():
    assert pictures.fitted(Image.new("L", (20, 20)), (4, 6)).shape == (4, 6, 3)


def test_deeper_pixels_are_refused(root):
    Image.fromarray(np.ones((8, 8), np.float32)).save(root / "train" / "blue" / "deep.tiff")
    with pytest.raises(DataError, match=r"blue/deep\.tiff cannot be read .* 32 bits deep"):
        ImageFolder(root, size=8).check()


def test_a_second_load_does_not_decode(root, monkeypatch):
    ImageFolder(root, size=8).prepare()
    monkeypatch.setattr(ImageFolder, "build", lambda self: pytest.fail("decoded again"))
    assert len(ImageFolder(root, size=8).load(0).train_images) == 6


def test_images_are_decoded_a_chunk_at_a_time(root, monkeypatch):
    whole = ImageFolder(root, size=8).load(0)
    monkeypatch.setattr(cache, "CHUNK_BYTES", 2 * 8 * 8 * 3)
    monkeypatch.setenv("POOLBENCH_CACHE", str(root.parent / "other cache"))
    chunks = ImageFolder(root, size=8).build()["train_images"].chunks
    assert [len(chunk) for chunk in chunks()] == [2, 2, 2]
    again = ImageFolder(root, size=8).load(0)
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(whole, part), getattr(again, part))
    assert (whole.mean, whole.std) == (again.mean, again.std)


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
    with pytest.raises(DataError, match=r"nowhere/<class>/: .*train/<class>/<images> and test/<class>/<images>, or"):
        ImageFolder(tmp_path / "nowhere").check()
    with pytest.raises(DataError, match=r"; there is no folder .*nowhere$"):
        ImageFolder(tmp_path / "nowhere").check()
    (tmp_path / "empty" / "cats").mkdir(parents=True)
    with pytest.raises(DataError, match=r"there are no images .*; it holds the folders cats$"):
        ImageFolder(tmp_path / "empty").check()


def test_a_root_that_is_too_deep_or_not_deep_enough_names_the_right_one(root, tmp_path, monkeypatch):
    for wrong, words in ((root / "train", "its parent"), (root / "test", "its parent"), (tmp_path, "the folder in it")):
        with pytest.raises(DataError, match=rf"Did you mean {words}, data\.root={re.escape(str(root))}\?$"):
            ImageFolder(wrong).check()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Did you mean its parent, data\.root=images\?$"):
        ImageFolder("images/train").check()
    picture(tmp_path / "deep" / "flat" / "rose" / "a.png")
    with pytest.raises(DataError, match=r"a folder for each class, and holds one alone, rose$"):
        ImageFolder("deep/flat").check()
    with pytest.raises(DataError, match=r"holds one alone, flat\. Did you mean data\.root=deep/flat\?$"):
        ImageFolder("deep").check()
    (root / "train").rename(root / "other")
    with pytest.raises(DataError, match=r"must hold train/<class>/<images> beside test, .* folders other, test$"):
        ImageFolder("images").check()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Test", "dev"])
def test_the_test_set_may_have_another_name_which_is_told(root, name):
    (root / "test").rename(root / name)
    source = ImageFolder(root, size=8)
    assert source.info().test_samples == 2
    assert source.load(0).test_labels.tolist() == [0, 1]
    assert source.notes() == [
        f"{root}: 6 training and 2 test images of 10x12 to 12x14 pixels, resized to 8x8, 2 classes",
        f"{root / name} is the test set, which is read once, after training",
    ]


def test_of_several_test_folders_test_is_taken_and_the_others_are_told(root):
    picture(root / "val" / "red" / "a.png")
    picture(root / "spare" / "red" / "a.png")
    source = ImageFolder(root)
    assert source.info().test_samples == 2
    assert len(source.notes()) == 2
    assert source.notes()[1].startswith(f"not read: {root / 'spare'}, {root / 'val'}; images to choose by are split")


def test_a_test_folder_without_classes_is_not_read_and_told(root, tmp_path):
    (root / "test").rename(root / "val")
    picture(root / "test" / "0.png")
    source = ImageFolder(root)
    assert source.info().test_samples == 2
    assert any(note.startswith(f"not read: {root / 'test'};") for note in source.notes())


# --- one folder alone


@pytest.fixture
def single(tmp_path):
    """Three classes of 20, 10 and 5 images in one folder."""
    for name, count in (("a", 20), ("b", 10), ("c", 5)):
        for i in range(count):
            picture(tmp_path / "single" / name / f"{i}.png", (i, len(name), 0), (8, 8))
    return tmp_path / "single"


def split_of(source):
    return [{file.path.removeprefix("train/") for file in source._files(split)} for split in ("train", "test")]


def test_of_one_folder_a_share_of_each_class_is_held_out(single):
    source = ImageFolder(single, size=8)
    info, images = source.info(), source.load(seed=0)
    assert (info.train_samples, info.test_samples, info.classes) == (28, 7, ("a", "b", "c"))
    assert torch.bincount(images.train_labels).tolist() == [16, 8, 4]
    assert torch.bincount(images.test_labels).tolist() == [4, 2, 1]
    assert torch.equal(images.test_images, source.load(seed=1).test_images)
    train, test = split_of(source)
    assert not train & test
    assert "0.2 of each class (data.test_share) is held out as the test set" in source.notes()[1]


def test_the_draw_is_the_same_below_train_and_elsewhere_and_nested_in_larger_ones(single, tmp_path):
    shares = [split_of(ImageFolder(single, test_share=share))[1] for share in (0.2, 0.5, 0.8)]
    assert shares[0] < shares[1] < shares[2]
    keys = {ImageFolder(single, test_share=share).cache_key() for share in (0.2, 0.5)}
    assert len(keys) == 2
    (tmp_path / "elsewhere").mkdir()
    single.rename(tmp_path / "elsewhere" / "train")
    assert split_of(ImageFolder(tmp_path / "elsewhere"))[1] == shares[0]


def test_a_new_image_moves_no_other_or_one(single):
    before = split_of(ImageFolder(single))[1]
    picture(single / "a" / "new.png")
    assert len(before ^ split_of(ImageFolder(single))[1] - {"a/new.png"}) <= 1


def test_a_class_of_one_image_is_trained_on_and_told_and_nothing_but_such_refused(single, tmp_path):
    picture(single / "d" / "0.png")
    source = ImageFolder(single)
    assert [len(files) for files in source.layout.test.values()] == [4, 2, 1, 0]
    assert source.notes()[-1] == "no test image, as there is one image alone: d"
    for name in "ab":
        picture(tmp_path / "few" / name / "0.png")
    with pytest.raises(DataError, match=r"few holds one image of each class, and one more"):
        ImageFolder(tmp_path / "few").check()


@pytest.mark.parametrize("share", [0, 1, 1.5, "half", True, None])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ValueError, match=r"data\.test_share must be a number between 0 and 1, got"):
        ImageFolder(test_share=share)


def test_classes_that_differ_are_listed(root):
    picture(root / "train" / "green" / "a.png")
    picture(root / "test" / "grey" / "a.png")
    with pytest.raises(DataError, match=r"only in train: green; only in test: grey"):
        ImageFolder(root).check()


def test_a_folder_without_images_is_no_class_and_told(root):
    (root / "train" / "green").mkdir()
    source = ImageFolder(root)
    assert source.info().classes == ("blue", "red")
    assert source.notes()[1] == f"no class, as there are no images in it: {root / 'train' / 'green'}"
    picture(root / "test" / "green" / "a.png")
    with pytest.raises(DataError, match=r"only in train: none; only in test: green"):
        ImageFolder(root).check()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "ppm", "tiff", "webp"])
@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_an_unreadable_image_is_named_before_anything_is_decoded_and_nothing_is_cached(root, content, suffix):
    path = root / "test" / "blue" / f"bad.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3] if content == "cut" else content)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"test/blue/bad\.{suffix} cannot be read as an image: .*\w"):
            ImageFolder(root, size=8).check()
    path.write_bytes(whole + b"appended" * 1000)
    assert len(ImageFolder(root, size=8).load(0).test_images) == 3


def test_unreadable_images_are_named_all_at_once_up_to_twenty(root):
    for i in range(23):
        (root / "train" / "red" / f"bad{i:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        ImageFolder(root, size=8).check()
    lines = str(caught.value).splitlines()
    assert lines[0] == "23 images cannot be read:"
    assert lines[-1] == "  and 3 more"
    assert [Path(line.split()[0]).name for line in lines[1:-1]] == [f"bad{i:02}.png" for i in range(20)]
    with pytest.raises(DataError) as decoded:
        ImageFolder(root, size=8).arrays()
    assert str(decoded.value) == str(caught.value)


def test_what_only_decoding_shows_is_named_all_at_once(root):
    for name in ("a.png", "b.png"):
        data = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), b"no deflated data", b""
        chunks = [kind + text for kind, text in zip((b"IHDR", b"IDAT", b"IEND"), data, strict=True)]
        whole = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
        (root / "train" / "red" / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(whole))
    source = ImageFolder(root, size=8)
    source.check()
    with pytest.raises(DataError, match=r"^2 images cannot be read:\n .*red/a\.png .*\n .*red/b\.png "):
        source.prepare()


def test_files_are_looked_at_once_and_again_when_they_change(root, monkeypatch):
    ImageFolder(root, size=8).check()
    looked = []
    monkeypatch.setattr(pictures, "looked_at", lambda path: looked.append(path) or (1, 1))
    ImageFolder(root, size=16).check()
    assert not looked
    picture(root / "train" / "red" / "new.png")
    ImageFolder(root, size=8).check()
    assert root / "train" / "red" / "new.png" in looked


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
    assert list(config) == ["root", "size", "validation", "augmentation", "train_samples", "test_samples", "test_share"]
    assert vars(given) == vars(default)
