"""Loading a record builds what it names, and only what is trusted."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import poolbench
from tests.commands import run_poolbench


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small finished record, made by the real command, once."""
    place = tmp_path_factory.mktemp("made")
    cell = ["data.train_samples=60", "data.test_samples=20", "trainer.epochs=1", "trainer.batch_size=20"]
    done = run_poolbench(place, "run", "model=convnet_small", *cell)
    assert done.returncode == 0, done.stderr
    (folder,) = (place / "runs").iterdir()
    return folder


@pytest.fixture
def record(made, tmp_path):
    """A copy of it, to be changed at will."""
    return shutil.copytree(made, tmp_path / "runs" / made.name)


def test_a_record_that_names_other_code_is_refused_and_nothing_of_it_runs(record, tmp_path):
    config = yaml.safe_load((record / "config.yaml").read_text())
    harmless = tmp_path / "was_run"
    config["pool"] = {"_target_": "os.mkdir", "path": str(harmless)}
    (record / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=r"os\.mkdir.*trust"):
        poolbench.load(record)
    assert not harmless.exists()


def test_a_record_is_found_by_name_and_names_its_classes(record, monkeypatch):
    monkeypatch.chdir(record.parents[1])
    trained = poolbench.load("max-convnet_small-shapes")
    assert len(trained.classes) == 10
    assert not trained.model.training
    assert trained.config["run_id"] == json.loads((record / "result.json").read_text())["run_id"]
    with pytest.raises(ValueError, match="there is no record 'average'"):
        poolbench.load("average")


def test_pil_images_are_read_as_a_data_set_reads_files(record):
    transform = poolbench.load(record).transform
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = transform(pixels)
    assert expected.shape == (1, 3, 32, 32)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = Image.fromarray(np.rot90(pixels, 2).copy())
    turned.getexif().update(exif)
    assert torch.equal(transform(turned), expected)
    assert torch.equal(transform([turned, turned]), expected.repeat(2, 1, 1, 1))
    assert torch.equal(transform(Image.new("L", (90, 64), 7)), transform(np.full((32, 32, 3), 7, np.uint8)))
    assert transform(np.zeros((40, 40, 3), np.uint8)).shape == (1, 3, 40, 40)  # pixels are taken as they are
