"""Sets of torchvision by name: split by their signature, converted once, refused where they are no classification."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import verify_str_arg

from poolbench.data import cache, create_data
from poolbench.data.base import DataError
from poolbench.data.torchvision import SPLITS, Torchvision, parameters

CONF = Path(__file__).parents[2] / "conf" / "data"
REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


class Made(datasets.VisionDataset):
    """Six training and four test images, grey where ``grey``; every value of an image is its index."""

    classes: object = ("cat", "dog", "owl")

    def __init__(self, root, train=True, download=False, grey=False):
        super().__init__(root)
        if not download and "absent" in str(root):
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.count, self.grey = (6 if train else 4), grey
        print("Files already downloaded and verified")

    def __len__(self):
        return self.count

    def image(self, index):
        pixels = np.full((9, 8, 3), index, np.uint8)
        return Image.fromarray(pixels[..., 0] if self.grey else pixels)

    def __getitem__(self, index):
        return self.image(index), index % 3


class Named(Made):
    """The same, with splits by name; of two of them there is none."""

    splits = ("train", "test", "extra")

    def __init__(self, root, split="train", fold=None):
        super().__init__(root, verify_str_arg(split, "split", self.splits).startswith("train"))
        self.fold = fold


class NamedOtherwise(Named):
    splits = ("trainval", "val")


class NoTest(Named):
    splits = ("train", "extra")


class PassedOn(Made):
    """As EMNIST: its split is no part, and what it hands on has that."""

    def __init__(self, root, split, **more):
        super().__init__(root, **more)
        self.split = verify_str_arg(split, "split", ("letters", "digits"))


class Differing(Made):
    def image(self, index):
        return Image.fromarray(np.full((9, 8 + (index == 3), 3), index, np.uint8))


class Boxes(Made):
    def __getitem__(self, index):
        return self.image(index), {"boxes": []}


class Videos(Made):
    def __getitem__(self, index):
        return torch.zeros(3, 9, 8), torch.zeros(1, 9), index


class Tensors(Made):
    def __getitem__(self, index):
        return torch.zeros(3, 9, 8), index


class Unlabelled(Made):
    def __getitem__(self, index):
        return self.image(index), -1


class Broken(Made):
    def __getitem__(self, index):
        if index == 2:
            raise OSError("truncated file")
        return super().__getitem__(index)


class Whole(datasets.VisionDataset):
    def __init__(self, root, download=False):
        super().__init__(root)


MADE = (Made, Named, NamedOtherwise, NoTest, PassedOn, Differing, Boxes, Videos, Tensors, Unlabelled, Broken, Whole)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, *(one.__name__ for one in MADE)))
    for one in MADE:
        monkeypatch.setattr(datasets, one.__name__, one, raising=False)


@pytest.mark.parametrize(
    ("name", "options", "called"),
    [
        ("Made", {}, ("train", "test")),
        ("Named", {"fold": 1}, ("train", "test")),
        ("NamedOtherwise", {}, ("trainval", "val")),
        ("PassedOn", {"split": "letters"}, ("train", "test")),
    ],
)
def test_the_two_parts_are_found_by_the_signature(name, options, called, capsys):
    source = Torchvision(name, options=options)
    source.check()
    images, info = source.load(0), source.info()
    assert (len(images.train_images), len(images.test_images)) == (6, 4)
    assert images.train_images[:, 4, 5, 1].tolist() == list(range(6))
    assert images.test_labels.tolist() == [0, 1, 2, 0]
    assert (info.size, info.num_classes, info.classes) == ((9, 8), 3, ("cat", "dog", "owl"))
    assert (info.train_samples, info.test_samples) == (6, 4)
    words = f"{name}: 6 training and 4 test images of 9x8, 3 classes"
    other = "" if called == ("train", "test") else f"; they are what torchvision calls {called[0]} and {called[1]}"
    assert source.notes() == [words + other]
    assert capsys.readouterr().out == ""


def test_grey_images_are_given_to_three_channels():
    images = Torchvision("Made", options={"grey": True}).load(0).train_images
    assert images.shape == (6, 9, 8, 3)
    assert bool((images == images[..., :1]).all())


def test_images_may_be_resized_and_must_where_they_differ_in_size():
    with pytest.raises(ValueError, match=r"data\.size must be .* differ in size \(9x8 and 9x9\), got null"):
        Torchvision("Differing").check()
    images = Torchvision("Differing", size=6).load(0)
    assert images.train_images.shape == (6, 6, 6, 3)
    assert images.train_images[:, 0, 0, 0].tolist() == list(range(6))


def test_it_is_converted_once_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK_BYTES", 9 * 8 * 3 * 2)
    Torchvision("Made").prepare()
    monkeypatch.setattr(Made, "__init__", lambda *_, **__: pytest.fail("opened again"))
    source = Torchvision("Made", test_samples=3)
    assert source.load(0).train_images[:, 0, 0, 0].tolist() == list(range(6))
    assert source.info().test_samples == 3


def test_what_was_converted_is_planned_without_torch(tmp_path):
    Torchvision("Made", root=str(tmp_path)).prepare()
    code = (
        "import sys; from poolbench.data.torchvision import Torchvision\n"
        f"source = Torchvision('Made', root={str(tmp_path)!r}); source.check(); source.notes()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_fingerprint_is_of_the_content(tmp_path):
    def fingerprint(name, **options):
        return Torchvision(name, **options).info().fingerprint

    first = fingerprint("Made")
    assert first == fingerprint("Made", root=str(tmp_path)) == fingerprint("Named")
    assert len({first, fingerprint("Made", size=5), fingerprint("Made", size=6)}) == 3


@pytest.mark.parametrize("classes", [None, ("one", "two")])
def test_classes_without_names_are_numbers(monkeypatch, classes):
    monkeypatch.setattr(Made, "classes", classes)
    assert Torchvision("Made").info().classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"data\.name must be the name of a set of torchvision, as SVHN, got None"),
        ({"name": "../x"}, r"data\.name must be the name of"),
        (
            {"name": "SVNH"},
            r"data\.name must be a classification set .* got 'SVNH'\. Did you mean 'SVHN'\?.* Known: CIFAR",
        ),
        ({"name": "wrap_dataset_for_transforms_v2"}, r"data\.name must be a classification set"),
        ({"name": "Whole"}, r"data\.name must be .* test set, got 'Whole', which torchvision does not split: lay"),
        ({"name": "EuroSAT"}, r"got 'EuroSAT', which torchvision does not split"),
        ({"name": "NoTest"}, r"data\.name must be .* got 'NoTest', which has none of test, val, valid"),
        ({"name": "Boxes"}, r"data\.name must be .* got 'Boxes', whose items are \(Image, dict\)"),
        ({"name": "Videos"}, r"got 'Videos', whose items are \(Tensor, Tensor, int\)"),
        ({"name": "Tensors"}, r"got 'Tensors', whose items are \(Tensor, int\)"),
        ({"name": "Unlabelled"}, r"got 'Unlabelled', which has a label of -1"),
        ({"name": "PassedOn"}, r"data\.options must give split for 'PassedOn', got \{\}"),
        ({"name": "PassedOn", "options": {"split": "x"}}, r"data\.options=.*Unknown value 'x'.* \{.*letters"),
        ({"name": "Made", "options": {"gray": True}}, r"data\.options: .* no option 'gray'.*Did you mean 'grey'\?"),
        ({"name": "Named", "options": {"split": "extra"}}, r"no option 'split' to choose.*Its options: fold"),
        ({"name": "Made", "options": {"train": True}}, r"data\.options must leave root, train, .* got 'train'"),
        ({"name": "Made", "options": 3}, r"data\.options must be a mapping of options, got 3"),
        ({"name": "Made", "size": 1}, r"data\.size must be null or a whole number of at least 2, got 1"),
        ({"name": "Made", "size": 4}, r"data\.augmentation\.crop .* images of 4x4, got 4"),
        ({"name": "Made", "augmentation": {"crop": 8}}, r"data\.augmentation\.crop .* images of 9x8, got 8"),
        ({"name": "Made", "test_samples": 5}, r"data\.test_samples must be at most the 4 test images, got 5"),
        ({"name": "Made", "download": 1}, r"data\.download must be true or false"),
    ],
)
def test_what_is_not_to_be_had_so_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Torchvision(**options).check()


def test_absent_and_damaged_sets_say_where_and_why_and_nothing_is_kept(tmp_path):
    with pytest.raises(
        DataError, match=r"Made cannot be had at data\.root='.*absent' \(data\.download is false\): Data"
    ):
        Torchvision("Made", root=str(tmp_path / "absent"), download=False).check()
    Torchvision("Made", root=str(tmp_path / "absent")).check()
    with pytest.raises(DataError, match=r"torchvision's Broken: item 2 cannot be read: truncated file"):
        Torchvision("Broken").check()
    assert [path.name for path in (tmp_path / "cache").iterdir() if "Broken" in path.name] == []


def test_it_can_be_made_by_name_although_it_has_an_option_of_that_name():
    assert create_data("torchvision", name="Made").info().num_classes == 3


@pytest.mark.parametrize("name", ["SVHN", "STL10", "GTSRB", "Food101", "DTD", "EMNIST", "KMNIST", "OxfordIIITPet"])
def test_torchvisions_own_signatures_are_understood(name):
    takes = parameters(getattr(datasets, name))
    assert not {"train", "split"}.isdisjoint(takes)
    assert "download" in takes


def test_names_of_parts_are_tried_from_the_most_usual_one_on():
    assert [names[0] for names in SPLITS.values()] == list(SPLITS)
    assert len(set(itertools.chain(*SPLITS.values()))) == 6


def test_the_yaml_shows_the_defaults():
    config = OmegaConf.to_container(OmegaConf.load(CONF / "torchvision.yaml"))
    assert config.pop("_target_") == "poolbench.data.Torchvision"
    assert config.pop("name") is None
    assert list(config) == [
        *("root", "download", "options", "size", "validation", "augmentation"),
        *("train_samples", "test_samples"),
    ]
    assert vars(Torchvision("SVHN", **config)) == vars(Torchvision("SVHN"))
    assert Torchvision("SVHN").augmentation["flip"] is False


def test_a_real_set_is_what_torchvision_reads():
    if not (REAL / "MNIST" / "raw").is_dir():
        pytest.skip("needs the real MNIST at ../shared/data/MNIST/raw")
    images = Torchvision("MNIST", root=REAL, download=False, test_samples=500).load(0)
    raw = datasets.MNIST(REAL, train=True)
    assert torch.equal(images.train_images[..., 2], raw.data)
    assert torch.equal(images.train_labels, raw.targets)
    assert images.classes == tuple(raw.classes)
    assert torch.bincount(images.test_labels).min() > 40
