"""The gallery shows what the pools give, of any image, and draws the same every time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from poolbench import gallery
from poolbench.cli.main import main
from poolbench.pooling import POOLS

OF_A_USER = """
import torch
from torch import nn

class Stepped(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x, 2).detach().round()

class Wide(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], dim=1)[..., ::2, ::2]

class Choosy(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(nn.functional.pad(x, (5, 5, 5, 5), mode="reflect"), 12, 2)
"""


@pytest.fixture
def of_a_user(tmp_path, monkeypatch):
    (tmp_path / "stepped_pools.py").write_text(OF_A_USER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


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
    assert shown.gradient.isfinite().all()
    assert (shown.drawn is not None) == POOLS.find(name)(3).random
    if shown.drawn is not None:
        assert shown.drawn.shape == shown.steps[0].shape


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


def test_a_seed_gives_the_same_weights_and_draws_and_leaves_the_global_ones_alone():
    image = gallery.scene(32)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for name in ("strided_conv", "stochastic"):
        one, same, other = (gallery.show(name, image, seed) for seed in (1, 1, 2))
        if one.drawn is None:
            assert torch.equal(one.steps[0], same.steps[0])
            assert not torch.equal(one.steps[0], other.steps[0])
        else:
            assert torch.equal(one.drawn, same.drawn)
            assert not torch.equal(one.drawn, other.drawn)
    assert torch.equal(torch.rand(3), expected)


def test_the_scene_has_the_extremes_that_pools_treat_differently():
    x = gallery.scene(32)
    assert x.shape == (3, 32, 32)
    assert x.min() == 0
    assert x.max() == 1
    assert not torch.equal(gallery.show("max", x).steps[0], gallery.show("subsample", x).steps[0])


@pytest.mark.parametrize(("mode", "size"), [("L", (50, 40)), ("RGBA", (32, 32)), ("P", (7, 90)), ("RGB", (2000, 480))])
def test_any_image_becomes_a_square_in_colour(tmp_path, mode, size):
    Image.new(mode, size, 128 if mode in "LP" else (10, 200, 30, 255)[: len(mode)]).save(tmp_path / "x.png")
    x = gallery.load_image(tmp_path / "x.png", 48)
    assert x.shape == (3, 48, 48)
    assert 0 <= x.min() <= x.max() <= 1


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert (gallery.load_image(tmp_path / "x.png", 32) == 1).all()


def test_sixteen_bits_of_grey_keep_their_levels(tmp_path):
    Image.fromarray(np.full((40, 40), 2**15, dtype=np.uint16)).save(tmp_path / "x.png")
    torch.testing.assert_close(gallery.load_image(tmp_path / "x.png", 32), torch.full((3, 32, 32), 128 / 255))


def test_sixteen_bits_of_grey_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = np.zeros((40, 40), dtype=np.uint16)
    pixels[:20] = 2**15
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    x = gallery.load_image(tmp_path / "x.png", 40)
    assert (x[:, :20] == 0).all()
    assert (x[:, 20:] == 128 / 255).all()


def test_the_command_writes_one_figure_an_image_and_the_windows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), (200, 30, 30)).save("photo.jpg")
    assert main(["gallery", "photo.jpg", "--pools", "max,poolbench.pooling.AveragePool2d", "--output", "out"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.png", "windows.png", "windows.svg"]
    assert "photo.png" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main(["gallery", "photo.jpg", "--pools", "max,poolbench.pooling.AveragePool2d", "--output", "out"]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_no_figure_takes_the_place_of_an_image_or_of_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    images = ["photo.png", "windows.png", "other/photo.png"]
    for path in images:
        Image.new("RGB", (64, 64)).save(path)
    before = {path: (tmp_path / path).read_bytes() for path in images}
    assert main(["gallery", *images, "--pools", "max", "--output", "out"]) == 0
    drawn = {path.name for path in (tmp_path / "out").iterdir()}
    assert drawn == {"photo.png", "photo-2.png", "windows-2.png", "windows.png", "windows.svg"}
    assert main(["gallery", "other/photo.png", "--pools", "max", "--output", "other"]) == 0
    assert (tmp_path / "other/photo-2.png").exists()
    assert main(["gallery", "windows.png", "--pools", "max", "--output", "."]) == 2
    assert "would take the place of your image" in capsys.readouterr().err
    assert {path: (tmp_path / path).read_bytes() for path in images} == before


@pytest.mark.usefixtures("of_a_user")
def test_a_pool_of_ones_own_without_a_gradient_is_drawn_by_its_path(tmp_path):
    shown = gallery.show("stepped_pools.Stepped", gallery.scene(32))
    assert shown.gradient is None
    assert shown.drawn is None
    assert len(shown.steps) == 3
    assert main(["gallery", "--pools", "stepped_pools.Stepped"]) == 0
    assert (tmp_path / "gallery/scene.png").exists()


@pytest.mark.usefixtures("of_a_user")
def test_a_pool_that_refuses_small_maps_has_fewer_halvings(tmp_path):
    assert len(gallery.show("stepped_pools.Choosy", gallery.scene(16)).steps) == 2  # 8, then 4, whose 5 are too many
    gallery.draw_gallery(gallery.scene(16), ["stepped_pools.Choosy"], tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()


@pytest.mark.usefixtures("of_a_user")
def test_a_pool_that_gives_other_channels_is_refused_by_name(tmp_path, capsys):
    assert main(["gallery", "--pools", "max,stepped_pools.Wide"]) == 2
    assert "pool Wide makes (1, 6, 16, 16) of (1, 3, 32, 32)" in capsys.readouterr().err
    assert not (tmp_path / "gallery").exists()


def test_the_windows_show_what_each_chosen_pool_gives(tmp_path):
    names = list(POOLS.table)
    gallery.draw_windows(names, tmp_path / "all.png")
    gallery.draw_windows(names[:2], tmp_path / "two.svg")
    assert Image.open(tmp_path / "all.png").height > 1000
    text = (tmp_path / "two.svg").read_text()
    assert [part in text for part in ("<!-- 3.5 -->", "<!-- 8 -->", "<!-- average -->")] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pools", "max,avrage"], "unknown pool 'avrage'. Did you mean 'average'"),
        (["--pools", ""], "unknown pool ''"),
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


@pytest.mark.parametrize(("value", "text"), [(6.0, "6"), (3.5, "3.5"), (-0.001, "0"), (10.0, "10"), (1.456, "1.46")])
def test_numbers_are_short(value, text):
    assert gallery._short(value) == text
