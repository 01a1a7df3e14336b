"""MNIST and its kin: official files, packed or not, checksums, mirrors tried in turn, grey given to three channels."""

import functools
import gzip
import hashlib
import http.server
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision import datasets

from poolbench.data.augment import Batches
from poolbench.data.base import DataError
from poolbench.data.mnist import FASHION_MNIST_MIRRORS, MNIST, MNIST_MIRRORS, FashionMNIST

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY / ".." / "shared" / "data"
BOTH = [(MNIST, datasets.MNIST), (FashionMNIST, datasets.FashionMNIST)]
both = pytest.mark.parametrize(("source", "theirs"), BOTH, ids=["mnist", "fashion_mnist"])


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def made_up():
    """Raw files of 6 training and 4 test images."""
    rng, files = np.random.default_rng(0), {}
    for split, samples in (("train", 6), ("t10k", 4)):
        files[f"{split}-images-idx3-ubyte"] = bytes(16) + rng.integers(0, 256, samples * 784, np.uint8).tobytes()
        files[f"{split}-labels-idx1-ubyte"] = bytes(8) + bytes(range(samples))
    return files


class Tiny(MNIST):
    name, title, folder, stall = "tiny", "Tiny", "Tiny/raw", 0.5
    files: ClassVar = {name: len(content) for name, content in made_up().items()}
    checksums = tuple(hashlib.md5(content, usedforsecurity=False).hexdigest() for content in made_up().values())
    train_samples, test_samples = 6, 4


