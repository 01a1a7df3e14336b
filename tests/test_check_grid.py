"""The script that trains every combination for one step finds what cannot be trained."""

import sys
from pathlib import Path

import pytest
import torch

from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import check_grid
from check_grid import Cell

FEW = ["--models", "convnet", "--pools", "max,lp", "--heads", "global_average,flatten", "--workers", "0"]


def test_pairs_and_the_full_grid_hold_every_name():
    pairs, full = check_grid.grid(full=False), check_grid.grid(full=True)
    for cells in (pairs, full):
        assert len(set(cells)) == len(cells)
        assert {cell.model for cell in cells} == set(MODELS.table)
        assert {cell.pool for cell in cells} == {*POOLS.table, "native"}
        assert {cell.head for cell in cells} == {*HEADS.table, "native"}
    assert set(pairs) <= set(full)
    small = [cell for cell in full if not cell.preset and cell.variant == 0]
    assert len(small) == len(MODELS.table) * len(POOLS.table) * (len(HEADS.table) + 1)
    assert Cell("convnet", preset="convnet_small") in pairs


def test_what_can_be_trained_is_counted(capsys):
    assert check_grid.main(FEW) == 0
    assert "4 combinations, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_names_choose_presets_too_and_processes_do_the_same(workers, capsys):
    arguments = ["--models", "convnet_small", "--workers", str(workers)]
    assert check_grid.main(arguments) == 0
    assert "1 combinations, 0 failed" in capsys.readouterr().out


def test_a_combination_that_fails_does_not_stop_the_others(capsys, monkeypatch):
    monkeypatch.setattr(HEADS.find("flatten"), "forward", lambda self, x: 1 / 0)
    assert check_grid.main(FEW) == 1
    text = capsys.readouterr().out
    assert "4 combinations, 2 failed" in text
    failed = ["  model=convnet pool=lp head=flatten", "  model=convnet pool=max head=flatten"]
    assert text.splitlines()[-3:] == ["ZeroDivisionError: division by zero", *failed]


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda self, x: self.classifier(x.mean((2, 3))) * torch.inf, "a loss of"),
        (lambda self, x: self.classifier(x.mean((2, 3)))[:, :3], "logits of shape|out of bounds|Target"),
        (lambda self, x: self.classifier(x.mean((2, 3)).detach()), "no gradient reaches the trunk"),
        (lambda self, x: self.classifier((x * 0).sqrt().mean((2, 3))), "a gradient is not finite"),
    ],
    ids=["infinite", "too few", "detached", "root of zero"],
)
def test_what_is_wrong_is_told(forward, words, monkeypatch):
    monkeypatch.setattr(HEADS.find("global_max"), "forward", forward)
    assert any(word in check_grid.train_one_step(Cell("convnet", "max", "global_max")) for word in words.split("|"))


def test_a_combination_that_needs_larger_images_gets_them():
    assert check_grid.train_one_step(Cell("vgg", "max", "bilinear")) == ""  # of one pixel there is no covariance
    error = check_grid.train_one_step(Cell("all_cnn", "max", "unknown"))
    assert error.startswith("ValueError: unknown head")
