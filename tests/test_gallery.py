"""The gallery shows what the pools give, of any image, and draws the same every time."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from poolbench import gallery
from poolbench.cli.main import main
from poolbench.pooling import POOLS


@pytest.mark.parametrize("name", POOLS.table)
def test_every_pool_is_shown_over_three_halvings(name):
    shown = gallery.show(name, gallery.scene(32))
    assert len(shown.steps) == 3
    for step, side in zip(shown.steps, (16, 8, 4), strict=True):
        assert step.shape[0] == 3
        assert abs(step.shape[1] - side) <= 1
        assert abs(step.shape[2] - side) <= 1
        assert step.isfinite().all()
    assert shown.gradient.shape == (32, 32)
    assert (shown.drawn is not None) == POOLS.find(name)(3).random


def test_outputs_and_gradients_are_those_of_the_pool():
    image = gallery.scene(32)
    average = gallery.show("average", image)
    torch.testing.assert_close(average.gradient, torch.full((32, 32), 0.75))  # a quarter for each channel
    torch.testing.assert_close(average.steps[2][None], F.avg_pool2d(image[None], 8))
    top = gallery.show("max", image)
    torch.testing.assert_close(top.steps[1][None], F.max_pool2d(image[None], 4))
    assert top.gradient.sum() == 3 * 16 * 16
    assert not top.learned
    assert gallery.show("leap", image).learned


def test_the_scene_has_the_extremes_that_pools_treat_differently():
    x = gallery.scene(32)
    assert x.shape == (3, 32, 32)
    assert x.min() == 0
    assert x.max() == 1
    assert not torch.equal(gallery.show("max", x).steps[0], gallery.show("subsample", x).steps[0])


@pytest.mark.parametrize(("mode", "size"), [("L", (50, 40)), ("RGBA", (32, 32)), ("P", (7, 90)), ("RGB", (640, 480))])
def test_any_image_becomes_a_square_in_colour(tmp_path, mode, size):
    Image.new(mode, size, 128 if mode in "LP" else (10, 200, 30, 255)[: len(mode)]).save(tmp_path / "x.png")
    x = gallery.load_image(tmp_path / "x.png", 48)
    assert x.shape == (3, 48, 48)
    assert 0 <= x.min() <= x.max() <= 1


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert (gallery.load_image(tmp_path / "x.png", 32) == 1).all()


def test_the_command_writes_one_figure_an_image_and_the_windows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), (200, 30, 30)).save("photo.jpg")
    assert main(["gallery", "photo.jpg", "--pools", "max,poolbench.pooling.AveragePool2d", "--output", "out"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.png", "windows.png", "windows.svg"]
    assert "photo.png" in capsys.readouterr().out
    svg = (tmp_path / "out/windows.svg").read_bytes()
    png = (tmp_path / "out/photo.png").read_bytes()
    assert main(["gallery", "photo.jpg", "--pools", "max,poolbench.pooling.AveragePool2d", "--output", "out"]) == 0
    assert (tmp_path / "out/windows.svg").read_bytes() == svg
    assert (tmp_path / "out/photo.png").read_bytes() == png


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pools", "max,avrage"], "unknown pool 'avrage'. Did you mean 'average'"),
        (["--size", "8"], "--size must be from 16 to 256, got 8"),
        (["nowhere.png"], "there is no image nowhere.png"),
        (["notes.txt"], "notes.txt is not an image that can be read"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    assert main(["gallery", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