def lay_out(root, packed=()):
    folder = root / Tiny.folder
    folder.mkdir(parents=True)
    for name, content in made_up().items():
        if name in packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def is_published(images):
    raw = np.frombuffer(made_up()["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(6, 28, 28)
    return np.array_equal(images.train_images[..., 0], raw) and images.test_labels.tolist() == [0, 1, 2, 3]


@pytest.fixture
def server(tmp_path):
    """A host: /good/ has the files, /other/ well packed ones of other content, /broken/ no gzip files."""
    for name, content in made_up().items():
        for folder, sent in (
            ("good", gzip.compress(content)),
            ("other", gzip.compress(content[:-1] + b"?")),
            ("broken", content[:50]),
        ):
            path = tmp_path / "host" / folder / f"{name}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sent)

    class Host(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            self.server.asked.append(self.path)

    handler = functools.partial(Host, directory=str(tmp_path / "host"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.url = [], f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("packed", [(), tuple(Tiny.files), ("train-images-idx3-ubyte",)])
def test_files_are_read_as_they_are_or_packed(tmp_path, packed):
    folder = lay_out(tmp_path, packed)
    before = sorted(path.name for path in folder.iterdir())
    source = Tiny(tmp_path, download=False)
    source.check()
    assert is_published(source.load(0))
    assert sorted(path.name for path in folder.iterdir()) == before


def test_mirrors_are_tried_in_turn_for_each_file_that_is_absent_and_no_other(server, tmp_path):
    folder = lay_out(tmp_path / "data")
    kept = {name: (folder / name).stat().st_mtime_ns for name in list(Tiny.files)[:2]}
    for name in list(Tiny.files)[2:]:
        (folder / name).unlink()
    mirrors = [f"{server.url}/{path}" for path in ("nowhere", "broken/", "other", "good", "never")]
    source = Tiny(tmp_path / "data", mirrors=mirrors)
    source.check()
    assert is_published(source.load(0))
    assert sorted(path.name for path in folder.iterdir()) == sorted(Tiny.files)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert not any("never" in line or "train" in line for line in server.asked)


def test_when_all_mirrors_fail_each_reason_and_the_ways_out_are_told(server, tmp_path):
    mirrors = [f"{server.url}/{path}" for path in ("nowhere", "broken", "other")]
    with pytest.raises(DataError) as caught:
        Tiny(tmp_path / "data", mirrors=mirrors).prepare()
    lines = str(caught.value).splitlines()
    assert [mirror in line for mirror, line in zip(mirrors, lines[1:], strict=False)] == [True] * 3
    assert "404" in lines[1]
    assert "wrong checksum" in lines[2]
    assert "wrong checksum" in lines[3]
    for way_out in ("train-images-idx3-ubyte.gz into the folder Tiny/raw", "data.mirrors=[URL of the folder of train"):
        assert way_out in lines[4]
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_absent_files_may_be_downloaded_or_are_an_error(tmp_path):
    Tiny(tmp_path / "nowhere").check()
    with pytest.raises(DataError, match=r"Tiny is not at .*Tiny/raw and data\.download is false\. Put the"):
        Tiny(tmp_path / "nowhere", download=False).check()
    (lay_out(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"data\.download is false \(t10k-labels-idx1-ubyte\)"):
        Tiny(tmp_path, download=False).info()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("packed", [(), tuple(Tiny.files)])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, server, packed):
    damaged = lay_out(tmp_path, packed) / f"train-labels-idx1-ubyte{'.gz' if packed else ''}"
    content = made_up()["train-labels-idx1-ubyte"][:-1] + b"?"
    damaged.write_bytes(gzip.compress(content) if packed else content)
    for _ in range(2):
        with pytest.raises(DataError, match=r"damaged \(wrong checksum\): .*train-labels\S+\. Nothing was changed"):
            Tiny(tmp_path, mirrors=[f"{server.url}/good"]).load(0)
        damaged.write_bytes(damaged.read_bytes()[:-3])  # and no end
        if not packed:
            break
    assert server.asked == []


def test_a_file_cut_short_is_found_without_reading_it(tmp_path):
    path = lay_out(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is cut short \(1000 bytes\)"):
        Tiny(tmp_path).check()


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(tmp_path):
    name = "t10k-labels-idx1-ubyte"
    (lay_out(tmp_path, [name]) / f"{name}.gz").write_bytes(gzip.compress(bytes(100_000_000)))
    with pytest.raises(DataError, match=r"damaged"):
        Tiny(tmp_path).load(0)


@both
def test_names_agree_with_torchvision(source, theirs):
    assert [f"{name}.gz" for name in source.files] == [name for name, _ in theirs.resources]
    assert Path(source.folder).parts[0] == theirs.__name__
    assert len(set(source.checksums)) == 4
    assert source.checksums[0].startswith(source.fingerprint)
    mine = [name.lower() for name in source.classes]
    assert [name.split(" - ")[0].lower() for name in theirs.classes] == mine


def test_mirrors_are_distinct_and_secure():
    for mirrors in (MNIST_MIRRORS, FASHION_MNIST_MIRRORS):
        assert len(set(mirrors)) == len(mirrors) > 1
        assert all(url.startswith("https://") for url in mirrors)


@both
def test_the_yaml_shows_the_defaults(source, theirs):
    config = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "conf" / "data" / f"{source.name}.yaml"))
    assert config.pop("_target_") == f"poolbench.data.{source.__name__}"
    assert list(config) == [
        *("root", "download", "mirrors", "validation", "augmentation"),
        *("train_samples", "test_samples"),
    ]
    assert vars(source(**config)) == vars(source())
    assert source().info().num_classes == len(set(source.classes)) == 10
    assert source().info().size == (28, 28)


def test_digits_are_not_mirrored_and_clothes_are():
    assert MNIST().augmentation == {"flip": False, "crop": 2, "cutout": 0}
    assert FashionMNIST().augmentation["flip"] is True


def test_no_digit_of_a_batch_is_mirrored(tmp_path):
    lay_out(tmp_path)
    source = Tiny(tmp_path, augmentation={**MNIST().augmentation, "crop": 0})
    images = source.load(0)
    batches = Batches(images.train_images, images.train_labels, 6, images.mean, images.std, source.augmentation)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    x, _, which = next(batches.epoch(*generators))
    pixels = images.train_images[which].permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.mean, images.std))
    torch.testing.assert_close(x, ((pixels - mean) / std).float(), atol=1e-4, rtol=1e-4)


@both
def test_the_real_files_are_what_torchvision_reads(tmp_path, source, theirs):
    if not (REAL / source.folder).is_dir():
        pytest.skip(f"needs the real {source.title} at ../shared/data/{source.folder}")
    mine = source(root=REAL, download=False)
    images = mine.load(0)
    for train, pixels, labels in (
        (True, images.train_images, images.train_labels),
        (False, images.test_images, images.test_labels),
    ):
        raw = theirs(REAL, train=train)
        assert torch.equal(labels, raw.targets)
        assert all(torch.equal(pixels[..., channel], raw.data) for channel in range(3))
    assert (len(images.train_images), len(images.test_images)) == (60_000, 10_000)
    assert np.ptp(images.mean) < 1e-12
    assert np.ptp(images.std) < 1e-12
    part = source(root=REAL, download=False, test_samples=1000).load(0)
    assert (torch.bincount(part.test_labels) / 1000 - torch.bincount(images.test_labels) / 10_000).abs().max() <= 0.001


def test_one_real_file_packed_is_the_same_set(tmp_path):
    if not (REAL / MNIST.folder).is_dir():
        pytest.skip(f"needs the real MNIST at ../shared/data/{MNIST.folder}")
    folder = tmp_path / MNIST.folder
    folder.mkdir(parents=True)
    for name in MNIST.files:
        if "labels" in name:
            (folder / f"{name}.gz").write_bytes(gzip.compress((REAL / MNIST.folder / name).read_bytes()))
        else:
            shutil.copy(REAL / MNIST.folder / name, folder / name)
    labels = MNIST(root=tmp_path, download=False).build()["train_labels"]
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
